"""Dense Jacobians against one automatic differentiation a pixel, and bias-free normalisation against ``BatchNorm2d``.

The Jacobian is that of a bias-free U-Net at one image of 28 x 28. The public way asks for the gradient of every pixel
in turn; products with many unit vectors at once are the same arithmetic with fewer calls, so the gain is what calls
cost: large for small nets or on a GPU, and at most what the processor has left on one thread. Run
``python benchmarks/harmonic_denoisers.py`` (``--device cuda``).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from _harness import Row, Target, compare, publish
from torch import nn

from lodim.generative.jacobian import jacobian
from lodim.nets import BiasFreeNorm2d, BiasFreeUNet
from lodim.randomness import build_seeded

SIDE, BATCH = 28, 32


def by_pixel(net: nn.Module, y: torch.Tensor) -> torch.Tensor:
    """One call of automatic differentiation for each row."""
    y = y.clone().requires_grad_()
    out = net.denoise(y).flatten()
    rows = [torch.autograd.grad(each, y, retain_graph=True)[0].flatten() for each in out]
    return torch.stack(rows)


def waits(device: str) -> Callable[[], object]:
    return torch.cuda.synchronize if device == "cuda" else lambda: None


def jacobians(width: int, depth: int, device: str, rounds: int) -> list[Row]:
    net = build_seeded(lambda: BiasFreeUNet(1, width, depth), 0).to(device)
    y = torch.randn(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).to(device)
    for _ in range(50):  # running deviations settle
        net(y)
    net.eval().requires_grad_(False)
    assert torch.allclose(jacobian(net, y)[0], by_pixel(net, y), atol=1e-4)
    done = waits(device)
    ways = {
        "a call a pixel": lambda: (by_pixel(net, y), done()),
        "lodim": lambda: (jacobian(net, y), done()),
    }
    group = f"Jacobian, {SIDE} x {SIDE}, U-Net of width {width}, depth {depth}, {device}"
    return compare(
        ways, reference="a call a pixel", targets={"lodim": Target(0.1)}, group=group, rounds=rounds, warmup=1
    )


def with_batch_norm(net: nn.Module) -> nn.Module:
    """The same U-Net with the ordinary normalisation in place of the bias-free one."""
    for part in list(net.modules()):
        for name, child in list(part.named_children()):
            if isinstance(child, BiasFreeNorm2d):
                setattr(part, name, nn.BatchNorm2d(len(child.weight)))
    return net


def steps(width: int, depth: int, device: str, rounds: int) -> list[Row]:
    x = torch.rand(BATCH, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).to(device)
    done = waits(device)

    def step(net: nn.Module) -> Callable[[], None]:
        optimizer = torch.optim.Adam(net.parameters(), fused=True)

        def run() -> None:
            optimizer.zero_grad()
            (net.denoise(x + 0.1) - x).square().sum().backward()
            optimizer.step()
            done()

        return run

    nets = {
        "nn.BatchNorm2d": with_batch_norm(BiasFreeUNet(1, width, depth)).to(device),
        "BiasFreeNorm2d": BiasFreeUNet(1, width, depth).to(device),
    }
    return compare(
        {name: step(net) for name, net in nets.items()},
        reference="nn.BatchNorm2d", targets={"BiasFreeNorm2d": Target(1.15)}, rounds=rounds,
        group=f"training step, {BATCH} images {SIDE} x {SIDE}, width {width}, depth {depth}, {device}",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    for width, depth in ((4, 1), (20, 1), (64, 2)):
        rows += jacobians(width, depth, options.device, options.rounds)
    for width, depth in ((20, 1), (64, 2)):
        rows += steps(width, depth, options.device, options.rounds)
    publish("harmonic_denoisers", rows, packages=("torch",), notes=("one thread",))


if __name__ == "__main__":
    main()
