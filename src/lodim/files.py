"""Files that are whole or not there, and that know when they have been damaged.

A file is written beside its place, flushed to the disk and moved there, so that a kill, a full disk or an error leaves
the former file or the new one, never a part. What lodim reads back by itself (stores, checkpoints, vectors) is sealed:
the last bytes are a checksum of all before them. The formats inside end where they end, so a sealed file can still be
read by the library that wrote it.

What is being written is locked, and the system lets go of the lock when a process dies, however it dies. So the next
one that writes to the same place knows an orphan from a file that another process is at, on any machine.
"""

from __future__ import annotations

import errno
import hashlib
import io
import itertools
import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # no such locks here: orphans stay
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "DamagedFileError",
    "UnsealedFileError",
    "check_archive",
    "open_whole",
    "read_sealed",
    "write_whole",
]

_MARK = b"\nlodim-seal-1\n"
_DIGEST_BYTES = 32
_SEAL_BYTES = len(_MARK) + _DIGEST_BYTES
_LONGEST = 200  # bytes of a name; 255 are allowed, and some are added
_BLOCK = 1 << 20
_ZIP_END_BYTES = 22  # of an archive's last record, without a comment
_ENDING = ".part"
_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_NOT_HERE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY)
NO_ROOM = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


class DamagedFileError(ValueError):
    """A sealed file holds other bytes than were written, or was never sealed."""


class UnsealedFileError(DamagedFileError):
    """There is no seal at the end: it was cut off, or there never was one."""


@contextmanager
def open_whole(
    path: str | os.PathLike[str], *, private: bool = False, sealed: bool = False, new: bool = False
) -> Iterator[IO[bytes]]:
    """Open a file for writing that takes its place when the block ends, or never.

    Parameters
    ----------
    path : path
        A link is followed. A device, a pipe, or what this process has as its standard output (``/dev/stdout``) cannot
        be replaced: it gets all at once when the block ends.
    private : bool
        Readable by its owner only; otherwise it has the permissions of the former file, or of any new one.
    sealed : bool
        For :func:`read_sealed` and :func:`check_archive`.
    new : bool
        Never take the place of a file that is there by then.

    Yields
    ------
    file
        Binary, for writing and reading, at its start. Its ``name``, if it has one, is where it is being written.

    Raises
    ------
    FileExistsError
        There is a file, and it was to be ``new``; nothing is changed.
    OSError
        The system's own error, which names ``path``; the former file is left as it was, and no other stays behind.
    """
    if not os.path.basename(os.fspath(path)):  # "results/": a file called "results" is not what was meant
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    place = Path(os.path.realpath(path))
    try:
        former = os.stat(path)
    except FileNotFoundError:
        former = None
    device = None if former is None else _open_device(path, former)
    if device is not None:
        with _named(path), device, io.BytesIO() as buffer:
            yield buffer
            _finish(buffer, sealed)
            device.write(buffer.getbuffer())
        return
    if former is not None and not os.access(place, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
    with _named(path):
        part, descriptor = _create_part(place, 0o600 if private else 0o666)
        with open(part, "w+b", opener=lambda *_: descriptor) as file:
            try:
                if former is not None and not private:
                    _keep_rights(part, former)
                yield file
                _finish(file, sealed)
                os.fsync(file.fileno())
                if fcntl is None:  # Windows moves no file that is open
                    file.close()
                if new:
                    os.link(part, place)
                    part.unlink()
                else:
                    os.replace(part, place)
            except BaseException:
                _discard(part, file)
                raise
    _flush_folder(place.parent)


def write_whole(
    path: str | os.PathLike[str],
    content: str | bytes,
    *,
    private: bool = False,
    sealed: bool = False,
    new: bool = False,
) -> None:
    """Write text (UTF-8) or bytes as :func:`open_whole` does."""
    data = content.encode() if isinstance(content, str) else content
    with open_whole(path, private=private, sealed=sealed, new=new) as file:
        file.write(data)


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
    end = len(data) - _SEAL_BYTES
    if end < 0 or data[end : end + len(_MARK)] != _MARK:
        raise UnsealedFileError(
            f"{Path(path).name} is truncated, or was not written by this version of lodim"
        )
    if _hash(data[:end]).digest() != data[end + len(_MARK) :]:
        raise DamagedFileError(f"{Path(path).name} is damaged: its checksum does not fit its contents")
    return data[:end]


def check_archive(path: str | os.PathLike[str]) -> None:
    """Make sure that a zip archive, as NumPy's ``.npz`` and torch's files are, is as it was written: by its seal, or
    by its own checksums (which torch does not look at) if it has none. Little of it is held in memory.

    Raises
    ------
    DamagedFileError
        A changed, truncated or foreign file.
    OSError
        The system's own, as for any file that cannot be read.
    """
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END) - _SEAL_BYTES
        file.seek(max(end, 0))
        seal = file.read()
        file.seek(0)
        if seal.startswith(_MARK):
            found = _hash()
            for start in range(0, end, _BLOCK):
                found.update(file.read(min(_BLOCK, end - start)))
            whole = found.digest() == seal[len(_MARK) :]
        else:
            try:
                with zipfile.ZipFile(file) as archive:
                    # a changed length in the list of contents can hide an entry; only the list's end says how many
                    told = int.from_bytes(seal[-_ZIP_END_BYTES:][10:12], "little")
                    whole = told == len(archive.infolist()) and archive.testzip() is None
            except Exception:  # a dozen kinds, as the damage may be anywhere
                whole = False
    if not whole:
        raise DamagedFileError(f"{Path(path).name} is damaged, or no file of this kind")


