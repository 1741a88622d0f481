"""Search by meaning, made ready in the background: loading the encoder takes seconds, pages do not wait for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

__all__ = ["Meaning"]

_log = logging.getLogger("lodim.web")


class Meaning:
    """Whether searches may compare by meaning yet.

    Attributes
    ----------
    state : {"off", "loading", "ready"}
    """

    def __init__(self) -> None:
        self.state = "off"

    def start(self, then: Callable[[], None] | None = None) -> None:
        """Load the encoder in the background if the extra ``semantic`` is installed.

        Parameters
        ----------
        then : callable, optional
            Called when it is ready.
        """
        from lodim.catalog.semantic import semantic_available

        if self.state == "ready" and then is not None:
            then()
        if self.state == "off" and semantic_available():
            self.state = "loading"
            threading.Thread(target=self._load, args=(then,), name="lodim-meaning", daemon=True).start()

    def _load(self, then: Callable[[], None] | None) -> None:
        try:
            from lodim.catalog.semantic import ranked_by_meaning

            ranked_by_meaning("intrinsic dimension")
            self.state = "ready"
            if then is not None:
                then()
        except Exception as error:  # a search by words is better than none; the page says which it was
            self.state = "off"
            _log.warning("search by meaning is not available: %s: %s", type(error).__name__, error)

    @property
    def mode(self) -> str:
        """How to search now: ``"auto"`` or ``"lexical"``."""
        return "auto" if self.state == "ready" else "lexical"

    @property
    def said(self) -> str:
        """What a page says of it."""
        return {
            "ready": "search by words and meaning",
            "loading": "lexical search; search by meaning is getting ready",
            "off": "lexical search",
        }[self.state]
