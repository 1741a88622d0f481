"""Encodings on simplices against one on a grid by dimension, and the grid against torch's own interpolation.

One thread, forward and backward of 20,000 points, four levels of 16 to 256 cells a side, tables of at most 2^14 rows of
two features. "a loop" is how ports of instant-ngp to plain torch are written: level by level, corners by indexing, the
gradient left to autograd. Where a level of the plane is dense, ``torch.nn.functional.grid_sample`` on an image of the
same vertices does the same, which checks that the grid here is not slow by design. Two steps of training end the table:
a field of images, and one of volumes.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from typing import Any

import torch
from _harness import Target, compare, publish
from torch import Tensor, nn

from lodim.shapes.simplex_encoding import HashEncoding, NeuralField
from lodim.shapes.simplex_encoding.encoding import KINDS, PRIMES

POINTS, LEVELS = 20_000, 4
TARGETS = {2: 0.97, 3: 0.75, 4: 0.5}


class Loop(nn.Module):
    """A grid level by level, whose tables are those of a :class:`HashEncoding`."""

    def __init__(self, like: HashEncoding) -> None:
        super().__init__()
        self.like, self.table = like, nn.Parameter(like.table.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        d, features = self.like.in_dim, []
        corners = torch.tensor([*itertools.product((0, 1), repeat=d)])
        primes = torch.tensor(PRIMES[:d])
        begin = 2**self.like.log2_table * (LEVELS - sum(self.like.dense))
        hashed = 0
        for n, dense in zip(self.like.resolutions, self.like.dense, strict=True):
            u = n * x
            base = u.floor().clamp(max=n - 1)
            w = (u - base)[:, None]
            vertices = base.long()[:, None] + corners
            if dense:
                rows = (vertices * (n + 1) ** torch.arange(d - 1, -1, -1)).sum(2) + begin
                begin += (n + 1) ** d
            else:
                parts = vertices * primes
                mixed = parts[..., 0]
                for j in range(1, d):
                    mixed = mixed ^ parts[..., j]
                rows = mixed % 2**self.like.log2_table + hashed
                hashed += 2**self.like.log2_table
            weights = torch.where(corners == 1, w, 1 - w).prod(2)
            features.append((self.table[rows] * weights[..., None]).sum(1))
        return torch.cat(features, 1)


def back_and_forth(module: Any, x: Tensor, parameters: list[nn.Parameter]) -> Callable[[], None]:
    grad = torch.ones_like(module(x))

    def take() -> None:
        for p in parameters:
            p.grad = None
        module(x).backward(grad)

    return take


def step_of(field: NeuralField, x: Tensor) -> Callable[[], None]:
    optimiser = torch.optim.Adam(field.param_groups(), fused=True)
    y = torch.rand(len(x), field.out_dim)

    def take() -> None:
        optimiser.zero_grad()
        field.loss(x, y).backward()
        optimiser.step()

    return take


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    draws = torch.Generator().manual_seed(0)
    rows = []
    for d in range(2, 7):
        x = torch.rand(POINTS, d, generator=draws)
        made: dict[str, Any] = {
            kind: HashEncoding(d, LEVELS, n_max=256, kind=kind, random_state=0) for kind in KINDS
        }
        made["grid, a loop"] = Loop(made["grid"])
        assert torch.allclose(made["grid, a loop"](x), made["grid"](x), atol=1e-9)
        cases = {name: back_and_forth(module, x, [module.table]) for name, module in made.items()}
        targets = {"simplex": Target(TARGETS[d])} if d in TARGETS else {}
        rows += compare(
            cases,
            reference="grid",
            targets=targets,
            rounds=rounds,
            group=f"encoding, d = {d}, {POINTS:,} points",
        )
    for side in (64, 128):
        x = torch.rand(POINTS, 2, generator=draws)
        grid = HashEncoding(2, 1, n_min=side, n_max=side, kind="grid", log2_table=15, random_state=0)
        image = nn.Parameter(grid.table.detach().T.reshape(1, 2, side + 1, side + 1).clone())
        where = (2 * x - 1).flip(1)[None, None]

        def sample(_: Tensor, image: nn.Parameter = image, where: Tensor = where) -> Tensor:
            return nn.functional.grid_sample(image, where, align_corners=True)[0, :, 0].T

        assert torch.allclose(sample(x), grid(x), atol=1e-8)
        rows += compare(
            {"grid_sample": back_and_forth(sample, x, [image]), "grid": back_and_forth(grid, x, [grid.table])},
            reference="grid_sample", targets={"grid": Target(1.1)}, rounds=3 * rounds,
            group=f"one dense level of {side}^2 cells, two features",
        )  # fmt: skip
    for d, name in ((2, "image, 8 levels"), (3, "volume, 8 levels")):
        x = torch.rand(2**13, d, generator=draws)
        fields = {
            kind: NeuralField(HashEncoding(d, 8, n_max=256, kind=kind, random_state=0), 3, random_state=0)
            for kind in KINDS
        }
        rows += compare(
            {kind: step_of(field, x) for kind, field in fields.items()}, reference="grid",
            targets={"simplex": Target(1.0)}, rounds=rounds, group=f"training step, {name}, 8,192 points",
        )  # fmt: skip
    publish("simplex_encoding", rows, packages=("torch",))


if __name__ == "__main__":
    main()
