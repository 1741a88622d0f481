"""Jobs in local processes, each of which can die without taking the others' work along.

Every worker has a line of its own to this process and one job at a time, so it is known whose job was lost. A line that
breaks ends the worker, at work or not: no process outlives the one that started it. Workers wait a while for the next
call, because starting one and loading libraries in it takes longer than many jobs.
"""

from __future__ import annotations

import atexit
import os
import queue
import signal
import sys
import sysconfig
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from joblib.externals.loky.backend import get_context
from joblib.externals.loky.backend.utils import kill_process_tree

from .outcome import Outcome, attempt_packed, lost, pack, pack_function, unpack, unpack_function

_IDLE_SECONDS = 300
_ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "BLIS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "NUMBA_NUM_THREADS",
    ),
    "1",
)


@dataclass(frozen=True)
class _Place:
    """What code finds around it."""

    path: list[str]
    folder: str
    environment: dict[str, str]

    @classmethod
    def here(cls) -> _Place:
        return cls([os.path.abspath(part) for part in sys.path], os.getcwd(), dict(os.environ))


# In a worker


def _serve(connection: Connection) -> None:
    """Run the jobs that come until the line breaks, or nothing has come for long."""
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C reaches every process; the first one decides
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    inbox: queue.Queue[tuple[_Place | None, bytes] | None] = queue.Queue()

    def listen() -> None:
        try:
            while True:
                inbox.put((connection.recv(), connection.recv_bytes()))
        except Exception:
            if inbox.unfinished_tasks:
                os._exit(1)  # nobody waits for the job at work any more
            inbox.put(None)

    threading.Thread(target=listen, daemon=True).start()
    function = unpack_function(b"")
    with suppress(queue.Empty, OSError):
        while (message := inbox.get(timeout=_IDLE_SECONDS)) is not None:
            place, packed = message
            if place is None:
                connection.send_bytes(attempt_packed(function, packed))
            else:
                function = _move(place, packed)
            inbox.task_done()


def _move(place: _Place, packed: bytes) -> Callable[[Any], Any]:
    """Stand where the caller stands, and take up its function."""
    sys.path[:] = place.path
    os.environ.clear()
    os.environ.update(place.environment | _ONE_THREAD)  # a library that is loaded later asks again
    with suppress(OSError):  # gone meanwhile
        os.chdir(place.folder)
    return unpack_function(packed)


# In the process that has the jobs


@dataclass(frozen=True, eq=False)
class _Call:
    place: _Place
    function: bytes


class _Worker:
    def __init__(self) -> None:
        context = get_context("loky")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), env=_ONE_THREAD)
        self.sources: dict[str, int] = {}
        self.call: _Call | None = None
        with _interrupts_blocked():
            self.process.start()
        theirs.close()
        _workers.append(self)

    def knows(self, sources: dict[str, int]) -> bool:
        """Whether it has loaded no module that has changed since."""
        return all(self.sources.get(name, time) == time for name, time in sources.items())

    def is_there(self) -> bool:
        return self.process.is_alive() and not self.connection.poll()

    def send(self, call: _Call, job: Any) -> None:
        with suppress(OSError):  # it has died, as will be seen
            if self.call is not call:
                self.call = call
                self._tell(call.place, call.function)
            self._tell(None, pack(job))

    def _tell(self, place: _Place | None, packed: bytes) -> None:
        self.connection.send(place)
        self.connection.send_bytes(packed)

    def answer(self) -> bytes | None:
        """What it says; None if it has died."""
        with suppress(EOFError, OSError):
            if self.connection.poll():
                return self.connection.recv_bytes()
        self.end()
        return None

    def how_it_ended(self) -> str:
        code = self.process.exitcode
        if code is None or code >= 0:
            return f"exit code {code}"
        return "killed or out of memory" if -code == signal.SIGKILL else f"{signal.strsignal(-code)}"

    def rest(self) -> None:
        """Wait for another call, without what this one has brought."""
        self.call = None
        try:
            self._tell(_Place.here(), b"")
            _idle.append(self)
        except OSError:
            self.end()

    def end(self) -> None:
        _workers.remove(self)
        self.connection.close()
        kill_process_tree(self.process)
        self.process.join(1.0)


_idle: list[_Worker] = []
_workers: list[_Worker] = []


def _forget() -> None:
    """In a fork, they are the other process's."""
    _idle.clear()
    _workers.clear()


@atexit.register
def _dismiss() -> None:
    for worker in list(_workers):
        if worker in _idle:
            worker.connection.close()
        else:
            worker.end()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def in_processes(
    function: Callable[[Any], Any], jobs: Sequence[Any], n_jobs: int
) -> Generator[tuple[int, Outcome[Any]], None, None]:
    """Yield (index, outcome) as jobs end; a job whose worker dies is run once more, alone, after all others."""
    call, sources = _Call(_Place.here(), pack_function(function)), _sources()
    waiting, again, retried = deque(range(len(jobs))), deque[int](), set[int]()
    busy: dict[_Worker, int] = {}
    free: list[_Worker] = []
    try:
        while len(free) < min(n_jobs, len(jobs)):  # they start side by side
            free.append(_hire(sources))
        while waiting or busy or again:
            if not waiting and not busy:
                while free:
                    free.pop().end()  # leaves the job their memory, and a process to which nothing has happened
                retried.add(again[0])
                waiting.append(again.popleft())
            while waiting and len(busy) < n_jobs:
                worker = free.pop() if free else _hire(sources)
                busy[worker] = waiting.popleft()
                worker.send(call, jobs[busy[worker]])
            for worker in _ready(busy):
                answer, index = worker.answer(), busy.pop(worker)
                if answer is not None:
                    free.append(worker)
                    yield index, unpack(answer)
                elif index in retried:
                    how = worker.how_it_ended()
                    yield index, lost(f"the worker died ({how}), and so did another that ran this job alone")
                else:
                    again.append(index)
    finally:
        for worker in busy:
            worker.end()
        for worker in free:
            worker.rest()


def _hire(sources: dict[str, int]) -> _Worker:
    """A worker that waits, if one is fit, or a new one."""
    while _idle:
        worker = _idle.pop()
        if worker.is_there() and worker.knows(sources):
            break
        worker.end()
    else:
        worker = _Worker()
    worker.sources |= sources
    return worker


def _ready(busy: dict[_Worker, int]) -> list[_Worker]:
    """Those that have answered or died. A process that the dead one started may hold the line, so both are asked."""
    heard = wait([worker.connection for worker in busy], timeout=1.0)
    return [worker for worker in busy if worker.connection in heard or not worker.process.is_alive()]


def _sources() -> dict[str, int]:
    """When the files of the loaded modules were changed, but those of installed packages."""
    installed = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
    found = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and "-packages" not in file and not file.startswith(installed):
            with suppress(OSError):
                found[name] = os.stat(file).st_mtime_ns
    return found


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """A process that starts now is deaf to Ctrl-C until it can mind it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing.resource_tracker import ensure_running

    ensure_running()  # it would let Ctrl-C through again, if the block were the first to need it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
