"""The second half of a profile: how few trained numbers the model needs, and how short a message it becomes.

The search trains the model directly (the baseline), then inside random subspaces, until it has bracketed the least
dimension that reaches 90 % of the baseline (:class:`lodim.landscape.LandscapeDimension`). The best models of the
subspaces just above it are then rounded to codebooks of several sizes, and the shortest message whose model still
reaches the threshold is reported. For a classification each message certifies a test error; the choice among
messages, subspaces and learning rates is paid for in bits.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from lodim.datasets import Dataset, Split
from lodim.landscape import LandscapeDimension, compress_sweep
from lodim.profiling.data_part import finite
from lodim.profiling.inputs import split
from lodim.profiling.layers_part import measure_layers
from lodim.profiling.models import ModelChoice, layer_shapes
from lodim.profiling.parts import CurvePoint, LandscapePart, Message
from lodim.randomness import build_seeded, derive_seed
from lodim.training import Recipe

Progress = Callable[[float, str], Any]
LEVELS = (3, 4, 5, 7, 9, 12, 16, 24, 32)
_SEARCH_SHARE, _LAYER_SHARE = 0.87, 0.03
_EXPECTED_RUNS = 30
# A laptop's floating-point operations a second in matrix products and in convolutions, and what a step costs beside.
_DENSE, _CONVOLUTION, _STEP = 5e10, 2e10, 1.0e-3
_MANY = 50_000  # weights from which on runs are trained a few at a time
_UNEQUAL = 0.8  # from this share of the commonest class on, scores are counted from there


@dataclass(frozen=True)
class Plan:
    """How long each training run is, and where the search starts: low where runs are cheap, else nearer the answer."""

    n_train: int
    epochs: int
    d0: int = 10


def flops_per_row(module: torch.nn.Module, row: torch.Tensor) -> float:
    """Return the floating-point operations of one row's forward and backward pass."""
    from torch.utils.flop_counter import FlopCounterMode

    mode = module.training
    module.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(row)
    module.train(mode)
    return 3.0 * counter.get_total_flops()


def plan_training(
    flops: float, n_train: int, seconds: int | float, *, rate: float = _DENSE, batch_size: int = 128
) -> Plan:
    """Return epochs and training rows so that about thirty runs fit into ``seconds``.

    ``flops`` are those of one row, forward and backward; ``rate`` is in flops a second. Thirty epochs where they fit;
    then fewer, down to ten; then fewer rows, down to 1,000; then still fewer epochs. It depends on the model and the
    time allowed only, not on how fast the machine is today.
    """

    def cost(n: int, epochs: int) -> float:
        return epochs * (n * flops / rate + math.ceil(n / batch_size) * _STEP)

    allowed, n, epochs = seconds / _EXPECTED_RUNS, n_train, 30
    while cost(n, epochs) > allowed and epochs > 10:
        epochs -= 1
    while cost(n, epochs) > allowed and n > 1000:
        n = max(1000, int(0.9 * n))
    while cost(n, epochs) > allowed and epochs > 3:
        epochs -= 1
    return Plan(n, epochs)


