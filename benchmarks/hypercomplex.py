"""Hypercomplex layers against the ordinary ones of the same sizes: a training step, an evaluation, a single sample.

One thread, float32. The convolution is 256 to 256 channels, 3 x 3, n = 4, on 32 images of 16 x 16. Beside it stands the
same layer with its kernel formed in the obvious way, n Kronecker products added up, at every call. The wide linear
layers are timed on a few samples, where reading the weight is all the work. Run ``python benchmarks/hypercomplex.py``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from _harness import Row, Target, compare, publish
from torch import Tensor, nn

from lodim.landscape import PHConv2d, PHMLinear


class KroneckerConv2d(PHConv2d):
    """The same convolution with all n products formed, then added, whether or not anything has changed."""

    def forward(self, x: Tensor) -> Tensor:
        products = torch.einsum("nac,nuvhw->naucvhw", self.A, self.F)
        weight = products.sum(0).reshape(self.out_channels, self.in_channels, *self.kernel_size)
        return nn.functional.conv2d(x, weight, self.bias, padding=self.padding)


def step(layer: nn.Module, x: Tensor) -> Callable[[], None]:
    ones = torch.ones_like(layer(x))

    def run() -> None:
        layer.zero_grad()
        layer(x).backward(ones)

    return run


def convolution() -> list[Row]:
    x = torch.randn(32, 256, 16, 16, generator=torch.Generator().manual_seed(0))
    ours, products = PHConv2d(256, 256, 3, 4, padding=1), KroneckerConv2d(256, 256, 3, 4, padding=1)
    products.load_state_dict(ours.state_dict())
    theirs = nn.Conv2d(256, 256, 3, padding=1)
    torch.testing.assert_close(ours(x), products(x), rtol=1e-4, atol=1e-4)
    layers = {"nn.Conv2d": theirs, "PHConv2d": ours, "sum of Kronecker products": products}
    rows = compare(
        {name: step(layer, x) for name, layer in layers.items()},
        reference="nn.Conv2d",
        targets={"PHConv2d": Target(1.10)},
        group="training step, 256-256, 3x3, n=4, 32 images 16x16",
        rounds=31,
    )
    for layer in layers.values():
        layer.eval()
    with torch.no_grad():
        rows += compare(
            {name: lambda layer=layer: layer(x) for name, layer in layers.items()},
            reference="nn.Conv2d",
            targets={"PHConv2d": Target(1.02)},
            group="evaluation, the same",
            rounds=151,
        )
    return rows


def dense(width: int, samples: int, n: int = 4) -> list[Row]:
    x = torch.randn(samples, width, generator=torch.Generator().manual_seed(0))
    ours, theirs = PHMLinear(width, width, n).eval(), nn.Linear(width, width)
    with torch.no_grad():
        cases = {
            "nn.Linear": lambda: theirs(x),
            "PHMLinear": lambda: ours(x),
            "PHMLinear, weight formed and kept": lambda: nn.functional.linear(x, ours.weight, ours.bias),
        }
        group = f"evaluation, linear {width}-{width}, n={n}, {samples} sample(s)"
        return compare(cases, reference="nn.Linear", group=group, rounds=61)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = convolution()
    for width, samples in ((512, 1), (512, 64), (2048, 1), (4096, 1), (4096, 16), (4096, 256)):
        rows += dense(width, samples)
    publish("hypercomplex", rows, packages=("torch",))


if __name__ == "__main__":
    main()
