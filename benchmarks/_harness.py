"""Interleaved timing of named callables, a table with ratios, and a JSON file under ``evidence/benchmarks``.

All candidates run once a round, in an order that changes from round to round, so that another process's load falls
on all of them alike; compare ratios inside one run, never seconds across runs. A benchmark reads

    rows = compare({"ours": f, "theirs": g}, reference="theirs", targets={"ours": Target(0.5)})
    publish("name", rows, seed=0, packages=("torch",))

and leaves a machine's description, the command, the seed and the versions beside its figures.
"""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from lodim.files import write_whole

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Target:
    """Time of a candidate divided by that of ``against`` (None: the reference) must be at most ``ratio``."""

    ratio: float
    against: str | None = None


@dataclass(frozen=True)
class Row:
    """One candidate's figures; ``ratio`` is its minimum over the reference's minimum."""

    group: str
    name: str
    median_s: float
    min_s: float
    ratio: float
    ratio_median: float
    rounds: int
    target: str | None = None
    achieved: float | None = None
    met: bool | None = None


def interleave(
    cases: Mapping[str, Callable[[], object]], *, rounds: int = 45, warmup: int = 3, seed: int = 0
) -> dict[str, list[float]]:
    """Seconds of each candidate in each round; a candidate must finish its work (synchronise) before it returns."""
    order, shuffler = list(cases), random.Random(seed)
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(warmup):
        for name in order:
            cases[name]()
    for _ in range(rounds):
        shuffler.shuffle(order)
        for name in order:
            start = time.perf_counter()
            cases[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def compare(
    cases: Mapping[str, Callable[[], object]],
    *,
    reference: str,
    targets: Mapping[str, Target] | None = None,
    group: str = "",
    rounds: int = 45,
    warmup: int = 3,
    seed: int = 0,
) -> list[Row]:
    """Time the candidates interleaved, print their table and return its rows."""
    seconds = interleave(cases, rounds=rounds, warmup=warmup, seed=seed)
    best = {name: min(times) for name, times in seconds.items()}
    middle = {name: statistics.median(times) for name, times in seconds.items()}
    rows = []
    for name in cases:
        goal = (targets or {}).get(name)
        against = (goal.against or reference) if goal else reference
        ratio = best[name] / best[reference]
        row = Row(group, name, middle[name], best[name], ratio, middle[name] / middle[reference], rounds)
        if goal and against in best:
            achieved = best[name] / best[against]
            text = f"at most {goal.ratio:.4g} x {against}"
            row = Row(*list(asdict(row).values())[:7], text, achieved, achieved <= goal.ratio)
        rows.append(row)
    print_rows(rows, reference)
    return rows


def print_rows(rows: Sequence[Row], reference: str) -> None:
    width = max(len(row.name) for row in rows)
    print(f"\n{rows[0].group or 'timings'} (ratios to {reference!r}, {rows[0].rounds} rounds)")
    print(f"{'':{width}}  {'median ms':>10} {'min ms':>10} {'min ratio':>9} {'med ratio':>9}  target")
    for row in rows:
        goal = (
            "" if row.met is None else f"{row.target}: {row.achieved:.3g}, {'met' if row.met else 'MISSED'}"
        )
        figures = (
            f"{1e3 * row.median_s:10.3f} {1e3 * row.min_s:10.3f} {row.ratio:9.3f} {row.ratio_median:9.3f}"
        )
        print(f"{row.name:{width}}  {figures}  {goal}")


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        cpu = names[0] if names else cpu
    facts = {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
    }
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
        facts |= {"torch": torch.__version__, "threads": torch.get_num_threads(), "gpu": gpu}
    return facts


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def publish(
    name: str,
    rows: Sequence[Row],
    *,
    seed: int = 0,
    packages: Sequence[str] = (),
    notes: Sequence[str] = (),
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``evidence/benchmarks/<name>.json`` (never edited by hand) and return its path."""
    record = {
        "benchmark": name,
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "seed": seed,
        "versions": {package: _version(package) for package in ("lodim", *packages)},
        "machine": machine(),
        "rows": [asdict(row) for row in rows],
        "notes": list(notes),
        **(extra or {}),
    }
    path = ROOT / "evidence" / "benchmarks" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(record, indent=1) + "\n")
    print(f"\nwritten: {path.relative_to(ROOT)}")
    return path
