"""What damage and interruptions do to stored results and to trainings: bits flipped, processes killed, Ctrl-C.

Right is: nothing raised, no other bits at the end, every damaged file said. Run ``python benchmarks/reliability.py``.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lodim.identity import content_hash
from lodim.nets import mlp
from lodim.parallel import ResultStore
from lodim.randomness import build_seeded, torch_generator
from lodim.training import DescentRecipe, descend

X = torch.randn(64, 8, generator=torch_generator(0))
Y = X[:, :1] * X[:, 1:2]


def train(path: Path, steps: int) -> torch.Tensor | None:
    """Train a small model with all that has a state; None if it was interrupted."""
    model = build_seeded(lambda: nn.Sequential(nn.BatchNorm1d(8), nn.Dropout(0.2), mlp([8, 16, 1])), 0)
    recipe = DescentRecipe(steps=steps, batch_size=16, schedule="cosine", epoch_steps=10)
    result = descend(lambda x, y: (model(x) - y).square().mean(), model, recipe, (X, Y), checkpoint=path)
    values = torch.cat([t.double().reshape(-1) for t in model.state_dict().values()])
    return None if result.stopped == "interrupted" else values


@dataclass
class Run:
    """Like what sweeps store."""

    score: float = 0.91
    stopped: str = "steps"
    weights: dict[str, np.ndarray] = field(
        default_factory=lambda: {"w": np.linspace(0.0, 1.0, 300, dtype=np.float32)}
    )


STORED = (
    np.arange(2000.0),
    Run(),
    "text, with a dimension of 17 in it",
    {"d": 17, "scores": [0.5, 0.25]},
    None,
)


def flip_stores(folder: Path, flips: int, seed: int) -> dict[str, int]:
    """Flip one bit at a time in the files of a result store, all equally likely, and ask for their results."""
    store, rng = ResultStore(folder), np.random.default_rng(seed)
    found = {"tried": 0, "raised": 0, "altered": 0, "not said": 0}
    for number, value in enumerate(STORED):
        store.put(number, value)
    files = {number: folder / f"{content_hash(number)}.pkl" for number in range(len(STORED))}
    for _ in range(flips):
        number = int(rng.integers(len(STORED)))
        whole = files[number].read_bytes()
        damaged = bytearray(whole)
        damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        files[number].write_bytes(damaged)
        found["tried"] += 1
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                outcome = ResultStore(folder).get(number)
            except Exception:
                found["raised"] += 1
            else:
                found["altered"] += outcome is not None and content_hash(outcome.value) != content_hash(
                    STORED[number]
                )
                found["not said"] += not any(files[number].name in str(w.message) for w in said)
        files[number].write_bytes(whole)
    return found


def checkpoint_flips(n: int, seed: int) -> dict[str, int]:
    """Flip one bit at a time in the checkpoint of a finished training, all equally likely, and train again."""
    choose, found = random.Random(seed), {"tried": 0, "raised": 0, "altered": 0, "not said": 0}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.pt"
        expected = train(path, 1)
        whole = path.read_bytes()
        for _ in range(n):
            damaged, bit = bytearray(whole), choose.randrange(8 * len(whole))
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            found["tried"] += 1
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                try:
                    found["altered"] += not torch.equal(train(path, 1), expected)
                except Exception:
                    found["raised"] += 1
                    traceback.print_exc()
            kept = list(path.parent.glob("*.damaged*"))
            found["not said"] += [p.name for p in kept if p.name in str([w.message for w in said])] != [
                "run.pt.damaged"
            ]
            for p in kept:
                p.unlink()
    return found


def training_kills(n: int, seed: int) -> dict[str, int]:
    """Kill trainings at random moments till ``n`` kills have met one, and let each come to its end."""
    return _stopped(n, seed, signal.SIGKILL)


def training_interrupts(n: int, seed: int) -> dict[str, int]:
    """The same with Ctrl-C."""
    return _stopped(n, seed, signal.SIGINT)


def _stopped(n: int, seed: int, number: signal.Signals) -> dict[str, int]:
    choose, found = (
        random.Random(seed),
        {"stops": 0, "finished": 0, "failed": 0, "other bits": 0, "left behind": 0},
    )
    with tempfile.TemporaryDirectory() as folder:
        path, weights = Path(folder) / "run.pt", Path(folder) / "weights.pt"
        train(Path(folder) / "first.pt", 1)  # what torch loads at the first step is loaded once, here
        (Path(folder) / "first.pt").unlink()
        start = time.monotonic()
        _wait(_child(path, weights))
        whole = time.monotonic() - start
        expected = torch.load(weights)
        path.unlink()
        code = None
        while found["stops"] < n or code != 0:
            child = _child(path, weights)
            if found["stops"] < n:
                time.sleep(choose.uniform(0, whole / 2))
                os.kill(child, number)  # one that has ended waits for its parent, so its number is no other's
            code = _wait(child)
            if code == 0:
                found["finished"] += 1
                found["other bits"] += not torch.equal(torch.load(weights), expected)
                found["left behind"] += len(list(path.parent.iterdir())) - 2
                path.unlink()
            elif code in (3, -number):
                found["stops"] += 1
            else:
                found["failed"] += 1
                break
    return found


def _child(path: Path, weights: Path) -> int:
    """Train in a process of its own, and return its number."""
    if pid := os.fork():
        return pid
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        values = train(path, 400)
        code = 3 if values is None else 0
        if values is not None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            torch.save(values, weights)
    except KeyboardInterrupt:  # before the training, or in the middle of a write
        code = 3
    except BaseException:
        traceback.print_exc()
    os._exit(code)


def _wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    torch.set_num_threads(1)  # a forked process has none of its parent's
    rows = {
        "trainings killed": training_kills(20, seed=0),
        "trainings interrupted": training_interrupts(5, seed=0),
        "checkpoints, one bit flipped": checkpoint_flips(4000, seed=0),
    }
    with tempfile.TemporaryDirectory() as folder:
        rows["stored results, one bit flipped"] = flip_stores(Path(folder), 4000, seed=0)
    for what, found in rows.items():
        print(f"{what}: " + ", ".join(f"{name} {count:,}" for name, count in found.items()))


if __name__ == "__main__":
    main()
