"""What feeds in XML have in common: parsing that expands nothing, and the text that a reader would see.

Document types and entities are refused before anything is expanded, so a small file cannot become a large one and no
file or address is read on its behalf.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

from lodim.catalog.feed.libraries import optional

__all__ = ["parse", "text_of", "visible"]

# what is written as HTML, and not "a<b" of a formula
_TAGS = (
    "a abbr b blockquote br code dd div dl dt em h[1-6] hr i img li ol p pre q s script small span strong style sub "
    "sup table td th tr u ul"
)
_MARKED = re.compile(
    rf"</?(?:{_TAGS.replace(' ', '|')})(?:\s[^<>]*)?/?>|&(?:\w{{2,31}}|#\d{{1,7}}|#x[0-9a-f]{{1,6}});",
    re.IGNORECASE,
)


def parse(data: bytes) -> Any:
    """Return the root element of an XML file."""
    refused = optional("defusedxml.common").DefusedXmlException
    xml = optional("defusedxml.ElementTree")
    try:
        return xml.fromstring(data, forbid_dtd=True)
    except refused as error:
        raise ValueError("it declares a document type or entities, which a feed does not need") from error
    except (xml.ParseError, LookupError, ValueError) as error:
        raise ValueError(f"not well-formed XML: {error}") from error


def text_of(element: Any) -> str:
    """Return all text inside an element, nothing for None."""
    return "" if element is None else "".join(element.itertext())


def visible(text: str, *, surely: bool = True) -> str:
    """Return of HTML what a reader would see; unless it is ``surely`` HTML, text without known tags and references is
    left as it is.
    """
    if not surely and not _MARKED.search(text):
        return text
    shown = _Visible()
    shown.feed(text)
    shown.close()
    return "".join(shown.parts)


class _Visible(HTMLParser):
    """Gathers the text of HTML."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._hidden += tag in ("script", "style")
        if tag in ("p", "br", "div", "li"):
            self.parts.append("\n\n" if tag == "p" else "\n")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style") and self._hidden > 0

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)
