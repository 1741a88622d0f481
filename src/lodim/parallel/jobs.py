"""The one way to run jobs: :func:`run_jobs`."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Any, TypeVar

import joblib

from lodim.identity import UnidentifiableError, content_hash
from lodim.validation import check_in_range

from .cluster import on_ray
from .outcome import INSIDE, JobsInterrupted, Outcome, attempt, check_jobs_travel
from .store import ResultStore
from .workers import in_processes

T = TypeVar("T")


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
        Takes one job. It must pickle (cloudpickle: closures may travel) when processes or Ray are used.
    jobs : sequence
        Small descriptions of the work.
    n_jobs : int
        Local processes; 1 stays in this process, -1 takes every core. Each computes with one thread. A job that calls
        ``run_jobs`` itself runs its jobs where it is: the cores are taken. So does a daemonic process, such as one
        of ``multiprocessing.Pool``.
    ray : str, optional
        Address of a Ray cluster (``"auto"``, ``"host:port"``, ``"ray://host:port"``) or ``"local"`` to start one here.
    store : ResultStore, optional
        Jobs whose key it holds are not run; results of the others are put there as they finish.
    key : callable, optional
        ``key(job)`` identifies a job in the store, by its content, in place of the default: the content of ``function``
        and of the job (:func:`lodim.identity.content_hash`). Include everything that changes the result, the function
        too if the store is used with several.
    on_done : callable, optional
        Called as ``on_done(index, outcome)`` when a job finishes, in order of finishing.

    Returns
    -------
    list of Outcome
        A job that raised, called ``sys.exit()``, returned what cannot be pickled, or whose process died twice, has an
        ``error``; the outcomes of the others are there all the same.

    Raises
    ------
    JobsInterrupted
        On Ctrl-C, carrying the outcomes so far; the processes are ended.
    ImportError, ConnectionError
        ``ray`` is given but not installed, or no cluster answers there.
    TypeError, ValueError
        Before any job runs: a wrong ``n_jobs``, a function or job that cannot travel to another process or, with a
        store, whose content cannot be told (give ``key``).
    """
    n_jobs = count_processes(n_jobs)
    outcomes: list[Outcome[T]] = [Outcome(done=False)] * len(jobs)
    keys = []
    if store is not None:
        store.forget_said()
        keys = _keys(function, jobs, key)

    def finish(index: int, outcome: Outcome[T]) -> None:
        outcomes[index] = outcome
        if store is not None and outcome.error is None and not outcome.cached:
            store.keep(keys[index], outcome.value)
        if on_done is not None:
            on_done(index, outcome)

    try:
        open_jobs = []
        for index in range(len(jobs)):
            found = store.find(keys[index]) if store is not None else None
            if found is None:
                open_jobs.append(index)
            else:
                finish(index, found)
        remaining = [jobs[index] for index in open_jobs]
        with closing(_stream(function, remaining, n_jobs, ray)) as stream:
            for position, outcome in stream:
                finish(open_jobs[position], outcome)
    except KeyboardInterrupt as interrupt:
        raise JobsInterrupted(outcomes) from interrupt
    return outcomes


def count_processes(n_jobs: Any) -> int:
    """Return how many processes ``n_jobs`` asks for; a TypeError or ValueError if it is no such number."""
    check_in_range(n_jobs, "n_jobs", low=-1, integer=True)
    if n_jobs == 0:
        raise ValueError("n_jobs must be at least 1, or -1 for every core; got 0")
    if os.environ.get(INSIDE) or multiprocessing.current_process().daemon:  # which may start none
        return 1
    return int(joblib.cpu_count() if n_jobs == -1 else n_jobs)


def _stream(
    function: Callable[[Any], Any], jobs: Sequence[Any], n_jobs: int, ray: str | None
) -> Generator[tuple[int, Outcome[Any]], None, None]:
    if ray is None and n_jobs == 1:
        for index, job in enumerate(jobs):
            yield index, attempt(function, job)
    elif jobs:
        check_jobs_travel(jobs)
        yield from in_processes(function, jobs, n_jobs) if ray is None else on_ray(function, jobs, ray)


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
