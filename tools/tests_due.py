"""Name the test files whose tests of one kind are due: those near what changed last, and every eighth of the others.

    python tools/tests_due.py slow                        # files, one a line
    python -m pytest -m slow $(python tools/tests_due.py slow)

Tests of kinds that cost much run in full while a machine idles (``make test-all``). A run of the continuous integration
takes those that a change is likeliest to break: files that hold the marker (or a conftest above them does) and were
changed themselves, or lie in the tests' folder of a source file that was, where the source file's system (the second
part of its path) is named in their path or in no test's. Changed is what the commits of the half day before the last
one touched: a session's work, however it was cut. Of the others the commit's number chooses an eighth, so that each
runs at least every eighth commit, and which ones run is settled by the commit alone. Without history all are due.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from zlib import crc32

ROOT = Path(__file__).resolve().parents[1]
HOURS, EVERY = 12, 8


def git(*arguments: str) -> str:
    """Return what git answers, nothing where it cannot."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def changed(hours: int = HOURS) -> set[str] | None:
    """Return the paths touched by the commits of the last hours before HEAD; None where history does not reach."""
    head = git("log", "-1", "--format=%ct")
    if not head or git("rev-parse", "--is-shallow-repository") == "true":
        return None
    since = int(head) - hours * 3600
    return set(git("log", f"--since={since}", "--name-only", "--no-renames", "--format=", "-m").splitlines())


def is_near(test: str, paths: set[str], tests: list[str]) -> bool:
    """Whether a test file was changed, or guards a source file that was."""
    if test in paths:
        return True
    for path in paths:
        parts = Path(path).with_suffix("").parts
        if parts[0] == "tests" and Path(path).name in ("conftest.py", "examples.py"):
            folder = str(Path(path).parent)
            if test.startswith(f"{folder}/"):
                return True
        if parts[:2] != ("src", "lodim") or len(parts) < 3:
            continue
        folder = f"tests/{parts[2]}/"
        named = [t for t in tests if t.startswith(folder) and parts[3:] and parts[3] in t]
        if test in named or (not named and (test.startswith(folder) or test == f"tests/test_{parts[2]}.py")):
            return True
    return False


def due(tests: list[str], marked: list[str], paths: set[str] | None, turn: int, every: int) -> list[str]:
    """Return the marked files that are near, and those of the others whose turn it is."""
    if paths is None:
        return marked
    return [
        test for test in marked if is_near(test, paths, tests) or crc32(test.encode()) % every == turn % every
    ]


def main() -> int:
    """Print the files; return 1 where no test has the marker."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("marker", help="slow, trains, ...")
    parser.add_argument("--every", type=int, default=EVERY, help="the share of the others; 1 takes all")
    asked = parser.parse_args()
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    texts = {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in files}
    mark = f"mark.{asked.marker}"
    folders = [
        file.parent for file in (ROOT / "tests").rglob("conftest.py") if mark in file.read_text("utf-8")
    ]
    marked = [
        name
        for name, text in texts.items()
        if mark in text or any(folder in (ROOT / name).parents for folder in folders)
    ]
    if not marked:
        print(f"no test is marked {asked.marker!r}", file=sys.stderr)
        return 1
    turn = int(git("rev-list", "--count", "HEAD") or 0)
    found = due(list(texts), marked, changed(), turn, asked.every)
    print("\n".join(found))
    print(f"{len(found)} of {len(marked)} files with tests marked {asked.marker} are due", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
