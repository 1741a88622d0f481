"""What a profile of a table of so many rows and columns takes: seconds and the most memory, file by file.

    python benchmarks/size.py [--budget 10] [--dry] [--folder DIRECTORY]

Every file is written to a temporary folder (one at a time, 1.5 GB at most), ``lodim profile FILE --budget 10s`` runs on
it as a command of its own, and the operating system says how long it took and what memory it held at its peak, pages of
a memory-mapped file included. Rows lie near a curved set of six dimensions. About six minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from _harness import publish
from pyarrow import csv, parquet

COMMAND = "from lodim.cli.app import main; main()"
DIMENSION, BLOCK_VALUES = 6, 5_000_000
CASES = (
    ("npy float64", 1_000, 10),
    ("npy float64", 100_000, 10),
    ("npy float64", 10_000_000, 10),
    ("npy float64", 60_000, 784),
    ("npy uint8", 60_000, 784),
    ("npy uint8", 1_000_000, 784),
    ("csv", 10_000, 50),
    ("csv", 200_000, 50),
    ("csv", 1_000_000, 50),
    ("csv", 10_000_000, 10),
    ("parquet", 200_000, 50),
    ("parquet", 10_000_000, 10),
)


@dataclass(frozen=True)
class Measured:
    """One command: megabytes are those of the file and of the most memory, seconds those of the wall."""

    file: str
    rows: int
    columns: int
    file_mb: float
    rows_read: int
    rows_measured: int
    reading_s: float
    counted_s: float  # against the budget
    seconds: float
    peak_mb: float


def blocks(rows: int, columns: int, as_bytes: bool) -> Iterator[np.ndarray]:
    """Points near a curved set, some rows at a time; as whole numbers from 0 to 255 where they are to be bytes."""
    rng = np.random.default_rng(0)
    turn = rng.standard_normal((DIMENSION, columns), dtype=np.float32)
    step = BLOCK_VALUES // columns
    for start in range(0, rows, step):
        n = min(step, rows - start)
        X = np.tanh(rng.standard_normal((n, DIMENSION), dtype=np.float32)) @ turn
        X += 0.01 * rng.standard_normal((n, columns), dtype=np.float32)
        yield (128 + 25 * X).clip(0, 255).astype(np.uint8) if as_bytes else X


def write(path: Path, kind: str, rows: int, columns: int) -> None:
    """Write a file of one of the kinds of :data:`CASES`."""
    parts = blocks(rows, columns, kind.endswith("uint8"))
    if kind.startswith("npy"):
        array: Any = np.lib.format.open_memmap(path, "w+", kind.split()[1], (rows, columns))
        start = 0
        for part in parts:
            array[start : start + len(part)] = part
            start += len(part)
        array.flush()
        return
    names = [f"c{j}" for j in range(columns)]
    schema = pa.schema([(name, pa.float64()) for name in names])
    writer: Any = (csv.CSVWriter if kind == "csv" else parquet.ParquetWriter)(path, schema)
    with writer:
        for part in parts:
            rounded = part.astype(np.float64).round(4)
            writer.write_table(pa.table(list(rounded.T.copy()), schema=schema))


def measure(path: Path, kind: str, rows: int, columns: int, budget: int | float) -> Measured:
    """Run the command on a file in a process of its own."""
    said = path.with_suffix(".json")
    asked = ["profile", str(path), "--budget", f"{budget:g}s", "--json", str(said), "--quiet"]
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", COMMAND, *asked], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if status:
        raise RuntimeError(
            f"the command failed on {path.name}: exit code {os.waitstatus_to_exitcode(status)}"
        )
    p = json.loads(said.read_text())
    on = re.search(r"measured on ([\d,]+) of", " ".join(p["notes"]))
    return Measured(
        kind,
        rows,
        columns,
        round(path.stat().st_size / 1e6, 1),
        p["n_samples"],
        int(on[1].replace(",", "")) if on else p["n_samples"],
        round(p["timings"]["reading"], 1),
        round(p["seconds"], 1),
        round(seconds, 1),
        round(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budget", type=float, default=10.0, help="seconds")
    parser.add_argument("--folder", help="where the temporary files go")
    parser.add_argument("--dry", action="store_true", help="print the figures and keep no record")
    given = parser.parse_args()
    found = []
    for kind, rows, columns in CASES:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            path = Path(folder) / f"data.{kind.split()[0]}"
            # a process of its own, as the peak of a command starts at the memory of the process that starts it
            writing = multiprocessing.get_context("spawn").Process(
                target=write, args=(path, kind, rows, columns)
            )
            writing.start()
            writing.join()
            found.append(measure(path, kind, rows, columns, given.budget))
        print(json.dumps(asdict(found[-1])), flush=True)
    if not given.dry:
        publish(
            "size", found, packages=("numpy", "torch", "pandas", "pyarrow"), folder="reliability",
            extra={"budget": given.budget},
        )  # fmt: skip


if __name__ == "__main__":
    main()
