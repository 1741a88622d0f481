"""Links that prove something, and the secret they are made with.

A token is HMAC-SHA256 of 32 random bytes (its seed) under the site's secret; the database keeps SHA-256 of the token
and looks it up by that. So

* a copy of the database, such as a backup, opens no link: the seed is worth nothing without the secret;
* the secret alone opens none either, as each seed is random;
* a letter that is sent again after a crash holds the same link, since a token can be made again from its seed, and so
  does every digest: the link to unsubscribe is the same in all of them;
* links live on when the secret is changed: they are checked by their SHA-256, for which no secret is needed.

The seed of a confirmation is deleted once its letter is sent; that of the link to unsubscribe is kept with the
subscriber, and replaced to revoke the link.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from lodim.files import write_whole

__all__ = [
    "check_secret",
    "derive_token",
    "digest_of_token",
    "new_seed",
    "read_secret",
    "site_secret",
    "well_formed",
]

SEED_BYTES, SHORTEST_SECRET = 32, 32
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


def new_seed() -> str:
    """Return 32 random bytes in hexadecimal."""
    return secrets.token_hex(SEED_BYTES)


def derive_token(secret: bytes, purpose: str, seed: str) -> str:
    """Return the token of a seed: 43 characters that can stand in an address. A token of one purpose says nothing about
    that of another.
    """
    mac = hmac.new(secret, f"lodim {purpose} {seed}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode("ascii")


def digest_of_token(token: str) -> str:
    """Return what is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def well_formed(token: str) -> bool:
    """Tell whether a text has the form of a token."""
    return _TOKEN.fullmatch(token) is not None


def check_secret(secret: bytes) -> bytes:
    """Return a secret if it is long enough."""
    if len(secret) < SHORTEST_SECRET:
        raise ValueError(
            f"the secret has {len(secret)} bytes, at least {SHORTEST_SECRET} are needed; make one with "
            "python -c 'import secrets; print(secrets.token_hex(32))'"
        )
    return secret


def read_secret(path: str | os.PathLike[str], *, make: bool = False) -> bytes:
    """Return the secret kept in a file. A file that is missing, that others may read or whose secret is too short
    raises a ValueError; with ``make`` a missing one is made, readable by its owner only.
    """
    file = Path(path)
    if make:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            with suppress(FileExistsError):  # another process was first; its secret holds
                write_whole(file, secrets.token_hex(SEED_BYTES) + "\n", private=True, new=True)
    try:
        mode, held = file.stat().st_mode, file.read_bytes().strip()
    except OSError as error:
        raise ValueError(f"cannot read the secret in {file}: {error.strerror}") from error
    if os.name == "posix" and mode & 0o077:
        raise ValueError(f"{file} can be read by others (mode {mode & 0o777:o}); say: chmod 600 {file}")
    try:
        return check_secret(held)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def site_secret(path: str | os.PathLike[str] | None = None) -> bytes:
    """Return the secret of this site: that of a file, or of the file ``secret`` in the user's data folder, made if
    there is none, so that all commands of one user make and know the same links. A file that others may read, or whose
    secret is too short, raises a ValueError.
    """
    from lodim.catalog.feed import default_path

    return read_secret(default_path().parent / "secret" if path is None else path, make=True)
