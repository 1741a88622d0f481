"""The survey's trade-offs on MNIST: what bits, granularity, calibration, training and mixing of bits are worth.

784-200-200-10 (199,210 weights) trained on 10,000 images for 5 epochs, three seeds. Weights only are rounded, on a
symmetric restricted grid; groups are of 56 (first layer) and 40 weights. What the survey says in words is asserted of
the means over the seeds: 8 bits are free, 4 bits nearly so, below that finer granularity and a range chosen by squared
error pay; training with the grid recovers 2 bits.

How far 2 and 3 bits fall depends on the network's initialisation more than on anything else: these weights start from
He's normal draw and keep its noise, which coarse grids destroy; from torch's default (uniform, 2.4 times narrower) 2
bits with the range of least squared error lose 1 to 2 points instead of 10. Figures below 4 bits are of this
initialisation.

Mixed precision: the Hessian's trace times the rounding error predicts which layers to spare. With three layers, the
first of which holds 79 % of the weights, the best assignment at 3 bits a weight turns out to be 3 bits everywhere, so
it cannot beat the uniform one there; that it is no worse is asserted, and so is what the prediction is for: its order
of all 64 assignments of 2, 3, 4 or 8 bits is that of their accuracies. That mixing beats uniform bits is asserted of a
network with something to mix, seven layers 784-100-...-100-10, on one grid a tensor whose range is chosen by squared
error. On min-max ranges it may win or lose: 2 bits there are so coarse that the second-order prediction fails.

Source: A. Gholami et al., 2021, arXiv 2103.13630.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from lodim.claims.landscape import problems
from lodim.claims.result import Check, Claim, Findings, Progress, check_between, check_that
from lodim.landscape.quantization import (
    QuantRecipe,
    QuantSpec,
    assign_bits,
    convert,
    finetune_quantized,
    prepare,
    quantize,
    sensitivity,
    size_report,
    sqnr_db,
)
from lodim.nets import fc
from lodim.randomness import build_seeded, derive_seed
from lodim.training import Recipe, Task, fit

GRANULARITIES = ("tensor", "channel", "group")
OBSERVERS = ("minmax", "percentile", "mse")
BITS = (8, 4, 3, 2)
CHOICES = (2, 3, 4, 8)
N_SEEDS, LR, PROBED = 3, 1e-3, 512
FIRST, GROUPS = "1", (56, 40)  # the first linear layer's name, and the groups of it and of the others


def make_model() -> nn.Module:
    """Return 784-200-200-10, D = 199,210."""
    return fc(784, 10, width=200, depth=2)


def recipe(bits: int, granularity: str, observer: str) -> QuantRecipe:
    """Return the rounding of the weights of :func:`make_model`."""

    def spec(group_size: int) -> QuantSpec:
        size = group_size if granularity == "group" else None
        return QuantSpec(bits, granularity=granularity, group_size=size, observer=observer)

    return QuantRecipe(spec(GROUPS[1]), overrides={FIRST: QuantRecipe(spec(GROUPS[0]))})


@torch.no_grad()
def accuracy(model: nn.Module, task: Task) -> float:
    """Return the accuracy on the held-out images."""
    return float(task.score(torch.cat([model(x) for x in task.X_val.split(2000)]), task.y_val))


def after_training(model: nn.Module, task: Task) -> dict[str, float]:
    """Return the accuracy with rounded weights at each width, granularity and calibration."""
    return {
        f"W{bits} {granularity} {observer}": accuracy(
            quantize(model, recipe(bits, granularity, observer)), task
        )
        for bits, granularity, observer in itertools.product(BITS, GRANULARITIES, OBSERVERS)
    }


def in_training(model: nn.Module, task: Task, epochs: int, seed: int) -> dict[str, float]:
    """Train 2-bit weights by channel from the trained network, and the float network as long."""
    prepared = prepare(model, QuantSpec(2, observer="mse"))
    finetune_quantized(prepared, task, Recipe(epochs=epochs), lr=LR, random_state=seed)
    packed = convert(prepared, "packed")
    size = size_report(packed)
    longer = build_seeded(make_model, 0)
    longer.load_state_dict(model.state_dict())
    score = fit(longer, task, Recipe(epochs=epochs), lr=LR, random_state=seed).score
    return {
        "W2 trained": accuracy(packed, task),
        "float trained on": score,
        "W2 bytes": float(size.total_bytes),
    }


def mixing(model: nn.Module, task: Task, seed: int) -> dict[str, Any]:
    """Compare bits chosen by the Hessian at 3 bits a weight with 3 bits everywhere, and predictions with accuracies."""
    spec = QuantSpec(3, granularity="tensor")
    probed = (task.X[:PROBED], task.y[:PROBED])
    found = sensitivity(model, probed, bits=CHOICES, spec=spec, random_state=seed)
    chosen = assign_bits(found, 3.0)
    predicted, scores = [], []
    for picks in itertools.product(range(len(CHOICES)), repeat=len(found.layers)):
        bits = {name: CHOICES[j] for name, j in zip(found.layers, picks, strict=True)}
        own = {name: QuantRecipe(QuantSpec(b, granularity="tensor")) for name, b in bits.items()}
        predicted.append(sum(row[j] for row, j in zip(found.omega, picks, strict=True)))
        scores.append(accuracy(quantize(model, QuantRecipe(spec, overrides=own)), task))
    return {
        "bits": dict(chosen.bits),
        "chosen": accuracy(quantize(model, chosen.recipe(spec)), task),
        "uniform": accuracy(quantize(model, spec), task),
        "rank correlation": float(spearmanr(predicted, np.negative(scores)).statistic),
    }


def make_deep() -> nn.Module:
    """Return 784-100-100-100-100-100-100-10."""
    return fc(784, 10, width=100, depth=6)


def deep_mixing(task: Task, epochs: int, seed: int) -> dict[str, Any]:
    """Compare bits chosen by the Hessian at 3 bits a weight with 3 bits everywhere, in seven layers."""
    model = build_seeded(make_deep, derive_seed(seed, "deep"))
    found: dict[str, Any] = {"float": fit(model, task, Recipe(epochs=epochs), lr=LR, random_state=seed).score}
    for observer in ("mse", "minmax"):
        spec = QuantSpec(3, granularity="tensor", observer=observer)
        probed = (task.X[:PROBED], task.y[:PROBED])
        harm = sensitivity(model, probed, bits=(2, 3, 4, 5, 6, 8), spec=spec, n_probes=400, random_state=seed)
        chosen = assign_bits(harm, 3.0)
        found[f"bits {observer}"] = dict(chosen.bits)
        found[f"chosen {observer}"] = accuracy(quantize(model, chosen.recipe(spec)), task)
        found[f"uniform {observer}"] = accuracy(quantize(model, spec), task)
    return found


def run(seed: int, progress: Progress, full: bool = False) -> Findings:
    """Train, round in 36 ways, train with 2 bits, and mix bits; over three seeds.

    In full, all 60,000 images and 20 epochs instead of 10,000 and 5, and the sentence encoder all-MiniLM-L6-v2.
    """
    n_train, epochs = (60_000, 20) if full else (10_000, 5)
    runs = []
    for i in range(N_SEEDS):
        own = derive_seed(seed, "run", i)
        task = problems.mnist(n_train, 10_000, own).task()
        model = build_seeded(make_model, derive_seed(own, "network"))
        share = progress.part(i / N_SEEDS, (i + 0.5) / N_SEEDS)
        figures: dict[str, Any] = {
            "float": fit(model, task, Recipe(epochs=epochs), lr=LR, random_state=own, progress=share).score
        }
        figures |= after_training(model, task) | in_training(model, task, epochs, own)
        figures |= {"mixed": mixing(model, task, own), "deep": deep_mixing(task, epochs, own)}
        runs.append(figures)
    means = {key: float(np.mean([r[key] for r in runs])) for key in runs[0] if key not in ("mixed", "deep")}
    checks = [*_checks(means), *_mixing_checks([r["mixed"] for r in runs], [r["deep"] for r in runs])]
    shown: dict[str, Any] = {"means": means, "runs": runs}
    if full:
        shown["sentences"] = sentence_vectors()
        checks += _sentence_checks(shown["sentences"])
    return Findings(checks, shown, NOTES)


def _checks(means: dict[str, float]) -> list[Check]:
    base = means["float"]
    worst8 = max(base - means[f"W8 {g} {o}"] for g in GRANULARITIES for o in OBSERVERS)
    checks = [
        check_between("points lost at 8 bits, the worst of nine", 100 * worst8, -100, 0.3),
        check_between(
            "points lost at 4 bits by channel, min-max", 100 * (base - means["W4 channel minmax"]), -100, 1.0
        ),
    ]
    for bits in (3, 2):
        ladder = [means[f"W{bits} {g} minmax"] for g in GRANULARITIES]
        rises = ladder[0] <= ladder[1] <= ladder[2]
        checks.append(check_that(f"{bits} bits, min-max: tensor, channel, group", ladder, "rising", rises))
        gains = [means[f"W{bits} {g} mse"] - means[f"W{bits} {g} minmax"] for g in GRANULARITIES]
        what = f"{bits} bits: accuracy gained by the range of least squared error"
        checks.append(check_that(what, gains, "none negative", min(gains) >= 0))
    lost = 100 * (base - means["W2 trained"])
    behind = 100 * (means["float trained on"] - means["W2 trained"])
    return [
        *checks,
        check_between("points lost by training 2 bits", lost, -100, 2.0),
        check_between("points behind a float network trained as long", behind, -100, 2.0),
    ]


def _mixing_checks(mixed: list[dict[str, Any]], deep: list[dict[str, Any]]) -> list[Check]:
    ahead = 100 * float(np.mean([m["chosen"] - m["uniform"] for m in mixed]))
    agreement = float(np.mean([m["rank correlation"] for m in mixed]))
    gains = [100 * (d["chosen mse"] - d["uniform mse"]) for d in deep]
    plain = [100 * (d["chosen mse"] - d["uniform minmax"]) for d in deep]
    return [
        check_between(
            "points of bits chosen by the Hessian over 3 bits everywhere, three layers", ahead, 0, 100
        ),
        check_between(
            "rank correlation of predicted harm and loss of accuracy, 64 assignments", agreement, 0.9, 1.0
        ),
        check_that("the same points, seven layers, each seed", gains, "all positive", min(gains) > 0),
        check_that("points over 3 bits everywhere on min-max ranges", plain, "all positive", min(plain) > 0),
    ]


def sentence_vectors(n_texts: int = 800) -> dict[str, float]:
    """Return the mean cosine of sentence vectors with those of the float encoder, and decibels, for some recipes."""
    from lodim.datasets import load_texts
    from lodim.nets import SentenceClassifier, tokenize

    model = build_seeded(lambda: SentenceClassifier(2), 0).eval()
    tokens = tokenize(load_texts(split="test").texts[:n_texts])
    exact = _vectors(model, tokens)
    found = {}
    for name in ("w8", "w4", "w4-group64", "w8a8-dynamic"):
        vectors = _vectors(quantize(model, name).module, tokens)
        found[f"{name} cosine"] = float(nn.functional.cosine_similarity(exact, vectors).mean())
        found[f"{name} dB"] = sqnr_db(exact, vectors)
    return found


@torch.no_grad()
def _vectors(model: Any, tokens: Tensor) -> Tensor:
    return torch.cat([model.embed(part) for part in tokens.split(64)])


def _sentence_checks(found: dict[str, float]) -> list[Check]:
    return [
        check_between("cosine of sentence vectors, 8 bits", found["w8 cosine"], 0.999, 1.001),
        check_between(
            "cosine of sentence vectors, 4 bits in groups of 64", found["w4-group64 cosine"], 0.95, 1.001
        ),
    ]


NOTES = (
    "Weights only; inputs stay in floating point. Means over three seeds, each with its own images and network.",
    "With three layers the programme's best assignment at 3 bits a weight is 3 bits everywhere: there is nothing for "
    "mixing to gain, and the check is that it loses nothing. Seven layers have something to mix.",
    "On one min-max grid a tensor, mixing in seven layers may win or lose: two bits are then so coarse that the "
    "second-order prediction fails (figures, 'chosen minmax' and 'uniform minmax').",
    "2-bit weights by channel are trained for as many epochs again; the float network trained as long is the fair "
    "comparison.",
)

CLAIM = Claim(
    name="quantization/trade-offs",
    arxiv="2103.13630",
    statement=(
        "Rounding a trained network's weights to 8 bits is free and to 4 bits nearly so; below, finer granularity and "
        "a range of least squared error pay, and training with the grid recovers 2 bits."
    ),
    laptop=run,
    full=partial(run, full=True),
    needs=("mnist",),
    full_needs=("lm",),
    minutes=1.0,
)