def _hash(data: bytes | memoryview = b"") -> hashlib.blake2b:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES)


def _finish(file: io.BufferedIOBase, sealed: bool) -> None:
    if sealed:
        file.seek(0)
        digest = hashlib.file_digest(file, _hash).digest()  # type: ignore[arg-type]
        file.seek(0, os.SEEK_END)
        file.write(_MARK + digest)
    file.flush()


def _open_device(path: str | os.PathLike[str], status: os.stat_result) -> IO[bytes] | None:
    """Open what cannot be replaced; None for a file that can."""
    for descriptor in (1, 2):
        with suppress(OSError):  # it may be closed
            if os.path.samestat(status, os.fstat(descriptor)):
                # opened anew it would be cut to nothing, or written over by what is printed next
                return os.fdopen(os.dup(descriptor), "wb")
    return None if stat.S_ISREG(status.st_mode) else open(path, "wb")


@contextmanager
def _named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let errors of the system name the file that was asked for, which is not the one that was being written."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        system = error if isinstance(error, OSError) else error.__context__  # torch hides it behind its own
        if not isinstance(system, OSError):
            raise
        said = system.strerror
        if str(system.filename).endswith(_ENDING):
            if system.errno in _NOT_HERE:
                said = f"{said} (a file is first written beside its place)"
        elif system.filename is not None or system.errno not in (*NO_ROOM, errno.EIO):
            raise
        raise OSError(system.errno, said, os.fspath(path)) from error


def _create_part(place: Path, mode: int) -> tuple[Path, int]:
    """Make a file beside ``place`` that is locked for as long as it is open, and remove orphans."""
    name = os.fsencode(place.name)[:_LONGEST].decode("utf-8", "ignore")
    parts = (place.with_name(f".{name}.{number}{_ENDING}") for number in itertools.count())
    while True:
        part = next(parts)
        _remove_orphan(part)
        descriptor = _claim(part, os.O_CREAT | os.O_EXCL, mode)
        if descriptor is not None:
            break
    while _remove_orphan(next(parts)):  # of those that had to take later numbers
        pass
    return part, descriptor


def _remove_orphan(part: Path) -> bool:
    descriptor = _claim(part)
    if descriptor is None:
        return False
    part.unlink()
    os.close(descriptor)
    return True


def _claim(part: Path, making: int = 0, mode: int = 0) -> int | None:
    """Open and lock a part that is there, or one that is made; None if it is another's or was taken away meanwhile.

    Only who holds the lock of a file under this name may remove or move it.
    """
    try:
        descriptor = os.open(part, os.O_RDWR | _FLAGS | making, mode)
    except FileExistsError:
        return None
    except OSError:
        if making:
            raise
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), os.stat(part, follow_symlinks=False)):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except (OSError, AttributeError):
        if making:  # no locks on this file system, or on Windows: nobody can tell an orphan, and all stay
            return descriptor
    os.close(descriptor)
    return None


def _discard(part: Path, file: io.BufferedRandom) -> None:
    """Remove a part while it is locked and so its name is ours; Windows removes no file that is open."""
    if fcntl is None:
        file.raw.close()
    part.unlink(missing_ok=True)
    file.raw.close()  # the buffer's own close() would try again to write what is left


def _keep_rights(part: Path, former: os.stat_result) -> None:
    with suppress(OSError, AttributeError):  # only an administrator can give a file away
        os.chown(part, former.st_uid, former.st_gid)
    os.chmod(part, stat.S_IMODE(former.st_mode))


def _flush_folder(folder: Path) -> None:
    """Make the new name survive a power cut, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
