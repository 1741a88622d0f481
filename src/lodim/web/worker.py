"""The process of a job: ``python -m lodim.web.worker FOLDER`` does what ``job.json`` there asks (see
:mod:`lodim.web.jobs`).

It limits its memory, ends with the server that started it, and turns whatever goes wrong into a sentence.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lodim.files import write_whole

__all__ = ["main"]

_write = partial(write_whole, private=True)
Tell = Callable[[float, str], None]
_MOST_THREADS = 8  # each has buffers of its own
_EVERY = 0.2  # seconds between two reports of progress
_SPELLINGS = (
    ("missing='impute'", "choose “fill every gap in”"),
    ("missing='error'", "choose “refuse gaps”"),
    ("; read fewer rows (max_rows)", "; upload fewer rows"),
    (" (lodim datasets lists them)", ""),
)


def _end_with_parent() -> None:
    """End this process and its children when the server's end of standard input closes."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        if hasattr(os, "killpg"):
            os.killpg(os.getpgrp(), signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _limit(memory: int) -> None:
    """Let the system refuse more than ``memory`` bytes, and core dumps."""
    try:
        import resource
    except ImportError:  # such limits are POSIX's
        return
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _teller(folder: Path, log: bool) -> Tell:
    """Return the function that reports progress to the page, and for a live log also prints what is new."""
    began = time.monotonic()
    written, said = began - _EVERY, ""

    def tell(done: float, text: str) -> None:
        nonlocal written, said
        now = time.monotonic()
        if log and text and text != said:
            print(f"{now - began:7.1f} s  {float(done):4.0%}  {text}", flush=True)
            said = text
        if now - written >= _EVERY or done >= 1:
            _write(folder / "progress.json", json.dumps({"done": float(done), "text": text}))
            written = now

    return tell


def _profile(folder: Path, request: dict[str, Any]) -> str:
    """Measure a table or a named data set, write both reports, and return the verdict."""
    tell = _teller(folder, log=False)
    tell(0.0, "reading the data")
    import lodim
    from lodim.datasets import names, read_source

    file, name = request.get("file"), request["name"]
    if file is None and name not in names():  # read_source would also take a path, or a function to call
        raise ValueError(f"there is no data set {name!r}; there are {', '.join(names())}")
    dataset = read_source(
        name if file is None else folder / file,
        target=request.get("target"),
        missing=request["missing"],
        random_state=request["seed"],
    )
    answer = lodim.profile(
        dataset, budget=request["budget"], random_state=request["seed"], source=name, progress=tell
    )
    _write(folder / "report.html", answer.to_html())
    _write(folder / "report.json", answer.to_json() + "\n")
    return answer.verdict


def _claim(folder: Path, request: dict[str, Any]) -> str:
    """Run a claim, record what came out, and return it as text."""
    from lodim.claims import run_claim

    print(f"lodim claims run {request['name']} --seed {request['seed']}", flush=True)
    tell = _teller(folder, log=True)
    result = run_claim(request["name"], "laptop", request["seed"], request["evidence"], progress=tell)
    print(result, flush=True)
    if result.verdict == "skipped":
        return f"It could not run here: {result.message}"
    _write(folder / "report.json", result.to_json() + "\n")
    return f"It broke: {result.message}" if result.verdict == "error" else result.verdict


_KINDS: dict[str, Callable[[Path, dict[str, Any]], str]] = {"profile": _profile, "claim": _claim}


def _in_words(error: Exception, folder: Path, request: dict[str, Any]) -> str:
    """Return what a person should read: the user's name of the file in place of ours, the form's words for options."""
    text = str(error)
    if isinstance(error, MemoryError) or "can't allocate memory" in text:  # the latter: torch's RuntimeError
        return "This needs more memory than a job may take. Give fewer rows or columns."
    if not isinstance(error, (ValueError, TypeError, OSError, ImportError)):
        text = f"Something inside lodim went wrong ({type(error).__name__}: {text}). The log has the details."
    if request.get("file"):
        text = text.replace(str(folder / request["file"]), request["name"]).replace(
            request["file"], request["name"]
        )
    for python, form in _SPELLINGS:
        text = text.replace(python, form)
    return text if text.startswith(request["name"]) else text[:1].upper() + text[1:]


def main(argument: str) -> int:
    """Do the job of a folder, leave ``outcome.json`` there, and return the exit code: 0 done, 1 not."""
    _end_with_parent()
    folder = Path(argument)
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    _write(folder / "progress.json", json.dumps({"done": 0.0, "text": "loading the libraries"}))
    os.environ.setdefault("OMP_NUM_THREADS", str(min(_MOST_THREADS, os.cpu_count() or 1)))
    import lodim.datasets.named  # noqa: F401  (OpenBLAS waits for ever where it may not have its buffers)

    _limit(job["memory"])
    warnings.showwarning = lambda message, *_, **__: print(f"Warning: {message}", flush=True)
    error: str | None = None
    summary = ""
    try:
        summary = _KINDS[job["kind"]](folder, job["request"])
    except Exception as problem:
        if not isinstance(problem, (ValueError, TypeError, OSError, ImportError, MemoryError)):
            traceback.print_exc()
        error = _in_words(problem, folder, job["request"])
    _write(folder / "outcome.json", json.dumps({"error": error, "summary": summary}))
    return 0 if error is None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