def linear_baseline(parts: Split, kind: str | None) -> tuple[float, int]:
    """Return the validation score of a linear model and the number of its weights.

    Logistic regression for classes (ridge classification where that would be slow), ridge regression for numbers.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier

    if kind == "regression":
        model: Any = Ridge(alpha=1.0)
    elif parts.X.size * len(np.unique(parts.y)) < 1e8:
        model = LogisticRegression(max_iter=100)
    else:
        model = RidgeClassifier(alpha=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ConvergenceWarning
        )  # a hundred steps are near enough for a comparison
        model.fit(parts.X, parts.y)
    n_weights = int(np.size(model.coef_) + np.size(model.intercept_))
    return float(model.score(parts.X_val, parts.y_val)), n_weights


def chance_score(parts: Split, kind: str | None) -> float:
    """Return what the best constant answer scores on the validation rows."""
    if kind == "regression":
        return 0.0
    return float((parts.y_val == np.bincount(parts.y).argmax()).mean())


def measure_landscape(
    dataset: Dataset,
    choice: ModelChoice,
    *,
    seed: int,
    deadline: int | float,
    n_jobs: int,
    ray: str | None,
    progress: Progress,
) -> Iterator[tuple[LandscapePart, list[str]]]:
    """Measure how many numbers the model needs; yields what is known and the new notes, after each step.

    The data must have a target; ``deadline`` is a value of ``time.monotonic()``. On Ctrl-C, KeyboardInterrupt is raised
    after what was known has been yielded.
    """
    progress(0.0, "training a linear model to compare with")
    seconds = max(deadline - time.monotonic(), 1.0)
    parts, plan, notes = _prepare(dataset, choice, seed, seconds)
    chance = chance_score(parts, dataset.kind)
    floor = chance if chance >= _UNEQUAL else 0.0
    if floor:
        notes.append(
            f"The commonest class makes up {100 * chance:.0f} % of the validation rows; 90 % is counted from there."
        )
    linear = linear_baseline(parts, dataset.kind) if choice.name != "linear" else (None, None)
    base = _empty(dataset, choice, parts, chance, linear)
    yield base, notes
    build = (
        LandscapeDimension.for_regressor
        if dataset.kind == "regression"
        else LandscapeDimension.for_classifier
    )
    search = build(
        choice.make,
        parts.X,
        parts.y,
        parts.X_val,
        parts.y_val,
        image_shape=choice.image_shape,
        recipe=Recipe(epochs=plan.epochs),
        score_floor=floor,
        d0=min(plan.d0, base.n_parameters),
        n_jobs=n_jobs,
        ray=ray,
        time_budget=round(_SEARCH_SHARE * max(deadline - time.monotonic(), 1.0), 1),
        progress=lambda done, text: progress(_SEARCH_SHARE * done, text),
        random_state=derive_seed(seed, "landscape"),
    )
    ended: list[str] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they stand in the result's notes, and so in ours
            search.fit()
    except KeyboardInterrupt:
        yield _filled(base, search.partial_result())
        raise
    except ValueError as error:  # direct training learns nothing, or diverges: an answer, not a failure
        ended = [f"The search for the model's dimension ended early: {error}."]
    part, notes = _filled(base, search.partial_result())
    yield part, notes + ended
    if not part.unsolved:
        progress(_SEARCH_SHARE, "measuring the layers")
        part, notes = _with_layers(part, search, choice, parts, seed, _LAYER_SHARE * seconds, deadline)
        yield part, notes
    if part.d_int90 is not None and not part.unsolved:
        progress(_SEARCH_SHARE + _LAYER_SHARE, "rounding the model to short messages")
        yield _compressed(part, search, choice, deadline), []


def _prepare(
    dataset: Dataset, choice: ModelChoice, seed: int, seconds: float
) -> tuple[Split, Plan, list[str]]:
    """The split, shortened so that the runs fit the time, and notes about it."""
    parts = split(dataset, seed)
    n_all = len(dataset.X)
    row = torch.from_numpy(parts.X[:1]).reshape(1, *(choice.image_shape or parts.X.shape[1:]))
    module = choice.make()
    rate = _CONVOLUTION if any(p.ndim > 2 for p in module.parameters()) else _DENSE
    plan = plan_training(flops_per_row(module, row), len(parts.X), _SEARCH_SHARE * seconds, rate=rate)
    n_weights = sum(p.numel() for p in module.parameters())
    if rate == _CONVOLUTION or n_weights > _MANY:
        plan = replace(plan, d0=max(10, round(math.sqrt(n_weights) / 4)))
    if plan.n_train < len(parts.X):
        rows = _leading(
            parts.y if dataset.kind == "classification" else np.zeros(len(parts.y), int), plan.n_train
        )
        parts = replace(parts, X=parts.X[rows], y=parts.y[rows])
    used = len(parts.X) + len(parts.X_val)
    notes = []
    if used < n_all:
        notes.append(
            f"The model was trained on {len(parts.X):,} and scored on {len(parts.X_val):,} of {n_all:,} rows."
        )
    if plan.epochs < 30:
        notes.append(
            f"Each run was {plan.epochs} passes long, so that the search fits into the time allowed."
        )
    return parts, plan, notes


def _leading(codes: np.ndarray, n: int) -> np.ndarray:
    """The first rows of every class, about ``n`` in all and at least one of each."""
    share = n / len(codes)
    keep = [np.flatnonzero(codes == c) for c in np.unique(codes)]
    return np.sort(np.concatenate([rows[: max(1, round(share * len(rows)))] for rows in keep]))


def _empty(
    dataset: Dataset,
    choice: ModelChoice,
    parts: Split,
    chance: float,
    linear: tuple[float | None, int | None],
) -> LandscapePart:
    module = build_seeded(choice.make, 0)
    return LandscapePart(
        n_parameters=sum(p.numel() for p in module.parameters() if p.requires_grad),
        baseline_score=None,
        threshold_score=None,
        d_int90=None,
        interval=None,
        status="not_measured",
        model=choice.name,
        score_name="R²" if dataset.kind == "regression" else "accuracy",
        n_train=len(parts.X),
        n_val=len(parts.X_val),
        chance_score=chance,
        linear_score=linear[0],
        linear_parameters=linear[1],
        layer_shapes=layer_shapes(module),
    )


def _filled(base: LandscapePart, result: Any) -> tuple[LandscapePart, list[str]]:
    """The part with what the search has found, and the search's notes as sentences."""
    found = result.status == "found"
    low, high = result.interval
    interval = {
        "found": (finite(low) or None, finite(high)),
        "not_reached": (finite(result.bound), None),
        "below_d_min": (None, finite(result.bound)),
    }.get(result.status)
    part = replace(
        base,
        baseline_score=finite(result.baseline_score),
        threshold_score=finite(result.threshold_score),
        d_int90=finite(result.d_int90) if found else None,
        interval=interval,
        status=result.status,
        compression_ratio=finite(result.compression_ratio) if found else None,
        curve=tuple(
            CurvePoint(r.d, r.seed, finite(r.score), finite(r.train_score), finite(r.lr))
            for r in sorted(result.kept, key=lambda r: (r.d, r.seed))
        ),
    )
    return part, list(result.notes)


