"""Sentence vectors of new papers, computed beside a server.

One thread computes the missing vectors a few at a time and rests after each few for as long as they took, so that
pages keep at least half a core. What it has kept stays: after a stop or an error it goes on with what is missing.
"""

from __future__ import annotations

import logging
import threading
import time

from lodim.catalog.feed.catalog import Catalog

__all__ = ["Filler"]

AT_ONCE = 4  # papers, about a second
LOOK_EVERY = 10.0  # seconds
RETRY_AFTER = 60.0
STOP_WITHIN = 5.0
PATIENCE = 2.0  # seconds for another writer: less than that, and it is tried again anyway
_log = logging.getLogger("lodim.catalog")


class Filler:
    """Gives papers their vectors while it runs, looking for new ones every ``look_every`` seconds and going on
    ``retry_after`` seconds after an error.
    """

    def __init__(
        self, catalog: Catalog, *, look_every: float = LOOK_EVERY, retry_after: float = RETRY_AFTER
    ) -> None:
        self._catalog, self._waits = catalog, (look_every, retry_after)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lodim-vectors", daemon=True)
        self._lock = threading.Lock()
        self._looked_through = False

    def start(self) -> None:
        """Begin, unless it has begun or was stopped."""
        with self._lock:
            if self._thread.ident is None and not self._end.is_set():
                self._thread.start()

    def stop(self) -> None:
        """End; the few papers that are being worked on are kept if they come first."""
        with self._lock:
            self._end.set()
        if self._thread.ident is not None:
            self._thread.join(STOP_WITHIN)

    def _some(self) -> int:
        """Compute a few vectors, which are not kept if it was stopped meanwhile; return how many."""
        from lodim.catalog.feed.vectors import Vectors

        vectors = Vectors(self._catalog.store, self._catalog.encoder)
        if not self._looked_through:
            if damaged := vectors.drop_damaged(patience=PATIENCE):
                _log.warning("%d damaged sentence vectors of papers are computed again", damaged)
            self._looked_through = True
        return vectors.fill(AT_ONCE, patience=PATIENCE, stopped=self._end.is_set)

    def _run(self) -> None:
        look_every, retry_after = self._waits
        told = ""
        while not self._end.is_set():
            began = time.monotonic()
            try:
                done = self._some()
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
                if said != told:  # once, not every minute
                    _log.warning("sentence vectors of papers are not computed for now: %s", said)
                told, rest = said, retry_after
            else:
                told, rest = "", time.monotonic() - began if done else look_every
            self._end.wait(rest)
