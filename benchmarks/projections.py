"""One training step through each projection against one of plain SGD, and against a published PyTorch port.

The network is 784-200-200-10 (D = 199,210), batch 128, d = 750, one thread; all variants interleaved. The ratio that
counts is that of the minima, and only inside one run. Two rows bound what any projection can reach: "wrapper only" adds
one number to all weights through ``functional_call``, "copies of v" tiles v without signs or scales. Run
``python benchmarks/projections.py``; the port (github.com/jgamper/intrinsic-dimensionality, whose package on PyPI
contains no modules) is timed when its package ``intrinsic`` is importable. ``--dense`` adds the dense kind (600 MB for
each of the two).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import torch
from _harness import Row, Target, compare, publish
from torch import Tensor, nn
from torch.func import functional_call

from lodim.sketch import make_projection

BATCH, d = 128, 750
KINDS = ("cyclic", "countsketch", "sparse", "sparse_embedding", "kron", "srht", "fastfood_block", "fastfood")
TARGETS = {
    "cyclic": Target(1.5),
    "countsketch": Target(2.5),
    "fastfood": Target(1 / 4, "port: fastfood"),
    "fastfood_block": Target(1 / 6, "port: fastfood"),
    "srht": Target(1 / 5, "port: fastfood"),
}


def network(seed: int) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = (nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10))
        return nn.Sequential(*layers)


class Produced(nn.Module):
    """The least wrapper: weights are theta0 plus a function of v, handed to the network by name."""

    def __init__(self, net: nn.Module, produce: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net = [net]
        self.names, parameters = zip(*net.named_parameters())
        self.shapes = [p.shape for p in parameters]
        self.sizes = [p.numel() for p in parameters]
        self.theta0 = torch.cat([p.detach().flatten() for p in parameters])
        self.produce, self.v = produce, nn.Parameter(torch.zeros(d))

    def forward(self, x: Tensor) -> Tensor:
        theta = (self.theta0 + self.produce(self.v)).split(self.sizes)
        weights = {n: part.view(shape) for n, part, shape in zip(self.names, theta, self.shapes)}
        return functional_call(self.net[0], weights, (x,))


def step(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def run() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    return run


def port(kinds: Sequence[str]) -> dict[str, nn.Module]:
    try:
        from intrinsic.dense import DenseWrap
        from intrinsic.fastfood import FastfoodWrap
    except ImportError:
        print("the port `intrinsic` is not importable: its rows and targets are left out")
        return {}
    wraps = {"fastfood": FastfoodWrap, "dense": DenseWrap}
    return {f"port: {k}": wraps[k](network(0), d, device="cpu") for k in kinds if k in wraps}


def setup_times(D: int, kinds: Sequence[str]) -> dict[str, float]:
    """Seconds to construct each kind, the best of five seeds."""
    best = dict.fromkeys(kinds, float("inf"))
    for seed in range(5):
        for kind in kinds:
            start = time.perf_counter()
            make_projection(kind, D, d, seed=seed)
            best[kind] = min(best[kind], time.perf_counter() - start)
    return best


def training_steps(kinds: Sequence[str], rounds: int) -> list[Row]:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(BATCH, 784, generator=generator), torch.randint(0, 10, (BATCH,), generator=generator)
    D = sum(p.numel() for p in network(0).parameters())
    models: dict[str, nn.Module] = {
        "plain": network(0),
        "wrapper only": Produced(network(0), lambda v: v[0]),
        "copies of v": Produced(network(0), lambda v: v.repeat(-(-D // d))[:D]),
    }
    for kind in kinds:
        models[kind] = Produced(network(0), make_projection(kind, D, d, seed=0))
    models |= port(kinds)
    cases = {name: step(model, x, y) for name, model in models.items()}
    return compare(
        cases,
        reference="plain",
        targets=TARGETS,
        group=f"step, D={D}, d={d}, batch {BATCH}",
        rounds=rounds,
        warmup=5,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dense", action="store_true")
    parser.add_argument("--rounds", type=int, default=45)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = training_steps(KINDS, arguments.rounds)
    if arguments.dense:
        rows += training_steps(("dense",), 15)
    setup = setup_times(199_210, (*KINDS, "dense_lazy", "ams"))
    print("\nset-up, ms:", {kind: round(1e3 * seconds, 1) for kind, seconds in setup.items()})
    publish(
        "projections",
        rows,
        packages=("torch", "numpy"),
        notes=[
            "'wrapper only' and 'copies of v' bound what a projection can reach on this machine and network"
        ],
        extra={"setup_s": setup, "setup_target_s": 0.1, "setup_met": max(setup.values()) < 0.1},
    )


if __name__ == "__main__":
    main()
