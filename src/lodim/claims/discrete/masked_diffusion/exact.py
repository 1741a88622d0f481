"""First hitting draws from the reverse process itself, in as many calls as there are places.

Four places of three tokens and a random table of conditionals, which belong to no joint law, so that the order counts.
The law of the reverse process is enumerated: the mean over all 24 orders of the chain rule. Distances are in total
variation, of 40,000 draws; the floor is the mean of twenty samples, as large, of the law itself.

Ranges, set before anything was run, from an independent prototype: first hitting 0.0149 where the floor was 0.0166, two
tokens a call 0.303, all at once 0.505. The floor of one sample has a deviation of 8 % of itself, so below 1.3 of them;
two tokens a call above 5. Ancestral sampling (0.159, 0.046 and 0.023 in 4, 16 and 64 steps) is a figure.

Source: K. Zheng and others, 2024, arXiv 2409.02908, section 4.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lodim.claims.result import Claim, Findings, Progress, check_between
from lodim.discrete import MaskedDiffusion
from lodim.randomness import derive_seed, torch_generator

PLACES, TOKENS, DRAWS = 4, 3, 40_000


class Table(nn.Module):
    """Conditionals by what is seen: normal logits of deviation 1.5."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        shape = (*[TOKENS + 1] * PLACES, PLACES, TOKENS)
        self.logits = 1.5 * torch.randn(shape, generator=torch_generator(seed), dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of every place."""
        return self.logits[tuple(x.T)]


def reverse_law(model: MaskedDiffusion) -> np.ndarray:
    """The law of the reverse process over all sequences."""
    x = torch.tensor([*itertools.product(range(TOKENS), repeat=PLACES)])
    orders = [*itertools.permutations(range(PLACES))]
    law = torch.stack([model.log_prob(x, torch.tensor(order)).exp() for order in orders]).mean(0)
    return (law / law.sum()).double().numpy()


def distance(counts: Any, law: Any) -> float:
    """Total variation."""
    return float(np.abs(np.asarray(counts) / DRAWS - law).sum() / 2)


def laptop(seed: int, progress: Progress) -> Findings:
    """Draw by each sampler and compare with the enumeration."""
    model = MaskedDiffusion(TOKENS, PLACES, Table(derive_seed(seed, "table")))
    law = reverse_law(model)
    rng = np.random.default_rng(derive_seed(seed, "floor"))
    floor = float(np.mean([distance(rng.multinomial(DRAWS, law), law) for _ in range(20)]))
    ways: dict[str, dict[str, Any]] = {"first hitting": {}}
    ways |= {"first hitting, two tokens a call": {"steps": 2}, "first hitting, all at once": {"steps": 1}}
    ways |= {f"ancestral, {n} steps": {"sampler": "ancestral", "steps": n} for n in (4, 16, 64)}
    found, calls = {}, {}
    for name in progress.over(ways):
        own = derive_seed(seed, name)
        drawn = model.unmask(DRAWS, generator=own, batch_size=DRAWS, **ways[name])
        codes = drawn.tokens @ TOKENS ** np.arange(PLACES)[::-1]
        found[name], calls[name] = distance(np.bincount(codes, minlength=len(law)), law), drawn.nfe
    checks = (
        check_between("first hitting, distance over the floor", found["first hitting"] / floor, 0, 1.3),
        check_between("first hitting, calls", calls["first hitting"], PLACES, PLACES),
        check_between(
            "two tokens a call, distance over the floor",
            found["first hitting, two tokens a call"] / floor, 5, 1e3,
        ),
    )  # fmt: skip
    return Findings(checks, {"distance": found, "calls": calls, "floor": floor})


CLAIM = Claim(
    name="masked-diffusion/exact-sampler",
    arxiv="2409.02908",
    statement="First hitting draws from the reverse process exactly, with one call of the network a token.",
    laptop=laptop,
    minutes=0.2,
    fast=True,
)
