"""The text of a page that lists papers: a title on a line, a blank line, the abstract, a blank line, and so on.

A block of one line of at most 250 characters that does not end a sentence is a title, any other block is a paragraph of
the last title's abstract. A title that no abstract follows (a day, a heading) is told as rejected.
"""

from __future__ import annotations

from collections.abc import Iterator

from lodim.catalog.feed.readers.entries import Rejected, record_or_reason
from lodim.catalog.feed.records import Record

__all__ = ["read_plain"]

LONGEST_TITLE = 250


def _blocks(text: str) -> Iterator[tuple[int, list[str]]]:
    """Give blocks of lines that are not blank, with the number of their first line."""
    block: list[str] = []
    start = 1
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if line.strip():
            start = start if block else number
            block.append(line.strip())
        elif block:
            yield start, block
            block = []


def read_plain(text: str, source: str) -> Iterator[Record | Rejected]:
    """Read titles and abstracts."""
    title, at, abstract = "", 0, list[str]()
    for number, block in _blocks(text):
        if len(block) == 1 and len(block[0]) <= LONGEST_TITLE and not block[0].endswith((".", "…", '."')):
            yield from _entry(title, at, abstract, source)
            title, at, abstract = block[0], number, []
        elif title:
            abstract.append(" ".join(block))
        else:
            yield Rejected(f"line {number}", f"text without a title before it: {block[0][:60]!r}")
    yield from _entry(title, at, abstract, source)


def _entry(title: str, at: int, abstract: list[str], source: str) -> Iterator[Record | Rejected]:
    if title and abstract:
        yield record_or_reason(f"line {at}", title=title, abstract="\n\n".join(abstract), source=source)
    elif title:
        yield Rejected(f"line {at}", f"no abstract follows {title[:60]!r}")
