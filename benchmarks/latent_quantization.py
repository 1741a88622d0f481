"""The filter's latency beside one forward of a classifier of comparable size, and beside a search in latent space.

Run ``python benchmarks/latent_quantization.py``. The filter has the paper's networks; the peers are the compared nets A
(about 23 million multiplications an image) and C (42; the filter has 61). The search is the defence that looks for the
decoder's image nearest to the input: 200 steps of Adam from each of 10 starts, on the filter's own decoder. Weights are
random, which does not change the work.
"""

from __future__ import annotations

import torch
from _harness import Target, compare, publish

from lodim.randomness import build_seeded, torch_generator
from lodim.training import DescentRecipe, descend
from lodim.trust import LQVAE, benchmark_classifier

BATCH, FEW, STEPS, STARTS = 256, 2, 200, 10


def main() -> None:
    torch.set_num_threads(1)
    model = build_seeded(LQVAE, 0).eval()
    nets = {kind: build_seeded(lambda kind=kind: benchmark_classifier(kind), 0).eval() for kind in "AC"}
    draws = torch_generator(0)
    x = torch.rand(BATCH, 1, 28, 28, generator=draws)

    def search() -> torch.Tensor:
        few = x[:FEW]
        z = torch.randn(STARTS, FEW, 64, generator=torch_generator(1)).requires_grad_()

        def distances() -> torch.Tensor:
            made = (model.hard_decoder(z.flatten(0, 1)) + 1) / 2
            return (made.view(STARTS, *few.shape) - few).square().flatten(2).mean(2)

        descend(lambda: distances().sum(), [z], DescentRecipe(steps=STEPS, lr=0.05))
        with torch.no_grad():
            best = distances().argmin(0)
            return (model.hard_decoder(z[best, torch.arange(FEW)]) + 1) / 2

    with torch.no_grad():
        rows = compare(
            {
                "classifier A": lambda: nets["A"](x),
                "classifier C": lambda: nets["C"](x),
                "filter": lambda: model.filter(x),
            },
            reference="classifier C",
            targets={"filter": Target(3.0)},
            group=f"{BATCH} images",
            rounds=7,
            warmup=1,
        )
        rows += compare(
            {
                f"search, {STEPS} steps x {STARTS} starts": lambda: search(),
                "filter": lambda: model.filter(x[:FEW]),
            },
            reference=f"search, {STEPS} steps x {STARTS} starts",
            targets={"filter": Target(0.01)},
            group=f"{FEW} images",
            rounds=2,
            warmup=0,
        )
    publish("latent_quantization", rows, packages=("torch",), notes=["One thread."])


if __name__ == "__main__":
    main()
