"""What one call is worth: a marginal against chains of calls, and one batch of a step against separate calls.

* D = 256 binary variables, 64 partial configurations, half of them observed: one call of the marginal network against
  one chain of the conditional network along a random order, two residual networks of the same size.
* What the call costs in accuracy: the 4 x 4 lattice after a short training, mean error of 500 log-marginals by one call
  and by one chain, against enumeration; the gap may be 0.1 nats.
* D = 16: the marginal network's calls of a training step (before, after, whole, nothing) in one batch against four
  calls, with gradients; 16 rows, where overhead counts, and 128.

The peer is the any-order autoregressive chain of the same library; the authors' code is no package.
"""

from __future__ import annotations

import argparse

import torch
from _harness import Target, compare, publish

from lodim.discrete.marginalization_models import IsingModel, MarginalizationModel, fit_energy
from lodim.discrete.masked_diffusion import MaskedDiffusion
from lodim.nets import ResidualMLP
from lodim.randomness import build_seeded

GAP = 0.1


def queries(rows: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    return torch.randint(2, (rows, length), generator=draws), torch.rand(rows, length, generator=draws) < 0.5


def model_of(length: int, width: int, depth: int, tie: bool = False) -> MarginalizationModel:
    def net(n_out: int) -> ResidualMLP:
        return build_seeded(lambda: ResidualMLP(3, length, n_out, width, depth), 0)

    conditional = MaskedDiffusion(2, length, net(2))
    return MarginalizationModel(None, None, None if tie else net(1), conditional, tie=tie, random_state=0)


def accuracy(steps: int) -> None:
    lattice, model = IsingModel(), model_of(16, 128, 2, tie=True)
    fit_energy(model, lattice.log_f, steps=steps, random_state=0)
    x, observed = lattice.gibbs_samples(500, 50, random_state=0), queries(500, 16)[1]
    truth = lattice.exact_log_marginal(x, observed)
    one = float((model.log_prob(x, observed) - truth).abs().mean())
    chain = float((model.log_prob_orders(x, observed, n_orders=1, generator=0) - truth).abs().mean())
    verdict = "met" if one - chain <= GAP else "MISSED"
    print(
        f"mean error after {steps} steps: one call {one:.3f}, one chain {chain:.3f} nats; gap <= {GAP}: {verdict}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=1500, help="of the training behind the accuracy")
    options = parser.parse_args()
    torch.set_num_threads(1)
    accuracy(options.steps)
    model, (x, observed) = model_of(256, 256, 3), queries(64, 256)
    rows = compare(
        {
            "one call": lambda: model.log_prob(x, observed),
            "a chain": lambda: model.log_prob_orders(x, observed, n_orders=1, generator=0),
        },
        reference="a chain",
        targets={"one call": Target(1 / 100)},
        group="64 log-marginals of 256 variables",
        rounds=options.rounds,
    )
    for n in (16, 128):
        small = model_of(16, 128, 2)
        whole, seen = queries(n, 16)
        parts = [
            whole.masked_fill(~seen, 2),
            whole.masked_fill(seen, 2),
            whole,
            torch.full_like(whole[:1], 2),
        ]

        def step(together: bool, small=small, parts=parts) -> None:
            answers = [small._log_p(torch.cat(parts))] if together else [small._log_p(part) for part in parts]
            torch.cat(answers).square().mean().backward()

        rows += compare(
            {"one batch": lambda step=step: step(True), "four calls": lambda step=step: step(False)},
            reference="four calls",
            targets={"one batch": Target(1 / 1.5)},
            group=f"the marginal network in a step, {n} rows of 16 variables",
            rounds=10 * options.rounds,
        )
    publish("marginalization_models", rows, packages=("torch",))


if __name__ == "__main__":
    main()
