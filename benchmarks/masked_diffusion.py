"""Sampling by first hitting against ancestral steps and a loop as in mdlm; the loss against a bare masked-LM step.

Sequences of 32 of 27 tokens, one thread. Weights are as they were drawn: no time depends on them. Samplers share a
network of dilated convolutions. The peer's loop, our own, does as mdlm does: Gumbel-max at every step over all places
and tokens, the mask among them, and an answer kept until a token changes. The bare step is a plain
``torch.nn.TransformerEncoder`` of the default backbone's size that guesses the half of the tokens that is hidden.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from _harness import Target, compare, publish
from torch import Tensor, nn

from lodim.discrete import MaskedDiffusion
from lodim.nets import DilatedConvNet
from lodim.randomness import build_seeded

LENGTH, TOKENS = 32, 27
# sequences, steps, and how many times as fast first hitting must be
CASES = ((192, 128, 4), (192, 1024, 20), (1, 512, 1.5))


@torch.no_grad()
def mdlm_like(net: nn.Module, n: int, steps: int, dtype: torch.dtype) -> Tensor:
    x, kept = torch.full((n, LENGTH), TOKENS), None
    for step in range(steps):
        now, then = 1 - step / steps, 1 - (step + 1) / steps
        kept = net(x).to(dtype).softmax(-1) if kept is None else kept
        q = torch.cat([kept * (now - then), torch.full((n, LENGTH, 1), then, dtype=dtype)], -1)
        race = q / -torch.rand(q.shape, dtype=dtype).log()  # its largest is that of Gumbel-max
        new = torch.where(x == TOKENS, race.argmax(-1), x)
        kept = kept if bool((new == x).all()) else None
        x = new
    return x


class Bare(nn.Module):
    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(TOKENS + 1, width), nn.Linear(width, TOKENS)
        self.positions = nn.Parameter(torch.zeros(LENGTH, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 4, nn.LayerNorm(width), enable_nested_tensor=False)

    def loss(self, x: Tensor) -> Tensor:
        hides = torch.rand(x.shape) < 0.5
        logits = self.head(self.encoder(self.embed(x.masked_fill(hides, TOKENS)) + self.positions))
        return nn.functional.cross_entropy(logits[hides], x[hides])


def step_of(model: Any, x: Tensor) -> Callable[[], None]:
    optimiser = torch.optim.Adam(model.parameters())

    def take() -> None:
        optimiser.zero_grad()
        model.loss(x).backward()
        optimiser.step()

    return take


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    net = build_seeded(lambda: DilatedConvNet(TOKENS + 1, LENGTH), 0)
    model = MaskedDiffusion(TOKENS, LENGTH, net)
    rows = []
    for n, steps, times in CASES:
        draws: dict[str, Callable[[], object]] = {
            "ancestral": partial(model.unmask, n, sampler="ancestral", steps=steps),
            "first hitting": partial(model.unmask, n),
            "as mdlm, float32": partial(mdlm_like, net, n, steps, torch.float32),
            "as mdlm, float64": partial(mdlm_like, net, n, steps, torch.float64),
        }
        rows += compare(
            draws, reference="ancestral", targets={"first hitting": Target(1 / times)},
            rounds=rounds if steps < 1000 else min(rounds, 3),  # a round takes minutes
            warmup=1, group=f"{n} sequences, ancestral in {steps:,} steps",
        )  # fmt: skip
    x = torch.randint(TOKENS, (128, LENGTH), generator=torch.Generator().manual_seed(0))
    rows += compare(
        {"bare masked-LM": step_of(Bare(), x), "MaskedDiffusion": step_of(MaskedDiffusion(TOKENS, LENGTH), x)},
        reference="bare masked-LM", targets={"MaskedDiffusion": Target(1.1)}, rounds=6 * rounds,
        group="training step, 128 sequences, transformer of 4 layers of 128",
    )  # fmt: skip
    publish("masked_diffusion", rows, packages=("torch",))


if __name__ == "__main__":
    main()
