"""Coding rates of all groups against one Cholesky of their matrices, and a training step against its backbone.

One thread. Rates: 300 rows of 32 features, each row a group, so 300 matrices of 32 x 32. "products alone" is the one
matrix product that makes them from the memberships. Step: two views of 300 images of 14 x 14 through the default
network; the reference is the backbone's forward and backward alone, and a step has besides the heads, both Sinkhorn
scalings, all rates, their gradients and Adam. Both depend on the allocator: where freed memory goes back to the system
at once, as with glibc, page faults of temporaries cost more than the arithmetic, and the environment variables
``MALLOC_TRIM_THRESHOLD_`` and ``MALLOC_MMAP_THRESHOLD_`` at some gigabytes keep it. Run
``python benchmarks/manifold_clustering.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from _harness import Target, compare, publish
from torch.nn import functional as F

from lodim.metrics import coding_rate
from lodim.partition import MLCNet, mlc_loss, pairwise_membership, tcr_loss
from lodim.partition.manifold_clustering.net import default_backbone
from lodim.randomness import build_seeded

N, D, EPS2 = 300, 32, 0.2


def rates() -> dict[str, Callable[[], Any]]:
    """The rate of every group, forward, and its parts."""
    Z = F.normalize(torch.randn(N, D, generator=torch.Generator().manual_seed(0)))
    gamma = pairwise_membership(Z, 0.1)
    pairs = (Z[:, :, None] * Z[:, None, :]).flatten(1)
    stack = torch.eye(D) + D / EPS2 * (gamma.T @ pairs).unflatten(1, (D, D))
    expected = (2 * torch.linalg.cholesky(stack).diagonal(dim1=1, dim2=2).log().sum(1)).mean()
    torch.testing.assert_close(coding_rate(Z, EPS2, gamma), expected, rtol=1e-4, atol=0)
    return {
        "torch.linalg.cholesky": lambda: torch.linalg.cholesky(stack),
        "products alone": lambda: gamma.T @ pairs,
        "lodim": lambda: coding_rate(Z, EPS2, gamma),
    }


def steps() -> dict[str, Callable[[], Any]]:
    """One optimiser's step of either stage, and the backbone's share of it."""
    x = torch.randn(2 * N, 1, 14, 14, generator=torch.Generator().manual_seed(0))
    net = build_seeded(lambda: MLCNet(default_backbone((1, 14, 14), False), 256, D), 0)
    net.copy_head()
    adam = torch.optim.Adam(net.parameters(), lr=0.0, fused=True)

    def step(loss: torch.Tensor) -> None:
        adam.zero_grad()
        loss.backward()
        adam.step()

    def mlc() -> None:
        Z, C = (part.unflatten(0, (2, -1)) for part in net(x))
        step(mlc_loss(Z, C, eps2=EPS2, eta=0.2))

    def backbone() -> None:
        adam.zero_grad()
        net.backbone(x).square().mean().backward()

    return {
        "backbone": backbone,
        "lodim, first stage": lambda: step(tcr_loss(*net.features(x).chunk(2), eps2=EPS2)),
        "lodim, second stage": mlc,
    }


def main() -> None:
    torch.set_num_threads(1)
    rows = compare(
        rates(), reference="torch.linalg.cholesky", targets={"lodim": Target(2.0)},
        group=f"rates of {N} groups, {D} x {D}, forward", rounds=20, warmup=3,
    )  # fmt: skip
    goals = {"lodim, first stage": Target(1.5), "lodim, second stage": Target(1.5)}
    rows += compare(
        steps(),
        reference="backbone",
        targets=goals,
        group=f"step, two views of {N} images",
        rounds=20,
        warmup=3,
    )
    note = (
        "The product that makes the matrices takes longer than their factors at any speed of this processor."
    )
    publish("manifold_clustering", rows, packages=("torch",), notes=[note])


if __name__ == "__main__":
    main()
