"""Measure what importing costs and fail when it is over budget.

    python tools/import_budget.py            # medians of 9 fresh interpreters each

``import lodim`` is measured as the time inside the interpreter (its start-up is not ours), ``lodim --help`` as a
person feels it, start-up included. The budgets are seconds of a machine on which a fresh interpreter takes
``YARDSTICK_SECONDS`` to import a fixed part of the standard library; that import is timed in turn with ours, so that
a slower machine, or another process's load, stretches the budgets as it stretches the seconds.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

BUDGETS = {"import lodim": 0.1, "lodim --help": 0.5}  # seconds, where the yardstick takes as long as below
YARDSTICK_SECONDS = 0.13
REPEATS = 9

_YARDSTICK = "import asyncio, email.message, http.client, unittest.mock"
_IMPORT = "import time; t = time.perf_counter(); import lodim; print(time.perf_counter() - t)"
_HELP = "import sys; sys.argv = ['lodim', '--help']; from lodim.cli import main; main()"


def _import_seconds() -> float:
    done = subprocess.run([sys.executable, "-c", _IMPORT], capture_output=True, text=True, check=True)
    return float(done.stdout)


def _whole_seconds(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return time.perf_counter() - start


def main() -> int:
    """Print the medians beside their budgets; return 1 if one is over."""
    measures = {
        "yardstick": lambda: _whole_seconds(_YARDSTICK),
        "import lodim": _import_seconds,
        "lodim --help": lambda: _whole_seconds(_HELP),
    }
    seconds: dict[str, list[float]] = {name: [] for name in measures}
    for measure in measures.values():
        measure()  # writes the bytecode
    for _ in range(REPEATS):
        for name, measure in measures.items():
            seconds[name].append(measure())
    medians = {name: statistics.median(values) for name, values in seconds.items()}

    # Never below 1: on a machine faster than the yardstick's the budgets are what they say.
    slowness = max(1.0, medians["yardstick"] / YARDSTICK_SECONDS)
    print(f"this machine now: {slowness:.2f} times the seconds of the budgets' machine")
    over = False
    for name, budget in BUDGETS.items():
        late = medians[name] > budget * slowness
        over |= late
        print(
            f"{name:<14} {medians[name]:6.3f} s  (budget {budget * slowness:.2f} s){'  OVER BUDGET' if late else ''}"
        )
    return int(over)


if __name__ == "__main__":
    sys.exit(main())
