"""Files that are whole or not there, and that know when they have been damaged.

A file is written beside its place, flushed to the disk and moved there, so that a kill, a full disk or an error leaves
the former file or the new one, never a part. What lodim reads back by itself (stores, checkpoints, vectors) is sealed:
the last bytes are a checksum of all before them. The formats inside end where they end, so a sealed file can still be
read by the library that wrote it.
"""

from __future__ import annotations

import glob
import hashlib
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

__all__ = ["DamagedFileError", "UnsealedFileError", "open_whole", "read_sealed", "write_whole"]

_MARK = b"\nlodim-seal-1\n"
_DIGEST_BYTES = 32
_HOST = hashlib.blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()


class DamagedFileError(ValueError):
    """A sealed file holds other bytes than were written, or was never sealed."""


class UnsealedFileError(DamagedFileError):
    """There is no seal at the end: it was cut off, or there never was one."""


@contextmanager
def open_whole(
    path: str | os.PathLike[str], *, private: bool = False, sealed: bool = False
) -> Iterator[IO[bytes]]:
    """Open a file for writing that takes its place when the block ends, or never.

    Parameters
    ----------
    path : path
        A link is followed. A device or a pipe (``/dev/stdout``) is written to as it is.
    private : bool
        Readable by its owner only; otherwise it has the permissions of the former file, or of any new one.
    sealed : bool
        For :func:`read_sealed`.

    Yields
    ------
    file
        Binary, for writing and reading, at its start.

    Raises
    ------
    OSError
        The system's own error; the former file is left as it was, and no other stays behind.
    """
    place = Path(os.path.realpath(path))
    if place.exists() and not place.is_file():
        with place.open("wb") as device:
            yield device
        return
    _remove_orphans(place)
    part = place.with_name(f".{place.name[:100]}.{_HOST}-{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666)
        with os.fdopen(descriptor, "w+b") as file:
            if not private and place.exists():
                shutil.copymode(place, part)
            yield file
            if sealed:
                file.seek(0)
                digest = hashlib.file_digest(file, _hash)
                file.seek(0, os.SEEK_END)
                file.write(_MARK + digest.digest())
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, place)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _flush_folder(place.parent)


def write_whole(
    path: str | os.PathLike[str], content: str | bytes, *, private: bool = False, sealed: bool = False
) -> None:
    """Write text (UTF-8) or bytes as :func:`open_whole` does."""
    with open_whole(path, private=private, sealed=sealed) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def read_sealed(path: str | os.PathLike[str]) -> memoryview:
    """Return what was written with ``sealed=True``, without the seal.

    Raises
    ------
    DamagedFileError
        A changed, truncated or foreign file; UnsealedFileError where the seal itself is missing.
    OSError
        The system's own, as for any file that cannot be read.
    """
    data = memoryview(Path(path).read_bytes())
    end = len(data) - len(_MARK) - _DIGEST_BYTES
    if end < 0 or data[end : end + len(_MARK)] != _MARK:
        raise UnsealedFileError(
            f"{Path(path).name} is truncated, or was not written by this version of lodim"
        )
    if _hash(data[:end]).digest() != data[end + len(_MARK) :]:
        raise DamagedFileError(f"{Path(path).name} is damaged: its checksum does not fit its contents")
    return data[:end]


def _hash(data: bytes | memoryview = b"") -> hashlib.blake2b:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES)


def _flush_folder(folder: Path) -> None:
    """Make the new name survive a power cut, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_orphans(place: Path) -> None:
    """Remove what a killed process of this machine has left of an earlier attempt."""
    if os.name != "posix":
        return
    for part in place.parent.glob(f".{glob.escape(place.name[:100])}.{_HOST}-*.part"):
        pid = part.name.rpartition(f".{_HOST}-")[2].partition("-")[0]
        if pid.isdigit() and not _is_alive(int(pid)):
            part.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
