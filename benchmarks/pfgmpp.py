"""What a training step of PFGM++ costs over diffusion's: 512 images of 3,072 numbers, a U-Net, one thread.

The step is the loss, its gradient and Adam's update; all that differs is the kernel (one gamma draw a sample and the
stretch), which is timed alone too, against ``torch.randn`` of as many numbers. Data and nets are the same, and the
candidates run in turn.
"""

from __future__ import annotations

import argparse
import math

import torch
from _harness import Target, compare, publish

from lodim.generative import PFGMPP, PoissonKernel
from lodim.nets import SmallUNet
from lodim.randomness import build_seeded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--base", type=int, default=16, help="channels of the U-Net: few are the harder test")
    options = parser.parse_args()
    torch.set_num_threads(1)
    x = torch.rand(512, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def step(D: float):
        model = PFGMPP(
            build_seeded(lambda: SmallUNet(3, options.base, (1, 2), ()), 0), (3, 32, 32), D, sigma_data=0.3
        )
        optimiser = torch.optim.Adam(model.parameters())

        def take() -> None:
            optimiser.zero_grad()
            model.loss(x).backward()
            optimiser.step()

        return take

    rows = compare(
        {f"D = {D:g}": step(D) for D in (math.inf, 64, 2048)},
        reference="D = inf",
        targets={"D = 64": Target(1.02), "D = 2048": Target(1.02)},
        group=f"training step, 512 images of 3 x 32 x 32, U-Net of {options.base} channels",
        rounds=options.rounds,
        warmup=1,
    )
    levels = torch.ones(512, 1, 1, 1)
    kernels = {f"kernel, D = {D:g}": PoissonKernel(D) for D in (1, 64, 2048, math.inf)}
    rows += compare(
        {
            "torch.randn": lambda: torch.randn(x.shape),
            **{name: (lambda kernel=kernel: kernel(x, levels)) for name, kernel in kernels.items()},
        },
        reference="torch.randn",
        group="the noise alone, 512 x 3,072",
        rounds=8 * options.rounds,
    )
    publish("pfgmpp", rows, packages=("torch",))


if __name__ == "__main__":
    main()
