"""What a training step costs when the noise of each sample is known: 128 images of 3 x 32 x 32, a U-Net, one thread.

The step is the loss, its gradient and Adam's update. The ordinary loss of diffusion is the reference; all that the
ambient one adds is two factors a sample. The consistency loss is timed too: it is expected to take 1 + children x steps
x (its samples over the batch) passes. Data and nets are the same, and the candidates run in turn.
"""

from __future__ import annotations

import argparse

import torch
from _harness import Target, compare, publish

from lodim.generative import AmbientDiffusion, Diffusion
from lodim.nets import SmallUNet
from lodim.randomness import build_seeded, torch_generator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--base", type=int, default=16, help="channels of the U-Net: few are the harder test")
    parser.add_argument("--batch", type=int, default=128)
    options = parser.parse_args()
    torch.set_num_threads(1)
    x = torch.rand(options.batch, 3, 32, 32, generator=torch_generator(0))
    noise = torch.where(torch.arange(options.batch) % 10 == 0, 0.0, 0.2).double()

    def step(kind: type[Diffusion], batch: int = options.batch, **more):
        net = build_seeded(lambda: SmallUNet(3, options.base, (1, 2), ()), 0)
        model = kind(net, (3, 32, 32), sigma_data=0.3, **more)
        optimiser = torch.optim.Adam(model.parameters())
        known = {"noise_std": noise[:batch]} if kind is AmbientDiffusion else {}

        def take() -> None:
            optimiser.zero_grad()
            model.loss(x[:batch], **known).backward()
            optimiser.step()

        return take

    rows = compare(
        {
            "diffusion": step(Diffusion),
            **{
                f"ambient, {policy}": step(AmbientDiffusion, policy=policy)
                for policy in ("clamp", "resample")
            },
        },
        reference="diffusion",
        targets={"ambient, clamp": Target(1.03), "ambient, resample": Target(1.03)},
        group=f"training step, {options.batch} images of 3 x 32 x 32, U-Net of {options.base} channels",
        rounds=options.rounds,
        warmup=1,
    )
    few, asked = options.batch // 4, options.batch // 32
    rows += compare(
        {
            "ambient": step(AmbientDiffusion, few),
            "with consistency": step(AmbientDiffusion, few, consistency=1.0, consistency_batch=asked),
        },
        reference="ambient",
        group=f"consistency of {asked} in {few} images, 6 children of 6 steps: {1 + 36 * asked / few:.2g} passes",
        rounds=max(2, options.rounds // 3),
    )
    publish("ambient_diffusion", rows, packages=("torch",))


if __name__ == "__main__":
    main()
