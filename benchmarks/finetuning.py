"""What training inside a subspace adds to a step of a 22.7-million-weight text encoder, in time and memory.

The encoder is the architecture of all-MiniLM-L6-v2 (drawn afresh: speed does not depend on the weights) with a head,
batch 16 of 32 tokens, d = 256, one thread; all variants interleaved. "plain" is forward and backward of all weights,
without an optimiser; the subspaces' steps are forward, backward and the step of v. Memory is measured in a process for
each variant: the peak of the resident set in three steps less what it was before the subspace was made, in units of
the D weights (4 D bytes). Run ``python benchmarks/finetuning.py``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable

import torch
from _harness import Target, compare, publish
from torch import nn

from lodim.landscape import SubspaceModule
from lodim.nets import SentenceClassifier
from lodim.randomness import build_seeded

BATCH, LENGTH, D_SUBSPACE, CLASSES = 16, 32, 256, 8
VARIANTS = {
    "cyclic, DID": ("cyclic", None),
    "cyclic, SAID": ("cyclic", "layer"),
    "countsketch, DID": ("countsketch", None),
    "countsketch, SAID": ("countsketch", "layer"),
}
TARGET, MEMORY = 1.35, 3.0


def encoder() -> nn.Module:
    return build_seeded(lambda: SentenceClassifier(CLASSES, pretrained=False, dropout=0.0), 0)


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(1000, 30_000, (BATCH, LENGTH), generator=rng), torch.randint(
        0, CLASSES, (BATCH,), generator=rng
    )


def plain() -> Callable[[], None]:
    model, (x, y) = encoder(), inputs()

    def run() -> None:
        model.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(x), y).backward()

    return run


def inside(kind: str, said: str | None) -> Callable[[], None]:
    (x, y), model = inputs(), SubspaceModule(encoder(), D_SUBSPACE, projection=kind, said=said)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    return run


def peak(fields: tuple[str, ...] = ("VmHWM", "VmRSS")) -> list[int]:
    """Bytes of the resident set: its peak so far, and now."""
    with open("/proc/self/status") as file:
        found = dict(line.split(":", 1) for line in file if ":" in line)
    return [1024 * int(found[name].split()[0]) for name in fields]


def memory_of(variant: str) -> float:
    """Copies of the D weights that a variant adds to a model that is there, at the worst moment of three steps."""
    model, (x, y) = encoder(), inputs()
    D = sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        model(x)
    before = peak()[1]
    if variant != "plain":
        kind, said = VARIANTS[variant]
        model = SubspaceModule(model, D_SUBSPACE, projection=kind, said=said)
    with open("/proc/self/clear_refs", "w") as file:  # forget the peak of making the model
        file.write("5")
    for _ in range(3):
        model.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(x), y).backward()
    return (peak()[0] - before) / (4 * D)


def memories() -> dict[str, float]:
    found = {}
    for variant in ("plain", *VARIANTS):
        done = subprocess.run(
            [sys.executable, __file__, "--memory", variant], capture_output=True, text=True, check=True
        )
        found[variant] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--memory", choices=("plain", *VARIANTS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.memory:
        print(json.dumps(memory_of(arguments.memory)))
        return
    cases = {"plain": plain()} | {name: inside(*how) for name, how in VARIANTS.items()}
    D = sum(p.numel() for p in encoder().parameters())
    rows = compare(
        cases,
        reference="plain",
        targets=dict.fromkeys(VARIANTS, Target(TARGET)),
        group=f"step, D={D:,}, d={D_SUBSPACE}, batch {BATCH} x {LENGTH} tokens",
        rounds=arguments.rounds,
        warmup=1,
    )
    copies = memories()
    beyond = {name: copies[name] - copies["plain"] for name in VARIANTS}
    for name, value in copies.items():
        print(f"{name:20} {value:5.2f} copies of the weights beyond the model")
    publish(
        "finetuning",
        rows,
        packages=("torch", "transformers"),
        notes=[
            "memory: peak of three steps beyond the model itself, in copies of its D weights (plain: its gradients and "
            "activations); countsketch keeps 2.25 D of index tables and signs, cyclic 0.25 D of signs",
            f"target for the memory: at most {MEMORY:g} copies beyond the model, plain's activations left out",
        ],
        extra={"memory_copies": copies, "memory_beyond_plain": beyond},
    )


if __name__ == "__main__":
    main()
