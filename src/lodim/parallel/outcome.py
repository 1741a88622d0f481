"""What becomes of a job, and how functions, jobs and outcomes travel between processes."""

from __future__ import annotations

import io
import os
import pickle
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import cloudpickle

T = TypeVar("T")

INSIDE = "LODIM_INSIDE_A_JOB"  # in the environment of a process that runs jobs for another


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


def attempt(function: Callable[[Any], T], job: Any) -> Outcome[T]:
    """Run a job; whatever it raises is its outcome, ``sys.exit()`` too, but Ctrl-C is the user's."""
    try:
        return Outcome(function(job))
    except KeyboardInterrupt:
        raise
    except BaseException:
        return Outcome(error=traceback.format_exc())


def lost(why: str) -> Outcome[Any]:
    """The outcome of a job that came to nothing outside its own code; ``why`` is a sentence's end."""
    return Outcome(error=f"RuntimeError: {why}")


def pack(thing: Any) -> bytes:
    """Pickle for another process: functions and classes made here travel by value."""
    return bytes(cloudpickle.dumps(thing, pickle.HIGHEST_PROTOCOL))


def attempt_packed(function: Callable[[Any], Any], job: bytes) -> bytes:
    """Run a packed job in a process of another's, where Ctrl-C is none of its own; return its outcome, packed."""
    os.environ[INSIDE] = "1"
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)  # processes side by side do not fight for the cores
    try:
        outcome = attempt(function, pickle.loads(job))
    except BaseException:
        outcome = Outcome(error=traceback.format_exc())
    try:
        return pack(outcome)
    except Exception as error:
        kind = type(outcome.value).__name__
        return pack(lost(f"the value of the job, a {kind}, cannot leave its process: {_line(error)}"))


def unpack(answer: bytes) -> Outcome[Any]:
    """Return the outcome that :func:`attempt_packed` packed."""
    try:
        outcome: Outcome[Any] = pickle.loads(answer)
    except Exception as error:
        return lost(f"the value of the job cannot be read here: {_line(error)}")
    return outcome


def pack_function(function: Callable[[Any], Any]) -> bytes:
    """Pack what runs the jobs, or raise a TypeError that says why it cannot travel."""
    try:
        return pack(function)
    except Exception as error:
        name = getattr(function, "__qualname__", None) or f"{function!r:.80}"
        raise _cannot_travel(f"the function {name}", error) from error


def unpack_function(packed: bytes) -> Callable[[Any], Any]:
    """Return what :func:`pack_function` packed; if it cannot be read here, every job fails with the reason."""
    try:
        function: Callable[[Any], Any] = pickle.loads(packed)
    except BaseException as error:
        reason = error

        def function(job: Any) -> Any:
            raise reason

    return function


def check_jobs_travel(jobs: Sequence[Any]) -> None:
    """Raise a TypeError for the first job that cannot be packed; none is held packed meanwhile."""
    for index, job in enumerate(jobs):
        try:
            cloudpickle.dump(job, _Nowhere(), pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            raise _cannot_travel(f"job {index} ({job!r:.80})", error) from error


class _Nowhere(io.RawIOBase):
    def write(self, data: Any) -> int:
        return memoryview(data).nbytes


def _cannot_travel(what: str, error: Exception) -> TypeError:
    return TypeError(
        f"{what} cannot be sent to another process: {_line(error)}. Build what cannot be pickled inside the function, "
        "or stay in this process: n_jobs=1, without ray"
    )


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
