"""What simulated quantisation adds to a training step and to inference, and how fast codes are packed.

    python benchmarks/quantization.py

Ratios are to the same network in floating point. The peers' primitives do the same arithmetic: torch's fused
``fake_quantize_per_channel_affine`` and, where it is installed, torchao's ``quantize_affine`` with its inverse.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from _harness import Row, Target, compare, publish
from torch import nn

from lodim.landscape.quantization import (
    QuantRecipe,
    QuantSpec,
    calibrate,
    convert,
    dequantize_affine,
    fake_quantize,
    pack,
    prepare,
    quantize_affine,
    unpack,
    weight_qparams,
)
from lodim.nets import fc
from lodim.randomness import build_seeded, torch_generator

BATCH = 128
N_CODES = 8_000_000
INPUTS = QuantSpec(8, symmetric=False, granularity="tensor")


def images(n: int) -> torch.Tensor:
    return torch.randn(n, 784, generator=torch_generator(0))


def network() -> nn.Module:
    return build_seeded(lambda: fc(784, 10), 0)


def training_step(model: nn.Module) -> Callable[[], object]:
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    x, y = images(BATCH), torch.arange(BATCH) % 10

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    return lambda: [step() for _ in range(5)]


def training() -> list[Row]:
    both = prepare(network(), QuantRecipe(QuantSpec(4), INPUTS))
    calibrated = calibrate(both, images(BATCH))
    for layer in calibrated.modules():
        if hasattr(layer, "freeze"):
            layer.freeze()
    cases = {
        "floating point": training_step(network()),
        "4-bit weights": training_step(prepare(network(), QuantSpec(4))),
        "4-bit weights, ranges following": training_step(prepare(network(), QuantSpec(4), qat=True)),
        "4-bit weights, groups of 56": training_step(
            prepare(network(), QuantSpec(4, granularity="group", group_size=56))
        ),
        "4-bit weights, 8-bit inputs": training_step(calibrated),
    }
    targets = {name: Target(1.6) for name in cases if name != "floating point"}
    group = "five training steps of 784-200-200-10, batches of 128"
    return compare(cases, reference="floating point", targets=targets, group=group)


def calibration() -> list[Row]:
    x = images(2048)
    model = network().eval()

    @torch.no_grad()
    def infer() -> None:
        for part in x.split(256):
            model(part)

    def observing(observer: str) -> Callable[[], object]:
        spec = QuantSpec(8, symmetric=False, granularity="tensor", observer=observer)
        prepared = prepare(model, QuantRecipe(None, spec))
        return lambda: calibrate(prepared, x)

    cases: dict[str, Callable[[], object]] = {"inference": infer}
    cases |= {name: observing(name) for name in ("minmax", "moving_average", "percentile", "mse", "entropy")}
    targets = {name: Target(1.5) for name in cases if name != "inference"}
    group = "one pass over 2,048 inputs of 784-200-200-10: inference, and calibration with each observer"
    return compare(cases, reference="inference", targets=targets, group=group, rounds=25)


def inference() -> list[Row]:
    x = images(256)
    fake = convert(prepare(network(), "w4"))
    packed = convert(fake, "packed")
    model = network().eval()

    def under(module: nn.Module) -> Callable[[], object]:
        def run() -> None:
            with torch.no_grad():
                module(x)

        return run

    cases = {
        "floating point": under(model),
        "rounded": under(fake),
        "packed, decoded at each call": under(packed),
    }
    return compare(cases, reference="floating point", group="inference, 4-bit weights, batch of 256")


def primitives() -> list[Row]:
    weight, spec = torch.randn(1024, 1024, generator=torch_generator(0)), QuantSpec(8)
    scale, zero_point = weight_qparams(weight, spec)

    def there_and_back() -> Any:
        return dequantize_affine(quantize_affine(weight, scale, zero_point, spec), scale, zero_point, spec)

    cases: dict[str, Callable[[], object]] = {
        "torch, fused": lambda: torch.fake_quantize_per_channel_affine(
            weight, scale, zero_point, 0, -127, 127
        ),
        "fake_quantize": lambda: fake_quantize(weight, scale, zero_point, spec),
        "codes and back": there_and_back,
    }
    if importlib.util.find_spec("torchao"):
        from torchao.quantization import quant_primitives as peer

        def peers() -> Any:
            codes = peer.quantize_affine(weight, (1, 1024), scale, zero_point, torch.int32, -127, 127)
            return peer.dequantize_affine(codes, (1, 1024), scale, zero_point, torch.int32, -127, 127)

        cases["torchao, codes and back"] = peers
    return compare(cases, reference="torch, fused", group="a million weights by channel")


def packing() -> tuple[list[Row], dict[str, float]]:
    cases: dict[str, Callable[[], object]] = {}
    one_byte = torch.randint(0, 2, (N_CODES,), generator=torch_generator(0), dtype=torch.uint8)
    cases["copy"] = one_byte.clone
    for bits in (1, 2, 3, 4, 6, 8):
        codes = torch.randint(0, 2**bits, (N_CODES,), generator=torch_generator(bits), dtype=torch.int32)
        packed = pack(codes, bits)
        cases[f"pack {bits} bits"] = lambda codes=codes, bits=bits: pack(codes, bits)
        cases[f"unpack {bits} bits"] = lambda packed=packed, bits=bits: unpack(packed, bits, N_CODES)
    rows = compare(cases, reference="copy", group="8 million codes", rounds=15)
    return rows, {row.name: N_CODES / row.median_s / 1e6 for row in rows}


def main() -> None:
    torch.set_num_threads(1)
    rows = [*training(), *calibration(), *inference(), *primitives()]
    packed, speeds = packing()
    slowest = min(speeds, key=lambda name: speeds[name])
    note = (
        f"Slowest of packing and unpacking: {slowest}, {speeds[slowest]:.0f} million codes a second, a code counted as "
        f"one byte; the aim is 200 MB/s: {'met' if speeds[slowest] >= 200 else 'missed'}."
    )
    print(note)
    publish(
        "quantization",
        [*rows, *packed],
        packages=("torch", "torchao"),
        notes=[
            note,
            "One thread. A calibration is the pass over the data; choosing the ranges afterwards is not timed.",
        ],
        extra={"million codes a second": speeds},
    )


if __name__ == "__main__":
    main()
