"""Independent jobs, here or elsewhere: ``run_jobs(function, jobs)``.

One call runs a list of jobs in this process, in local processes (joblib) or on a Ray cluster, with the same results.
A job that fails is reported and the rest are kept; with a ``store``, finished jobs are never run twice, so an
interrupted sweep resumes where it stopped.
"""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from lodim.files import DamagedFileError, open_whole, read_sealed
from lodim.identity import UnidentifiableError, content_hash
from lodim.validation import require, warn

__all__ = ["JobsInterrupted", "Outcome", "ResultStore", "run_jobs"]

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What became of one job: its ``value``, or the traceback as its ``error``.

    ``cached`` values came from the store; ``done`` is False for a job that an interruption left unstarted.
    """

    value: T | None = None
    error: str | None = None
    cached: bool = False
    done: bool = True


class JobsInterrupted(KeyboardInterrupt):
    """Ctrl-C during :func:`run_jobs`; ``outcomes`` holds what was finished by then."""

    def __init__(self, outcomes: list[Outcome[Any]]):
        super().__init__(f"interrupted with {sum(o.done for o in outcomes)} of {len(outcomes)} jobs done")
        self.outcomes = outcomes


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
        return self._get(content_hash(key))

    def _get(self, digest: str) -> Outcome[Any] | None:
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
        self._put(content_hash(key), value)

    def _put(self, digest: str, value: Any) -> None:
        try:
            with open_whole(self._path(digest), sealed=True) as file:
                file.write(digest.encode())
                pickle.dump(value, file, pickle.HIGHEST_PROTOCOL)
        except Exception as error:  # whatever a value raises when it is pickled
            self._say("write", f"results cannot be stored: {_short(error)}")


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _keys(
    function: Callable[..., Any], jobs: Sequence[Any], key: Callable[[Any], object] | None
) -> list[str]:
    """What each job is stored under; a TypeError if one has no content to be told by."""
    try:
        if key is not None:
            return [content_hash(key(job)) for job in jobs]
        own = content_hash(function)
        return [content_hash(own, job) for job in jobs]
    except UnidentifiableError as error:
        raise TypeError(
            f"run_jobs cannot tell what to store the jobs under: {error} (key=, a function of the job that names "
            "everything its result depends on)"
        ) from error


def _attempt(function: Callable[..., T], job: Any) -> Outcome[T]:
    try:
        return Outcome(function(job))
    except Exception:
        return Outcome(error=traceback.format_exc())


def _local(function: Callable[..., T], jobs: Sequence[Any]) -> Iterator[tuple[int, Outcome[T]]]:
    for index, job in enumerate(jobs):
        yield index, _attempt(function, job)


def _attempt_at(function: Callable[..., T], index: int, job: Any, caller: int = 0) -> tuple[int, Outcome[T]]:
    """Run one job; another process than the caller's computes with one thread: workers do not fight for cores."""
    if os.getpid() != caller:
        import torch

        torch.set_num_threads(1)
    return index, _attempt(function, job)


def _processes(
    function: Callable[..., T], jobs: Sequence[Any], n_jobs: int
) -> Iterator[tuple[int, Outcome[T]]]:
    from joblib import Parallel, delayed

    pool = Parallel(n_jobs=n_jobs, return_as="generator_unordered", batch_size=1)
    yield from pool(delayed(_attempt_at)(function, index, job, os.getpid()) for index, job in enumerate(jobs))


def _on_ray(
    function: Callable[..., T], jobs: Sequence[Any], address: str
) -> Iterator[tuple[int, Outcome[T]]]:
    ray = require("ray", "ray")
    if not ray.is_initialized():
        where = {"include_dashboard": False} if address == "local" else {"address": address}
        ray.init(log_to_driver=False, **where)
    shared = ray.put(function)  # large closures travel once, not once a job
    remote = ray.remote(num_cpus=1)(_attempt_at)
    waiting = [remote.remote(shared, index, job) for index, job in enumerate(jobs)]
    try:
        while waiting:
            (ready,), waiting = ray.wait(waiting, num_returns=1)
            yield ray.get(ready)
    finally:
        for task in waiting:
            ray.cancel(task, force=True)


def run_jobs(
    function: Callable[[Any], T],
    jobs: Sequence[Any],
    *,
    n_jobs: int = 1,
    ray: str | None = None,
    store: ResultStore | None = None,
    key: Callable[[Any], object] | None = None,
    on_done: Callable[[int, Outcome[T]], None] | None = None,
) -> list[Outcome[T]]:
    """Run ``function(job)`` for every job and return the outcomes in the jobs' order.

    Parameters
    ----------
    function : callable
        Takes one job; must pickle (cloudpickle: closures may travel) when processes or Ray are used.
    jobs : sequence
        Small descriptions of the work.
    n_jobs : int
        Local processes; 1 stays in this process, -1 takes every core. Workers compute with one thread each.
    ray : str, optional
        Address of a Ray cluster (``"auto"``, ``"ray://host:port"``) or ``"local"`` to start one here.
    store : ResultStore, optional
        Jobs whose key it holds are not run; results of the others are put there as they finish.
    key : callable, optional
        ``key(job)`` identifies a job in the store, by its content, in place of the default: the content of ``function``
        and of the job (:func:`lodim.identity.content_hash`). Include everything that changes the result, the function
        too if the store is used with several.
    on_done : callable, optional
        Called as ``on_done(index, outcome)`` when a job finishes, in order of finishing.

    Raises
    ------
    JobsInterrupted
        On Ctrl-C, carrying the outcomes so far.
    ImportError
        If ``ray`` is given but not installed.
    TypeError
        With a store: a function or job whose content cannot be told, before any runs; give ``key``.
    """
    outcomes: list[Outcome[T]] = [Outcome(done=False)] * len(jobs)
    keys = []
    if store is not None:
        store._said.clear()
        keys = _keys(function, jobs, key)

    def finish(index: int, outcome: Outcome[T]) -> None:
        outcomes[index] = outcome
        if store is not None and outcome.error is None and not outcome.cached:
            store._put(keys[index], outcome.value)
        if on_done is not None:
            on_done(index, outcome)

    open_jobs = []
    for index in range(len(jobs)):
        found = store._get(keys[index]) if store is not None else None
        if found is None:
            open_jobs.append(index)
        else:
            finish(index, found)
    remaining = [jobs[index] for index in open_jobs]
    if ray is not None:
        stream = _on_ray(function, remaining, ray)
    elif n_jobs != 1 and len(remaining) > 1:
        stream = _processes(function, remaining, n_jobs)
    else:
        stream = _local(function, remaining)
    try:
        for position, outcome in stream:
            finish(open_jobs[position], outcome)
    except KeyboardInterrupt as interrupt:
        raise JobsInterrupted(outcomes) from interrupt
    return outcomes
