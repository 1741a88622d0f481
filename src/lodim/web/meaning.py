"""Search by meaning, made ready in the background: loading the encoder takes seconds, pages do not wait for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

__all__ = ["Meaning"]

_log = logging.getLogger("lodim.web")


class Meaning:
    """Whether searches may compare by meaning yet: ``state`` is "off", "loading" or "ready"."""

    def __init__(self) -> None:
        self.state = "off"
        self._then: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def start(self, then: Callable[[], None] | None = None) -> None:
        """Load the encoder in the background if the extra ``semantic`` is installed.

        When it is ready, ``then`` is called: that of every call, also of those made while it is loading.
        """
        from lodim.catalog.semantic import semantic_available

        if not semantic_available():
            return
        with self._lock:
            ready, begins = self.state == "ready", self.state == "off"
            if begins:
                self.state = "loading"
            if then is not None and not ready:
                self._then.append(then)
        if begins:
            threading.Thread(target=self._load, name="lodim-meaning", daemon=True).start()
        if ready and then is not None:
            then()

    def _load(self) -> None:
        try:
            from lodim.catalog.semantic import ranked_by_meaning

            ranked_by_meaning("intrinsic dimension")
            with self._lock:
                self.state, called = "ready", self._then
                self._then = []
            for then in called:
                then()
        except Exception as error:  # a search by words is better than none; the page says which it was
            with self._lock:
                self.state, self._then = "off", []
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
