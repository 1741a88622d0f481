"""Jobs on a Ray cluster."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Generator, Sequence
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from lodim.validation import require

from .outcome import Outcome, attempt_packed, lost, pack, pack_function, unpack, unpack_function

_PATIENCE = 3.0  # seconds; Ray itself tries for minutes
_CLIENT_PORT = 10001
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_SETTINGS = 4


def require_cluster(address: str) -> ModuleType:
    """Import Ray and join the cluster at ``address``, or say at once what is missing.

    Parameters
    ----------
    address : str
        ``"local"`` starts one here, ``"auto"`` is the one that runs here or that ``RAY_ADDRESS`` names; or
        ``"host:port"`` or ``"ray://host:port"``. Where this process has joined one already, it stays there.

    Raises
    ------
    ImportError
        Ray is not installed; names the extra.
    ConnectionError
        No cluster answers there within a few seconds.
    ValueError
        Not an address.
    """
    place = os.environ.get("RAY_ADDRESS", "auto") if address == "auto" else address
    if place not in ("auto", "local"):
        host, port = _parse(place)
    ray = require("ray", "ray")
    if ray.is_initialized():
        return ray
    if place not in ("auto", "local"):
        _knock(host, port)
    where = {"include_dashboard": False} if address == "local" else {"address": address}
    try:
        ray.init(log_to_driver=False, **where)
    except Exception as error:
        raise ConnectionError(f"no Ray cluster at {address!r}: {str(error).splitlines()[0]}") from error
    return ray


def _parse(address: Any) -> tuple[str, int]:
    try:
        parts = urlsplit(address if "://" in address else f"gcs://{address}")
        port = parts.port or (_CLIENT_PORT if parts.scheme == "ray" else None)
    except (ValueError, TypeError):
        parts, port = urlsplit(""), None
    if not parts.hostname or port is None:
        raise ValueError(f"ray must be 'auto', 'local', 'host:port' or 'ray://host:port'; got {address!r}")
    return parts.hostname, port


def _knock(host: str, port: int) -> None:
    """Raise a ConnectionError unless something at the port speaks HTTP/2, on which Ray's messages rest."""
    try:
        with socket.create_connection((host, port), timeout=_PATIENCE) as line:
            if os.environ.get("RAY_USE_TLS", "0").lower() not in ("0", "", "false"):
                return
            line.sendall(_GREETING)
            answer = line.recv(9, socket.MSG_WAITALL)
    except OSError as error:
        raise ConnectionError(
            f"no Ray cluster answers at {host}:{port} ({error}); see that it runs ('ray status' there) and that the "
            "port is open"
        ) from error
    if answer[3:4] != bytes((_SETTINGS,)):
        raise ConnectionError(
            f"what answers at {host}:{port} is not a Ray cluster; its port is 6379 unless it was started with another, "
            f"and {_CLIENT_PORT} for ray://"
        )


def on_ray(
    function: Callable[[Any], Any], jobs: Sequence[Any], address: str
) -> Generator[tuple[int, Outcome[Any]], None, None]:
    """Yield (index, outcome) as jobs end; Ray runs a job whose worker dies once more."""
    packed = pack_function(function)
    ray = require_cluster(address)
    shared = ray.put(packed)  # large closures travel once, not once a job
    remote = ray.remote(num_cpus=1, max_retries=1)(_attempt_there)
    waiting = {remote.remote(shared, pack(job)): index for index, job in enumerate(jobs)}
    try:
        while waiting:
            (ready,), _ = ray.wait(list(waiting), num_returns=1)
            index = waiting.pop(ready)
            try:
                outcome = unpack(ray.get(ready))
            except ray.exceptions.RayError as error:
                why = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
                outcome = lost(f"the worker died (killed or out of memory), or could not begin; {why}")
            yield index, outcome
    finally:
        for task in waiting:
            ray.cancel(task, force=True)


def _attempt_there(function: bytes, job: bytes) -> bytes:
    return attempt_packed(unpack_function(function), job)
