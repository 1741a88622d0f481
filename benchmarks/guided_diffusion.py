"""What the denoiser core costs beyond its network: sampling, training, memory, and diffusers' pipeline beside it.

Everything runs on one thread with a SmallUNet on images of 28 x 28. *Sampling*: what each sampler does beside its
network, against the network calls that it would make. *Training*: steps of ``Diffusion.fit`` against the same steps
written by hand with torch, average of the weights included, and both loops with a loss that takes no time.
*Memory*: the highest resident memory of a fresh process that samples in few or in many steps. *Peer*: diffusers' DDIM
pipeline and ours with one UNet of theirs, if installed.
"""

from __future__ import annotations

import argparse
import copy
import resource
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from _harness import Row, Target, compare, publish
from torch import Tensor, nn

from lodim.generative import EDM, Denoiser, Diffusion, euler, from_diffusers
from lodim.generative.samplers import SAMPLERS
from lodim.nets import SmallUNet
from lodim.randomness import build_seeded, torch_generator
from lodim.training import DescentRecipe, ExponentialMovingAverage, descend

BATCH, SIDE, STEPS = 64, 28, 4
CALLS = {name: 2 * STEPS - 1 if name in ("heun", "pc") else STEPS for name in SAMPLERS}


def unet() -> nn.Module:
    return build_seeded(lambda: SmallUNet(1, 16), 0)


def images(n: int = BATCH) -> Tensor:
    return torch.randn(n, 1, SIDE, SIDE, generator=torch_generator(0))


class Nothing(nn.Module):
    """A network that takes no time, so that what is left is the sampler's own."""

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        return x


def sampling(rounds: int) -> list[Row]:
    net, x, told = unet(), images(), torch.zeros(BATCH)
    denoiser, sigmas = Denoiser(Nothing()), EDM().sigmas(STEPS)

    @torch.no_grad()
    def calls(n: int) -> None:
        for _ in range(n):
            net(x, told)

    rows: list[Row] = []
    for n in sorted({*CALLS.values()}):
        bare = f"{n} calls of the network"
        cases: dict[str, Callable[[], Any]] = {bare: lambda n=n: calls(n)}
        for name in (name for name in SAMPLERS if CALLS[name] == n):
            cases[name] = lambda name=name: SAMPLERS[name](denoiser, 80 * x, sigmas)
        targets = {name: Target(0.03) for name in cases if name != bare}
        group = f"a sampler's own time, batch {BATCH}"
        rows += compare(cases, reference=bare, targets=targets, group=group, rounds=rounds)
    return rows


def nothing(net: nn.Module) -> Tensor:
    """A loss that takes no time."""
    return torch.stack([p.mean() for p in net.parameters()]).sum()


def edm(net: nn.Module, x: Tensor) -> Tensor:
    s = (-1.2 + 1.2 * torch.randn(BATCH, 1, 1, 1)).exp()
    r2 = s**2 + 0.25
    noisy = x + s * torch.randn_like(x)
    out = net(noisy / r2.sqrt(), s.flatten().log() / 4)
    denoised = 0.25 / r2 * noisy + 0.5 * s / r2.sqrt() * out
    return (r2 / (0.5 * s) ** 2 * (denoised - x) ** 2).mean()


def by_hand(net: nn.Module, X: Tensor, steps: int, *, idle: bool = False) -> None:
    """EDM's training as one writes it down."""
    optimizer, average = torch.optim.Adam(net.parameters(), 1e-3, fused=True), copy.deepcopy(net)
    z = (X - X.mean(0)) / (2 * X.std())
    for _ in range(steps):
        x = z[torch.randint(len(z), (BATCH,))]
        loss = nothing(net) if idle else edm(net, x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 0.01)


def training(rounds: int) -> list[Row]:
    X, steps = images(4 * BATCH), 4
    net, idle, model = unet(), unet(), Diffusion(unet(), X.shape[1:])
    recipe = DescentRecipe(steps=steps, batch_size=BATCH)
    cases = {
        "by hand": lambda: by_hand(net, X, steps),
        "by hand, a loss of nothing": lambda: by_hand(net, X, steps, idle=True),
        "Diffusion.fit": lambda: model.fit(X, recipe=recipe),
        "descend, a loss of nothing": lambda: descend(
            lambda x: nothing(idle), idle, recipe, X, ema=ExponentialMovingAverage(idle, 500)
        ),
    }
    targets, group = {"Diffusion.fit": Target(1.05)}, f"{steps} training steps, batch {BATCH}"
    return compare(cases, reference="by hand", targets=targets, group=group, rounds=rounds, warmup=1)


def pipeline(rounds: int) -> list[Row]:
    """Diffusers' loop and ours around one of its networks, in as many steps."""
    try:
        from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
    except ImportError:
        print("\ndiffusers is not installed: no pipeline to compare with")
        return []
    net = build_seeded(
        lambda: UNet2DModel(
            sample_size=32, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(16, 32),
            norm_num_groups=8, down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
        ),
        0,
    ).eval()  # fmt: skip
    theirs = DDIMPipeline(net, DDIMScheduler(1000, timestep_spacing="trailing"))
    theirs.set_progress_bar_config(disable=True)
    ours, x = from_diffusers(net, theirs.scheduler), torch.randn(BATCH, 1, 32, 32)
    cases = {
        "diffusers": lambda: theirs(BATCH, num_inference_steps=8, output_type="np"),
        "lodim": lambda: euler(ours, 100 * x, ours.schedule.sigmas(8)),
    }
    group = f"8 steps of DDIM, a UNet2DModel, batch {BATCH}"
    return compare(
        cases, reference="diffusers", targets={"lodim": Target(1.05)}, group=group, rounds=rounds, warmup=1
    )


def memory(steps: int) -> float:
    """MiB at most resident in a process that samples in so many steps."""
    command = [sys.executable, __file__, "--memory", str(steps)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--memory", type=int, help="sample in so many steps and print the memory taken")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.memory:
        net = build_seeded(lambda: SmallUNet(1, 4, (1,), ()), 0)
        euler(Denoiser(net), images(1024), EDM().sigmas(options.memory))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    trained = training(options.rounds)
    whole, own, ours = (trained[i].min_s for i in (0, 1, 3))
    loop = f"the loop of descend takes {100 * (ours - own) / whole:.2g} % of a step more than one by hand (wanted: 3)"
    print(f"\n{loop}")
    rows = sampling(options.rounds) + trained + pipeline(options.rounds)
    taken = {steps: memory(steps) for steps in (5, 100)}
    print("\nhighest resident memory:", {steps: f"{mib:.0f} MiB" for steps, mib in taken.items()})
    note = ", ".join(f"{mib:.0f} MiB in {steps} steps" for steps, mib in taken.items())
    packages = ("torch", "diffusers")
    publish(
        "guided_diffusion",
        rows,
        packages=packages,
        notes=("one thread", loop, f"highest resident memory: {note}"),
    )


if __name__ == "__main__":
    main()