def _with_layers(
    part: LandscapePart,
    search: LandscapeDimension,
    choice: ModelChoice,
    parts: Split,
    seed: int,
    seconds: float,
    deadline: int | float,
) -> tuple[LandscapePart, list[str]]:
    """The part with the dimension of the layers of the best directly trained model, and notes."""
    try:
        model = search.direct_model()
    except ValueError:  # the time ended before one was trained, which the search's notes say
        return part, []
    X = np.concatenate([parts.X, parts.X_val])
    layers, n, notes = measure_layers(
        model.cpu(),
        X.reshape(len(X), *(choice.image_shape or X.shape[1:])),
        seed=derive_seed(seed, "layers"),
        seconds=seconds,
        deadline=deadline,
    )
    return replace(part, layers=layers, n_layer_rows=n), notes


def _compressed(
    part: LandscapePart, search: LandscapeDimension, choice: ModelChoice, deadline: int | float
) -> LandscapePart:
    """The part with the messages of the models just above the threshold."""
    assert part.threshold_score is not None
    assert part.d_int90 is not None
    assert search.task is not None
    passing = {r.d for r in part.curve if r.score is not None and r.score >= part.threshold_score}
    sizes = sorted(d for d in passing if d >= part.d_int90)[:3]
    # What was chosen with the help of the training rows: d, the learning rate, the run among those at that d.
    n_rates = len({r.multiplier for r in search.partial_result().curve})
    n_runs = max((sum(r.d == d for r in part.curve) for d in sizes), default=1)
    paid = math.log2(part.n_parameters) + math.log2(n_rates * n_runs * max(len(sizes), 1))
    messages: list[Message] = []
    for d in sizes:
        if messages and time.monotonic() > deadline:
            break
        module = search.model_at(d)
        sweep = compress_sweep(
            module, choice.make, module.projection.seed, search.task, levels=LEVELS, selection_bits=paid
        )
        messages += [
            Message(
                d,
                point.levels,
                math.ceil(point.message_bits / 8),
                finite(point.score),
                finite(point.bounds.get("best")) if point.bounds else None,
            )
            for point in sweep.points
        ]
    good = [m for m in messages if m.score is not None and m.score >= part.threshold_score]
    shortest = min(good, key=lambda m: m.bytes, default=None)
    return replace(
        part,
        messages=tuple(messages),
        message_bytes=shortest.bytes if shortest else None,
        message_score=shortest.score if shortest else None,
        bound=min((m.bound for m in messages if m.bound is not None), default=None),
    )
