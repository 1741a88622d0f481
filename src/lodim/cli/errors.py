"""What a person sees when something goes wrong: one message, an exit code, never a traceback.

====  ==========================================================
code  meaning
====  ==========================================================
0     done
1     an error inside lodim, or a claim that failed
2     bad input or a wrong option
3     something around lodim is missing: an optional library, the
      network, a server, room on the disk
130   stopped with Ctrl-C
====  ==========================================================

``LODIM_DEBUG=1`` shows the traceback instead.
"""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lodim.files import NO_ROOM

INTERNAL, BAD_INPUT, MISSING, INTERRUPTED = 1, 2, 3, 130
DEBUG_VARIABLE = "LODIM_DEBUG"
_SPELLINGS = (("missing='impute'", "--missing impute"), ("max_rows", "--max-rows"))


def say(text: str) -> None:
    """Print one line about the run on standard error."""
    print(text, file=sys.stderr, flush=True)


def _fail(text: str, code: int) -> SystemExit:
    for python, option in _SPELLINGS:
        text = text.replace(python, option)
    say(text)
    return SystemExit(code)


def _internal(error: Exception) -> SystemExit:
    return _fail(
        f"Internal error: {type(error).__name__}: {error}\n"
        f"This should not happen; {DEBUG_VARIABLE}=1 shows where it came from.",
        INTERNAL,
    )


def _described(error: Exception) -> str:
    """Return what a person should read of an error: of the system's own the file and the reason, without a number."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    named = error.filename if error.filename2 is None else error.filename2
    return error.strerror if named is None else f"{error.strerror}: {os.fsdecode(named)!r}"


def _code_of(error: Exception) -> int:
    around = isinstance(error, ImportError | ConnectionError | TimeoutError)
    return MISSING if around or getattr(error, "errno", None) in NO_ROOM else BAD_INPUT


def _show_warning(
    message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    say(f"Warning: {message}")


@contextmanager
def reported() -> Iterator[None]:
    """Run a command; what it raises becomes a message and an exit code, its warnings become lines."""
    if os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0"):
        yield
        return
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            yield
    except KeyboardInterrupt:
        raise _fail("Stopped before anything was measured.", INTERRUPTED) from None
    except (ValueError, TypeError, OSError, ImportError) as error:
        if getattr(error, "errno", None) == errno.EPIPE:  # the reader of our output has gone
            raise
        if isinstance(error, ImportError) and (error.name or "").startswith("lodim"):
            raise _internal(error) from None
        raise _fail(f"Error: {_described(error)}", _code_of(error)) from None
    except MemoryError:
        raise _fail(
            "Error: not enough memory for these data; read fewer rows (max_rows)", BAD_INPUT
        ) from None
    except Exception as error:
        if type(error).__module__.startswith(("typer", "click")):
            raise
        raise _internal(error) from None
