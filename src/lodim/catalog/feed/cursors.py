"""Where a page ends: an opaque text that holds the moment of the list and the place of its last paper.

The moment travels with the cursor, so that scores do not drift between pages: a list read to its end shows every paper
once, whatever came in meanwhile.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

from lodim.catalog.feed.records import EntryError, read_date

__all__ = ["Cursor", "digest_of"]


def digest_of(*options: Any) -> str:
    """Return a short hash of what defines a list."""
    return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Cursor:
    """A place in a list: a hash of what defines the list, the moment at which its scores are taken, and score, date and
    number of the last paper shown.
    """

    options: str
    now: str
    score: float
    listed: str
    id: int

    @property
    def place(self) -> tuple[float, str, int]:
        """What papers are compared by; later in the list is smaller."""
        return self.score, self.listed, self.id

    def pack(self) -> str:
        """Return it as text for an address."""
        plain = json.dumps([self.options, self.now, self.score, self.listed, self.id], separators=(",", ":"))
        return base64.urlsafe_b64encode(plain.encode()).decode().rstrip("=")

    @classmethod
    def unpack(cls, text: str, options: str) -> Cursor:
        """Read a cursor of the list with this hash; one that no list has given, or that is another list's, raises a
        ValueError.
        """
        try:
            padded = text.encode("ascii") + b"=" * (-len(text) % 4)
            found = cls(*json.loads(base64.b64decode(padded, altchars=b"-_", validate=True)))
            texts, numbers = (found.options, found.now, found.listed), (type(found.score), type(found.id))
            if not all(isinstance(text, str) for text in texts) or numbers not in ((float, int), (int, int)):
                raise TypeError("fields of other types")
            if not math.isfinite(found.score) or not read_date(found.now)[0] or abs(found.id) >= 2**63:
                raise ValueError("values out of range")
        except (binascii.Error, ValueError, TypeError, EntryError, RecursionError, OverflowError) as error:
            raise ValueError(f"{text[:40]!r} is not a cursor that a list has given") from error
        if found.options != options:
            raise ValueError("the cursor belongs to a list with other options; start without it")
        return found
