"""Measure what importing costs and fail when it is over budget.

    python tools/import_budget.py            # medians of 9 fresh interpreters each

``import lodim`` is measured as the time inside the interpreter (its start-up is not ours), ``lodim --help`` as a
person feels it, start-up included.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

BUDGETS = {"import lodim": 0.1, "lodim --help": 0.5}  # seconds
REPEATS = 9

_IMPORT = "import time; t = time.perf_counter(); import lodim; print(time.perf_counter() - t)"
_HELP = "import sys; sys.argv = ['lodim', '--help']; from lodim.cli import main; main()"


def _import_seconds() -> float:
    done = subprocess.run([sys.executable, "-c", _IMPORT], capture_output=True, text=True, check=True)
    return float(done.stdout)


def _help_seconds() -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", _HELP], capture_output=True, check=True)
    return time.perf_counter() - start


def main() -> int:
    """Print the medians beside their budgets; return 1 if one is over."""
    over = False
    for name, measure in (("import lodim", _import_seconds), ("lodim --help", _help_seconds)):
        measure()  # writes the bytecode
        median = statistics.median(measure() for _ in range(REPEATS))
        late = median > BUDGETS[name]
        over |= late
        print(f"{name:<14} {median:6.3f} s  (budget {BUDGETS[name]:.1f} s){'  OVER BUDGET' if late else ''}")
    return int(over)


if __name__ == "__main__":
    sys.exit(main())
