"""Long work that a web page starts: one job at a time, each in a process of its own, all of its state on disk.

A job is a folder named by a random token. The queue writes ``job.json`` there and is the only one that does; the
process writes the rest::

    job.json        what was asked, the state, when it changed, the last word        (queue)
    progress.json   {"done": 0.4, "text": "..."}                                      (process, as it goes)
    outcome.json    {"error": null or "...", "summary": "..."}                        (process, at its end)
    log.txt         everything it printed
    report.html, report.json                                                          (process, if it makes any)

::

    queued -> running -> done | failed | cancelled
       '--------'----> interrupted     (the server stopped; found so by the next one that opens the folder)

A process gets a session of its own, so that ending a job ends whatever it started; it watches its standard input, whose
other end closes with the server, so that a killed server leaves nothing running either. Files that came with a job, and
what it left beside the files above, are removed when it ends.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lodim.files import write_whole
from lodim.results import Result
from lodim.web.processes import read_text, read_whole, run_process, take_lock

__all__ = ["ENDED", "Job", "JobQueue", "Limits", "Progress", "QueueUnavailable"]

ENDED = ("done", "failed", "cancelled", "interrupted")
KEPT = ("job.json", "progress.json", "outcome.json", "log.txt", "report.html", "report.json")
WORKER = (
    sys.executable,
    "-P",
    "-m",
    "lodim.web.worker",
)  # -P: a job's folder is never a place to import from
_TOKEN = re.compile(r"[A-Za-z0-9_-]{22}")
_RESTART = "The server was stopped before this was finished. Start it again."


class QueueUnavailable(RuntimeError):
    """No job can be taken on now; the message says why."""


@dataclass(frozen=True)
class Limits:
    """What jobs may take."""

    seconds: int | float = 3600.0  # of one job, where it does not bring its own
    memory: int = 4 << 30  # bytes of one process (where the system can limit them)
    waiting: int = 5  # jobs that may wait for their turn
    kept: int = 50  # ended jobs that are kept, the latest
    days: int | float = 7.0  # for so long


@dataclass(frozen=True)
class Progress:
    """How far a job is: ``done`` in [0, 1], and what it does."""

    done: float
    text: str


@dataclass(frozen=True)
class Job(Result):
    """One job."""

    id: str  # 22 letters of a URL, 128 random bits: whoever knows it may see the job
    kind: str  # what the worker does
    title: str  # for people
    request: dict[str, Any]  # for the worker
    seconds: int | float  # after so long it is stopped
    memory: int  # bytes it may take
    created: str  # UTC, ISO 8601, as are the next two
    started: str | None = None
    ended: str | None = None
    state: str = "queued"
    message: str = ""  # once ended: what came of it, or why nothing did

    @property
    def over(self) -> bool:
        """Whether it has ended, one way or another."""
        return self.state in ENDED


@dataclass
class _Current:
    """The job whose process runs now; ``stop`` says in which state it is to end."""

    id: str
    stop: threading.Event = field(default_factory=threading.Event)
    final: str = "cancelled"


class JobQueue:
    """The jobs of one folder, which is created if there is none, run one after the other.

    Of several queues on it, in any processes, the first runs jobs; the others only show. ``command`` is the program of
    a job, to which the job's folder is appended.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        command: Sequence[str] = WORKER,
        limits: Limits | None = None,
        now: Callable[[], datetime] | None = None,
    ):
        self.folder = Path(folder)
        self.command = tuple(command)
        self.limits = limits or Limits()
        self._now = now or (lambda: datetime.now(UTC))
        self._changed = threading.Condition(threading.RLock())
        self._waiting: deque[str] = deque()
        self._current: _Current | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = take_lock(self.folder / "lock")
        if self._lock is not None:
            self._recover()
            self.prune()

    def get(self, id: str) -> Job | None:
        """Return a job, or None for one that is not (or no longer) there; what is no token is never used as a path."""
        if not _TOKEN.fullmatch(id):
            return None
        found = read_whole(self.folder / id / "job.json")
        return None if found is None else Job.from_dict(found)

    def jobs(self, kind: str | None = None) -> list[Job]:
        """Return the jobs, the latest first."""
        found = [job for path in self.folder.iterdir() if (job := self.get(path.name)) is not None]
        return sorted(
            (job for job in found if kind in (None, job.kind)),
            key=lambda job: (job.created, job.id),
            reverse=True,
        )

    def before(self, id: str) -> int:
        """Return how many jobs run or wait before a queued one."""
        with self._changed:
            return self._waiting.index(id) + (self._current is not None) if id in self._waiting else 0

    def progress(self, id: str) -> Progress:
        """Return how far a job has come."""
        found = read_whole(self.folder / id / "progress.json") or {}
        return Progress(min(max(float(found.get("done", 0.0)), 0.0), 1.0), str(found.get("text", "")))

    def log(self, id: str, start: int = 0, most: int = 16_000) -> tuple[str, int]:
        """Return what a job printed from byte ``start`` on, the last ``most`` bytes of it, and the byte after it."""
        return read_text(self.folder / id / "log.txt", start, most)

    def file(self, id: str, name: str) -> Path | None:
        """Return the path of a file that a job made, if it did."""
        path = self.folder / id / name
        return path if name in KEPT and path.is_file() else None

    def submit(
        self,
        kind: str,
        title: str,
        request: Mapping[str, Any],
        *,
        files: Mapping[str, Any] | None = None,
        seconds: int | float | None = None,
    ) -> Job:
        """Put a job at the end of the queue, or raise :class:`QueueUnavailable`.

        ``files`` are copied into the job's folder under names that must be the caller's own, never a visitor's.
        """
        with self._changed:
            self._check_open()
            self.prune()
            job = Job(
                id=secrets.token_urlsafe(16),
                kind=kind,
                title=title,
                request=dict(request),
                seconds=seconds or self.limits.seconds,
                memory=self.limits.memory,
                created=self._moment(),
            )
            folder = self.folder / job.id
            folder.mkdir(mode=0o700)
            for name, source in (files or {}).items():
                with (folder / name).open("xb") as copy:
                    shutil.copyfileobj(source, copy)
            self._save(job)
            self._waiting.append(job.id)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="lodim-jobs", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return job

    def cancel(self, id: str, wait: int | float = 10.0) -> Job | None:
        """End a job that waits or runs, and everything it started, and return it as it is now.

        It waits at most ``wait`` seconds for its processes to be gone; a job that had ended before is left alone.
        """
        with self._changed:
            if id in self._waiting:
                self._waiting.remove(id)
                self._end(id, "cancelled", "Cancelled before it began.")
            elif self._current is not None and self._current.id == id:
                self._current.stop.set()
                self._changed.wait_for(lambda: self._current is None or self._current.id != id, timeout=wait)
            return self.get(id)

    def delete(self, id: str) -> None:
        """Remove a job with all its files; one that waits or runs is cancelled first."""
        with self._changed:
            job = self.cancel(id)
            if job is not None and job.over:
                shutil.rmtree(self.folder / id)

    def prune(self) -> None:
        """Remove ended jobs that are older than ``limits.days`` or beyond the latest ``limits.kept``."""
        oldest = (self._now() - timedelta(days=self.limits.days)).isoformat()
        ended = [job for job in self.jobs() if job.over]
        for rank, job in enumerate(ended):
            if rank >= self.limits.kept or job.created < oldest:
                shutil.rmtree(self.folder / job.id)

    def close(self) -> None:
        """Stop: what runs or waits becomes interrupted, and another queue may take the folder over."""
        with self._changed:
            self._closed = True
            while self._waiting:
                self._end(self._waiting.popleft(), "interrupted", _RESTART)
            if self._current is not None:
                self._current.final = "interrupted"
                self._current.stop.set()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _check_open(self) -> None:
        if self._closed:
            raise QueueUnavailable("The server is being stopped.")
        if self._lock is None:
            raise QueueUnavailable(
                "Another lodim server works on this folder of jobs. Stop it, or give this one a data folder of its own."
            )
        if len(self._waiting) >= self.limits.waiting:
            raise QueueUnavailable(
                f"{len(self._waiting)} jobs are waiting already, and no more are taken on. Try again in a few minutes."
            )

    def _moment(self) -> str:
        return self._now().isoformat()

    def _save(self, job: Job) -> None:
        write_whole(self.folder / job.id / "job.json", job.to_json(), private=True)

    def _end(self, id: str, state: str, message: str) -> None:
        """Write the last state of a job and remove the files that were only for its work."""
        job = self.get(id)
        if job is None:  # its folder was removed by hand
            return
        for path in (self.folder / id).iterdir():
            if path.name not in KEPT:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        self._save(replace(job, state=state, ended=self._moment(), message=message))

    def _recover(self) -> None:
        """Bring the folders of an earlier server into order."""
        for path in self.folder.iterdir():
            if not path.is_dir() or not _TOKEN.fullmatch(path.name):
                continue
            job = self.get(path.name)
            if job is None:  # stopped before its first state was written
                shutil.rmtree(path)
            elif not job.over:
                self._end(job.id, "interrupted", _RESTART)

    def _work(self) -> None:
        """Run what waits, until the queue is closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._waiting)
                if self._closed:
                    return
                queued = self.get(self._waiting.popleft())
                if queued is None:  # its folder was removed by hand
                    continue
                current = self._current = _Current(queued.id)
                job = replace(queued, state="running", started=self._moment())
                self._save(job)
            try:
                state, message = self._run(job, current)
            except OSError as error:
                state, message = "failed", f"It could not be started: {error}"
            with self._changed:
                self._end(job.id, state, message)
                self._current = None
                self._changed.notify_all()

    def _run(self, job: Job, current: _Current) -> tuple[str, str]:
        """Run a job's process to its end, or end it; return the state and the last word."""
        folder = self.folder.resolve() / job.id
        in_time, code = run_process([*self.command, str(folder)], folder, job.seconds, current.stop)
        if current.stop.is_set():
            return current.final, _RESTART if current.final == "interrupted" else "Cancelled."
        if not in_time:
            return "failed", f"Stopped: it took longer than the {job.seconds:,.0f} seconds it was allowed."
        return _outcome(folder, code, job.memory)


def _outcome(folder: Path, code: int, memory: int) -> tuple[str, str]:
    """Return state and last word of a process that ended by itself."""
    found = read_whole(folder / "outcome.json")
    if found is not None and found.get("error") is not None:
        return "failed", str(found["error"])
    if found is not None and code == 0:
        return "done", str(found.get("summary", ""))
    if code == -signal.SIGKILL:
        return (
            "failed",
            f"The system ended it, most likely for want of memory ({memory / 2**30:.0f} GiB are allowed).",
        )
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return "failed", f"It ended without an answer ({how}); its log may say why."
