"""Estimators of a data set's dimension against scikit-dimension, torchid, DADApy and a bare faiss search.

MNIST's 10,000 test images (784 pixels), one thread each, every library in a process of its own, rounds interleaved;
then the dearer estimators on 2,000 of them, and lodim alone on the 60,000 training images.
``python benchmarks/dimension.py --peers DIR`` looks for
environments ``DIR/<library>/bin/python`` (made by ``pip install``: scikit-dimension and faiss-cpu; torchid on Python
3.13; dadapy with ``numpy<2``) and leaves out, saying so, the libraries it does not find. "six" are TwoNN, MLE, MOM,
MADA, TLE and MiND-ML, which all but DADApy have; "eight" adds TwoNN's line fit and Gride.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from _harness import Row, Target, compare, publish

from lodim.datasets import load

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = {
    "faiss": "scikit-dimension",
    "scikit-dimension": "scikit-dimension",
    "torchid": "torchid",
    "dadapy": "dadapy",
}
FEW = ("danco", "ess", "geomle", "abide", "knn", "ph")
SHARED = ("six", "twonn", "mle", "mom", "mada", "tle", "mind", "corrint", "fishers")


class Worker:
    """A library in its own process; ``run(task)`` waits for the task's end."""

    def __init__(self, library: str, python: str | Path, data: Path) -> None:
        command = [str(python), str(HERE / "peers_dimension.py"), library, str(data)]
        quiet = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.library, self.values = library, {}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=quiet,
        )

    def task(self, name: str) -> Callable[[], None]:
        def run() -> None:
            self.process.stdin.write(name + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline().split()
            if not answer:
                raise RuntimeError(f"{self.library} ended in task {name!r}")
            self.values[name] = float(answer[1])

        return run

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def found_workers(peers: Path, data: Path) -> dict[str, Worker]:
    workers = {"lodim": Worker("lodim", sys.executable, data)}
    for library, environment in ENVIRONMENTS.items():
        python = peers / environment / "bin" / "python"
        if python.exists():
            workers[library] = Worker(library, python, data)
        else:
            print(f"left out: {library} (no {environment}/bin/python)")
    return workers


def against_faiss(workers: dict[str, Worker], rounds: int) -> list[Row]:
    cases = {
        "lodim: eight": workers["lodim"].task("eight"),
        "lodim: graph k=100": workers["lodim"].task("graph k=100"),
    }
    reference = "lodim: graph k=100"
    if "faiss" in workers:
        reference = "faiss: flat k=100"
        cases[reference] = workers["faiss"].task("flat k=100")
    if "dadapy" in workers:
        cases |= {
            f"dadapy: {t}": workers["dadapy"].task(t) for t in ("distances k=100", "twonn", "gride to 64")
        }
    targets = {"lodim: eight": Target(1.3)} if "faiss" in workers else {}
    return compare(
        cases,
        reference=reference,
        targets=targets,
        group="eight estimators and one search",
        rounds=rounds,
        warmup=1,
    )


def against_libraries(workers: dict[str, Worker], rounds: int) -> list[Row]:
    rows: list[Row] = []
    limits = {"scikit-dimension": 10, "torchid": 2}
    for task in SHARED:
        cases = {f"lodim: {task}": workers["lodim"].task(task)}
        for library in limits:
            if library in workers:
                cases[f"{library}: {task}"] = workers[library].task(task)
        targets = {}
        if task == "six" and len(cases) > 1:
            fastest = min((lib for lib in limits if lib in workers), key=lambda lib: -limits[lib])
            targets = {f"lodim: {task}": Target(1 / limits[fastest], f"{fastest}: {task}")}
        rows += compare(
            cases,
            reference=f"lodim: {task}",
            targets=targets,
            group=f"{task}, 10,000 x 784",
            rounds=rounds,
            warmup=1,
        )
    return rows


def on_few_points(workers: dict[str, Worker], rounds: int) -> list[Row]:
    """The estimators that look at more than distances, on 2,000 images; DANCo from its shipped balls."""
    cases = {f"lodim: {m}": workers["lodim"].task(f"{m} of 2,000") for m in FEW}
    if "scikit-dimension" in workers:
        cases["scikit-dimension: danco"] = workers["scikit-dimension"].task("danco of 2,000")
    return compare(
        cases, reference="lodim: danco", group="estimators of 2,000 x 784", rounds=rounds, warmup=1
    )


def alone(rounds: int) -> list[Row]:
    X = load("mnist", split="train").X.astype(np.float64)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.npy"
        np.save(path, X)
        worker = Worker("lodim", sys.executable, path)
        rows = compare(
            {"lodim: eight": worker.task("eight")},
            reference="lodim: eight",
            group="60,000 x 784",
            rounds=rounds,
            warmup=0,
        )
        worker.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, default=HERE.parent / ".env-peers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-large", action="store_true", help="leave the 60,000 images out")
    options = parser.parse_args()
    X = load("mnist", split="test").X.astype(np.float64)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "test.npy"
        np.save(path, X)
        workers = found_workers(options.peers, path)
        rows = against_faiss(workers, options.rounds) + against_libraries(workers, options.rounds)
        rows += on_few_points(workers, options.rounds)
        values = {library: worker.values for library, worker in workers.items()}
        for worker in workers.values():
            worker.close()
    if not options.without_large:
        rows += alone(1)
    sys.argv[1:] = ["--rounds", str(options.rounds)]  # the record names no folder of this machine
    publish(
        "dimension",
        rows,
        packages=("torch", "numpy"),
        notes=("every library one thread, in a process of its own; times include the pipe (microseconds)",),
        extra={"values": values},
    )


if __name__ == "__main__":
    main()
