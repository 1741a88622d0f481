r"""BibTeX files: ``bibtexparser`` reads the entries, accents and commands become Unicode, formulas stay as they are.

Any type of entry is taken and kept by name. An entry with an error in its syntax is rejected with its line; a key used
twice is no error here, since papers are told apart by what they are.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from lodim.catalog.feed.libraries import optional
from lodim.catalog.feed.readers.entries import Rejected, record_or_reason
from lodim.catalog.feed.records import Record

__all__ = ["read_bibtex"]

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def read_bibtex(text: str, source: str) -> Iterator[Record | Rejected]:
    """Read a file's entries."""
    bibtex = optional("bibtexparser")
    logging.getLogger("bibtexparser").addHandler(
        logging.NullHandler()
    )  # what it would print is in the report
    model = bibtex.model
    blocks = []
    for number, block in enumerate(bibtex.parse_string(text, parse_stack=[]).blocks):
        if isinstance(block, model.DuplicateBlockKeyBlock):
            block = block.ignore_error_block
        if isinstance(block, model.Entry):
            block.key = str(number)
        blocks.append(block)
    library = bibtex.Library(blocks)
    for step in optional("bibtexparser.middlewares.parsestack").default_parse_stack():
        library = step.transform(library)
    for block in library.blocks:
        place = f"line {(block.start_line or 0) + 1}"
        if isinstance(block, model.Entry):
            yield _record(block, place, source)
        elif isinstance(block, model.ParsingFailedBlock) and not hasattr(block, "key"):
            yield Rejected(place, f"not BibTeX: {_why(block)}")


def _why(block: Any) -> str:
    if type(block).__name__ == "DuplicateFieldKeyBlock":
        return f"fields given twice: {', '.join(sorted(block.duplicate_keys))}"
    said = str(getattr(block.error, "abort_reason", "") or block.error).strip()
    return said.splitlines()[0] if said else "the entry is not closed"


def _record(entry: Any, place: str, source: str) -> Record | Rejected:
    fields = {field.key.lower(): str(field.value) for field in entry.fields}
    archive = fields.get("archiveprefix", fields.get("eprinttype", "arxiv")).lower()
    eprint = fields.get("eprint") if archive == "arxiv" else None
    notes = [fields.get(name, "") for name in ("journal", "note", "number", "howpublished")]
    mentioned = next((note for note in notes if re.search(r"arxiv[:.]", note, re.IGNORECASE)), None)
    return record_or_reason(
        place,
        title=latex_text(fields.get("title", "")),
        abstract=latex_text(fields.get("abstract", "")),
        authors=_authors(fields.get("author") or fields.get("editor") or ""),
        arxiv=eprint or mentioned,
        doi=latex_text(fields.get("doi", "")),
        url=latex_text(fields.get("url", "")),
        venue=latex_text(
            fields.get("journal") or fields.get("booktitle") or fields.get("journaltitle") or ""
        ),
        published=fields.get("date", "").split("/")[0].strip() or _date(fields),
        tags=re.split(r"[,;]", latex_text(fields.get("keywords", ""))),
        kind=entry.entry_type,
        source=source,
    )


def _date(fields: dict[str, str]) -> str | None:
    """Return year and, if it is one, month."""
    year = re.search(r"\b\d{4}\b", fields.get("year", ""))
    if year is None:
        return fields.get("year", "").strip() or None
    month = fields.get("month", "").strip().lower()
    number = _MONTHS.index(month[:3]) + 1 if month[:3] in _MONTHS else int(month) if month.isdecimal() else 0
    return f"{year[0]}-{number:02}" if 1 <= number <= 12 else year[0]


def _authors(text: str) -> list[str]:
    """Return names, first name first."""
    names = optional("bibtexparser.middlewares.names")
    people = names.split_multiple_persons_names(" ".join(text.split()))
    return [_name(person) for person in people if person.strip().lower() != "others"]


def _name(person: str) -> str:
    parts = [latex_text(part) for part in _outside_braces(person)]
    if len(parts) == 1:
        return parts[0]
    last, *middle, first = parts  # "Last, First" or "Last, Jr, First"
    return " ".join(part for part in (first, last, *middle) if part)


def _outside_braces(text: str) -> list[str]:
    """Split at commas that no brace encloses."""
    parts, depth = [""], 0
    for ch in text:
        depth += (ch == "{") - (ch == "}")
        if ch == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += ch
    return parts


@lru_cache(maxsize=1)
def _decoder() -> Any:
    logging.getLogger("pylatexenc").addHandler(logging.NullHandler())
    return optional("pylatexenc.latex2text").LatexNodes2Text(math_mode="verbatim")


def latex_text(text: str) -> str:
    """Return LaTeX as Unicode text; what stands between dollars, or cannot be decoded, is left as it is."""
    if not re.search(r"[\\{}~%&]|--|``|''", text):
        return text
    parts = re.split(r"((?<!\\)\$[^$]*\$)", text)
    return "".join(part if i % 2 else _decoded(part) for i, part in enumerate(parts))


def _decoded(text: str) -> str:
    """Return LaTeX without formulas as text."""
    text = re.sub(r"\\textasciicircum(\{\}|\s|$)", "^", text)  # the decoder gives a modifier letter for it
    safe = re.sub(r"(?<!\\)([%&#])", r"\\\1", text)  # meant as characters here, not as comment or column
    lead, trail = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    try:
        plain = str(_decoder().latex_to_text(safe)).strip()
    except Exception:  # the decoder fails in many ways at commands without their arguments
        return text
    if plain.count("%s") > text.count("%s"):  # its pattern for a command, where the arguments should be
        return text
    return f"{lead}{plain}{trail}".replace("\u00a0", " ")
