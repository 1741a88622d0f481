"""One training step of a FLoRA-adapted convolution against PEFT's LoRA on the same layer at equal trained numbers.

Both train adapters only, the input needs a gradient as inside a network, one thread, all variants interleaved; the
ratio that counts is that of the minima. ``materialize`` and ``chain`` are FLoRA's two forms, ``auto`` the one it
chooses. A second table: inference of the merged layer against the plain one, and of the adapted layer before merging.
Run ``python benchmarks/flora.py`` (extra ``lm``).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from _harness import Row, Target, compare, publish
from torch import nn

from lodim.landscape import FLoRAConv2d, FLoRALinear, ranks_for_budget
from lodim.landscape.flora import FLoRALayer

# out, in, kernel, batch, height and width, LoRA's rank
CONVOLUTIONS = (
    (64, 32, 3, 128, 12, 8),
    (64, 64, 3, 32, 16, 8),
    (128, 128, 3, 16, 16, 8),
    (256, 256, 3, 8, 8, 8),
)
LINEAR = (768, 768, 512, 8)  # out, in, rows, LoRA's rank


def step(module: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=1e-4)

    def run() -> None:
        optimizer.zero_grad()
        module(x).square().mean().backward()
        optimizer.step()

    return run


def lora(layer: nn.Module, rank: int) -> tuple[nn.Module, int]:
    import peft

    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=["0"])
    adapted = peft.inject_adapter_in_model(config, nn.Sequential(layer))
    return adapted[0], sum(p.numel() for p in adapted.parameters() if p.requires_grad)


def conv(out: int, channels: int, kernel: int) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(out_channels=out, in_channels=channels, kernel_size=kernel, padding=kernel // 2)


def training(
    kind: type[FLoRALayer], make: Callable[[], nn.Module], x: torch.Tensor, rank: int, group: str, rounds: int
) -> list[Row]:
    peer, numbers = lora(make(), rank)
    ranks = ranks_for_budget(tuple(make().weight.shape), numbers)
    cases = {"PEFT LoRA": step(peer, x)}
    for form in ("auto", "materialize", "chain"):
        cases[form] = step(kind(make(), ranks, form=form, random_state=0), x)
    group += f", {numbers:,} numbers: rank {rank} against {ranks}"
    return compare(
        cases, reference="PEFT LoRA", targets={"auto": Target(1.15)}, group=group, rounds=rounds, warmup=5
    )


def inference(rounds: int) -> list[Row]:
    out, channels, kernel, batch, size, _ = CONVOLUTIONS[2]
    x = torch.randn(batch, channels, size, size)
    merged, aside = (
        FLoRAConv2d(conv(out, channels, kernel), (16, 16, 3), random_state=0).eval() for _ in range(2)
    )
    merged.merge()
    plain = conv(out, channels, kernel).eval()

    def evaluate(module: nn.Module) -> Callable[[], None]:
        def run() -> None:
            with torch.no_grad():
                module(x)

        return run

    cases = {"plain": evaluate(plain), "merged": evaluate(merged), "not merged": evaluate(aside)}
    group = (
        f"inference, convolution {channels} to {out}, {kernel} x {kernel}, batch {batch} of {size} x {size}"
    )
    return compare(
        cases, reference="plain", targets={"merged": Target(1.02)}, group=group, rounds=2 * rounds, warmup=5
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=31)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows: list[Row] = []
    for out, channels, kernel, batch, size, rank in CONVOLUTIONS:
        x = torch.randn(batch, channels, size, size, requires_grad=True)
        group = (
            f"step, convolution {channels} to {out}, {kernel} x {kernel}, batch {batch} of {size} x {size}"
        )
        rows += training(
            FLoRAConv2d, lambda s=(out, channels, kernel): conv(*s), x, rank, group, arguments.rounds
        )
    out, width, n, rank = LINEAR
    x = torch.randn(n, width, requires_grad=True)
    group = f"step, linear layer {width} to {out}, {n} rows"
    rows += training(FLoRALinear, lambda: nn.Linear(width, out), x, rank, group, arguments.rounds)
    rows += inference(arguments.rounds)
    notes = ["LoRA and FLoRA train equal numbers (FLoRA at most as many); 'auto' is the default form"]
    publish("flora", rows, packages=("torch", "peft"), notes=notes)


if __name__ == "__main__":
    main()
