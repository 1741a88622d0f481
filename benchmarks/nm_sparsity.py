"""What masks cost: a training step of a linear layer 784 to 256 with and without a pattern, batches of 128 and of 512.

Each candidate is one step: forward, backward, Adam, and the sparsifier's own step. "every 10" computes masks every
tenth step. Then the mask alone against the ways one would write it with torch: the n largest by ``topk``, by
``kthvalue``, and by a full sort.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from _harness import Row, Target, compare, publish
from torch import nn

from lodim.landscape import NMSparsifier, nm_mask
from lodim.randomness import build_seeded

WIDE, OUT, BATCHES = 784, 256, (128, 512)
PATTERNS = ((2, 4), (1, 16))


def training(recipe: str | None, n: int, m: int, batch: int, update_every: int = 1) -> Callable[[], None]:
    """Ten steps of one layer; the recipe stays in its sparse phase however long it runs."""
    net = build_seeded(lambda: nn.Sequential(nn.Linear(WIDE, OUT)), 0)
    optimizer = torch.optim.Adam(net.parameters(), fused=True)
    x = torch.randn(batch, WIDE, generator=torch.Generator().manual_seed(0))
    sparsifier = None
    if recipe is not None:
        options = {"dense_frac": 0.0, "finetune_frac": 0.0, "update_every": update_every}
        sparsifier = NMSparsifier(net, n, m, recipe, targets=["0"], total_steps=10**6, **options)

    def run() -> None:
        for _ in range(10):
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
            if sparsifier is not None:
                sparsifier.step()

    return run


def steps(n: int, m: int, batch: int, rounds: int) -> list[Row]:
    cases = {"dense": training(None, n, m, batch)}
    for recipe in ("ste", "sr-ste", "mdgf-exp"):
        cases[recipe] = training(recipe, n, m, batch)
        cases[f"{recipe}, every 10"] = training(recipe, n, m, batch, 10)
    targets = {name: Target(1.1 if name.endswith("10") else 1.5) for name in cases if name != "dense"}
    group = f"ten training steps, {OUT} x {WIDE}, batch {batch}, {n}:{m}"
    return compare(cases, reference="dense", targets=targets, group=group, rounds=rounds)


def by_topk(W: torch.Tensor, n: int, m: int) -> torch.Tensor:
    groups = W.abs().view(-1, m)
    return torch.zeros_like(groups).scatter_(1, groups.topk(n, sorted=False).indices, 1.0).view_as(W)


def by_kthvalue(W: torch.Tensor, n: int, m: int) -> torch.Tensor:
    groups = W.abs().view(-1, m)
    return (groups >= groups.kthvalue(m - n + 1, keepdim=True).values).to(W.dtype).view_as(W)


def by_sort(W: torch.Tensor, n: int, m: int) -> torch.Tensor:
    groups = W.abs().view(-1, m)
    first = groups.sort(descending=True, stable=True).indices[:, :n]
    return torch.zeros_like(groups).scatter_(1, first, 1.0).view_as(W)


def masks(n: int, m: int, rounds: int) -> list[Row]:
    W = torch.randn(OUT, WIDE - WIDE % m, generator=torch.Generator().manual_seed(0))
    ways = {"lodim": nm_mask, "topk": by_topk, "kthvalue": by_kthvalue, "sort": by_sort}
    for way in ways.values():
        assert torch.equal(way(W, n, m), nm_mask(W, n, m))
    cases = {name: lambda way=way: way(W, n, m) for name, way in ways.items()}
    return compare(cases, reference="topk", group=f"mask, {OUT} x {W.shape[1]}, {n}:{m}", rounds=rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    for batch in BATCHES:
        for n, m in PATTERNS:
            rows += steps(n, m, batch, options.rounds)
    for n, m in (*PATTERNS, (4, 8), (8, 16), (1, 32), (8, 64)):
        rows += masks(n, m, options.rounds)
    publish("nm_sparsity", rows, packages=("torch",), notes=("one thread",))


if __name__ == "__main__":
    main()
