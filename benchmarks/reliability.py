"""What kills, Ctrl-C, flipped bits and a full disk do to what lodim stores.

    python benchmarks/reliability.py [--dry]

Right is: nothing raised, nothing that had been finished lost, no other value than an undisturbed run gives, every
damage said, neither temporary files nor processes left behind. About six minutes on two cores; Linux.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _harness import publish
from torch import nn

from lodim.catalog.semantic import embed
from lodim.files import write_whole
from lodim.identity import content_hash
from lodim.landscape import LandscapeDimension
from lodim.nets import mlp
from lodim.parallel import JobsInterrupted, ResultStore, run_jobs
from lodim.randomness import build_seeded, torch_generator
from lodim.training import DescentRecipe, Recipe, descend

X = torch.randn(64, 8, generator=torch_generator(0))
Y = X[:, :1] * X[:, 1:2]
STORED = (np.arange(2000.0), "text, with a dimension of 17 in it", {"d": 17, "scores": [0.5, 0.25]}, None)
TEXTS = [f"text {i}" for i in range(4)]


@dataclass
class Damage:
    """How often something was done, and what came of it."""

    what: str
    tried: int = 0
    raised: int = 0
    lost: int = 0
    altered: int = 0
    silent: int = 0
    left: int = 0


# What is done


def train(folder: Path, steps: int = 400) -> Any:
    """Train a small model with all that has a state; None if it was interrupted."""
    model = build_seeded(lambda: nn.Sequential(nn.BatchNorm1d(8), nn.Dropout(0.2), mlp([8, 16, 1])), 0)
    recipe = DescentRecipe(steps=steps, batch_size=16, schedule="cosine", epoch_steps=10)
    result = descend(
        lambda x, y: (model(x) - y).square().mean(), model, recipe, (X, Y), checkpoint=folder / "run.pt"
    )
    values = torch.cat([t.double().reshape(-1) for t in model.state_dict().values()])
    return None if result.stopped == "interrupted" else values.tolist()


def search(folder: Path) -> Any:
    """Measure a dimension with two workers, whose runs are kept."""
    parts = (X.numpy(), Y[:, 0].numpy(), X.numpy(), Y[:, 0].numpy())
    found = LandscapeDimension.for_regressor(
        partial(mlp, [8, 8, 1]), *parts, recipe=Recipe(epochs=40, batch_size=16), lr=0.03, lr_grid=(1.0,), n_seeds=2,
        threshold=0.5, max_runs=12, vectorize=False, n_jobs=2, cache_dir=folder, random_state=0,
    ).fit()  # fmt: skip
    return [(r.d, r.seed, r.score, r.steps) for r in found.result_.curve]


def slow_square(x: int) -> int:
    time.sleep(0.05)
    return x * x


def jobs(folder: Path) -> Any:
    """Square numbers with two workers, and keep what was finished."""
    try:
        outcomes = run_jobs(slow_square, range(40), n_jobs=2, store=ResultStore(folder))
    except JobsInterrupted:
        return None
    return [outcome.value for outcome in outcomes]


# What goes wrong


def stopped(what: str, work: Callable[[Path], Any], n: int, number: signal.Signals) -> Damage:
    """Stop work at random moments till it has been stopped n times, letting each come to its end in between."""
    choose, found = random.Random(0), Damage(what)
    with tempfile.TemporaryDirectory() as undisturbed, tempfile.TemporaryDirectory() as place:
        answer, began = Path(place) / "answer", time.monotonic()
        _wait(_child(work, Path(undisturbed), answer))
        whole, expected, code = time.monotonic() - began, answer.read_text(), 0
        while found.tried < n:
            with tempfile.TemporaryDirectory() as folder:
                code, finished = 3, 0
                while code in (3, -number):
                    child = _child(work, Path(folder), answer)
                    if found.tried < n:
                        time.sleep(choose.uniform(0.1, 0.9) * whole)
                        os.killpg(child, number) if number == signal.SIGINT else os.kill(child, number)
                    code = _wait(child)
                    found.tried += code in (3, -number)
                    kept = [p for p in Path(folder).iterdir() if p.suffix != ".part"]
                    found.lost += len(kept) < finished
                    finished = len(kept)
                    found.left += _survivors(child)
                found.raised += code != 0
                found.altered += code == 0 and answer.read_text() != expected
                found.left += sum(p.suffix == ".part" for p in Path(folder).iterdir())
    return found


def _child(work: Callable[[Path], Any], folder: Path, answer: Path) -> int:
    """Work in a process with a group of its own, and return its number."""
    if pid := os.fork():
        return pid
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        value = work(folder)
        code = 3 if value is None else 0
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        answer.write_text(repr(value))
    except KeyboardInterrupt:
        code = 3
    except BaseException:
        traceback.print_exc()
    os._exit(code)


def _wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _survivors(group: int) -> int:
    """How many processes of a group outlive its leader, which they have some seconds to notice."""
    for _ in range(100):
        alive = [p for p in Path("/proc").iterdir() if p.name.isdigit() and _group_of(p) == group]
        if not alive:
            return 0
        time.sleep(0.1)
    return len(alive)


def _group_of(process: Path) -> int:
    try:
        state, _, group = (process / "stat").read_text().rpartition(")")[2].split()[:3]
    except OSError:
        return 0
    return 0 if state == "Z" else int(group)


def flipped(what: str, paths: list[Path], n: int, again: Callable[[], bool]) -> Damage:
    """Flip n bits, one at a time and all equally likely; ``again()`` says whether what is read is what was written."""
    choose, found, whole = random.Random(0), Damage(what), {p: p.read_bytes() for p in paths}
    for _ in range(n):
        (path,) = choose.choices(paths, [len(data) for data in whole.values()])
        damaged, bit = bytearray(whole[path]), choose.randrange(8 * len(whole[path]))
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        found.tried += 1
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                found.altered += not again()
            except Exception:
                found.raised += 1
                traceback.print_exc()
        found.silent += not any("damaged" in str(w.message) or path.name in str(w.message) for w in said)
        path.write_bytes(whole[path])
    return found


def flipped_results(n: int) -> Damage:
    with tempfile.TemporaryDirectory() as folder:
        store = ResultStore(folder)
        for number, value in enumerate(STORED):
            store.put(number, value)

        def again() -> bool:
            fresh = ResultStore(folder)
            found = [fresh.get(number) for number in range(len(STORED))]
            return all(f is None or content_hash(f.value) == content_hash(v) for f, v in zip(found, STORED))

        return flipped("a bit of a stored result flipped", sorted(Path(folder).iterdir()), n, again)


def flipped_checkpoints(n: int) -> Damage:
    with tempfile.TemporaryDirectory() as folder:
        expected = train(Path(folder), 1)

        def again() -> bool:
            same = train(Path(folder), 1) == expected
            for aside in Path(folder).glob("*.damaged*"):
                aside.unlink()
            return same

        return flipped("a bit of a checkpoint flipped", [Path(folder) / "run.pt"], n, again)


class Letters:
    """An encoder of texts that costs nothing."""

    name, dim = "letters", 24

    def encode(self, texts: Any) -> np.ndarray:
        return np.array([[hash_of(text, i) for i in range(self.dim)] for text in texts], dtype=np.float32)


def hash_of(text: str, i: int) -> int:
    return sum(ord(c) * (i + 1) for c in text) % 97


def flipped_vectors(n: int) -> Damage:
    with tempfile.TemporaryDirectory() as folder:
        expected = embed(TEXTS, Letters(), folder)
        paths = sorted(Path(folder).iterdir())
        again = lambda: np.array_equal(embed(TEXTS, Letters(), folder), expected)  # noqa: E731
        return flipped("a bit of a sentence vector flipped", paths, n, again)


def full_disk() -> Iterator[Damage]:
    """Files may not grow beyond some bytes: the system refuses the write, as it does where no room is left."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def report(folder: Path) -> bool:
        write_whole(folder / "report.json", "former" * 100)
        with _no_room(2000):
            try:
                write_whole(folder / "report.json", "new" * 10_000)
            except OSError as error:
                warnings.warn(str(error), stacklevel=1)
        return (folder / "report.json").read_text() == "former" * 100

    def results(folder: Path) -> bool:
        with _no_room(2000):
            outcomes = run_jobs(np.arange, [10, 5000, 20], store=ResultStore(folder))
        return [len(o.value) for o in outcomes] == [10, 5000, 20] and len(list(folder.iterdir())) == 2

    def training(folder: Path) -> bool:
        with tempfile.TemporaryDirectory() as elsewhere:
            expected = train(Path(elsewhere), 60)
        with _no_room(6000):
            return train(folder, 60) == expected

    for what, act in (("a report", report), ("stored results", results), ("a checkpoint", training)):
        found = Damage(f"{what} written to a full disk", 1)
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                found.altered += not act(Path(folder))
            except Exception:
                found.raised += 1
                traceback.print_exc()
            found.silent += not said
            found.left += sum(p.suffix == ".part" for p in Path(folder).iterdir())
        yield found


@contextmanager
def _no_room(room: int) -> Iterator[None]:
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, former[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, former)


def main() -> None:
    torch.set_num_threads(1)  # a forked process has none of its parent's
    with tempfile.TemporaryDirectory() as folder:
        train(Path(folder), 1)  # what torch loads at the first step is loaded once, here
    found = []
    for damage in (
        partial(stopped, "a training killed", train, 10, signal.SIGKILL),
        partial(stopped, "a search with two workers killed", search, 10, signal.SIGKILL),
        partial(stopped, "a training interrupted", train, 5, signal.SIGINT),
        partial(stopped, "jobs with two workers interrupted", jobs, 5, signal.SIGINT),
        partial(flipped_results, 4000),
        partial(flipped_checkpoints, 4000),
        partial(flipped_vectors, 4000),
    ):
        found.append(damage())
        print(found[-1], flush=True)
    for one in full_disk():
        found.append(one)
        print(one, flush=True)
    if "--dry" not in sys.argv:
        publish("damage", found, packages=("numpy", "torch"), folder="reliability")


if __name__ == "__main__":
    main()
