"""Results kept in a folder, that are never those of another job and never damaged ones: :class:`ResultStore`."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

from lodim.files import DamagedFileError, open_whole, read_sealed
from lodim.identity import content_hash
from lodim.validation import warn

from .outcome import Outcome


class ResultStore:
    """Finished results as one sealed file a key in a folder, each written whole or not at all.

    A file that is damaged, of another key or version, or that no longer loads counts as absent, and results that cannot
    be written are not kept: either is said in a warning, once a kind of fault for each call of :func:`run_jobs`. The
    folder is created if it does not exist. It holds pickles: point it only at folders you trust.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._said: set[str] = set()

    def forget_said(self) -> None:
        """Say each kind of fault anew."""
        self._said.clear()

    def _path(self, digest: str) -> Path:
        return self.folder / f"{digest}.pkl"

    def _say(self, kind: str, text: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            warn(text, RuntimeWarning, stacklevel=4)

    def get(self, key: object) -> Outcome[Any] | None:
        """Return the stored outcome of ``key``, or None if there is none that can be used.

        ``key`` is identified by its content (:func:`lodim.identity.content_hash`); a TypeError if it has none.
        """
        return self.find(content_hash(key))

    def find(self, digest: str) -> Outcome[Any] | None:
        """As :meth:`get`, with the key's content hash."""
        path = self._path(digest)
        try:
            data = read_sealed(path)
            if data[: len(digest)] != digest.encode():
                raise DamagedFileError(f"{path.name} holds the result of another key")
        except FileNotFoundError:
            return None
        except (DamagedFileError, OSError) as error:
            self._say("read", f"a stored result cannot be used, so it is computed again: {error}")
            return None
        try:  # the bytes are those that were written, so what goes wrong now is a class that has changed or gone
            return Outcome(pickle.loads(data[len(digest) :]), cached=True)
        except Exception as error:
            self._say(
                "load",
                f"a stored result no longer loads, so it is computed again: {path.name} ({_short(error)})",
            )
            return None

    def put(self, key: object, value: Any) -> None:
        """Store the value of ``key``; if that fails, say so and go on without."""
        self.keep(content_hash(key), value)

    def keep(self, digest: str, value: Any) -> None:
        """As :meth:`put`, with the key's content hash."""
        try:
            with open_whole(self._path(digest), sealed=True) as file:
                file.write(digest.encode())
                pickle.dump(value, file, pickle.HIGHEST_PROTOCOL)
        except Exception as error:  # whatever a value raises when it is pickled
            self._say("write", f"results cannot be stored: {_short(error)}")


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
