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
from lodim.profiling.held_out import HeldOut, Judged, outputs_of
from lodim.profiling.inputs import scaled_together, split
from lodim.profiling.layers_part import measure_layers
from lodim.profiling.models import ModelChoice, layer_shapes
from lodim.profiling.parts import LEVEL, CurvePoint, LandscapePart, Message, OtherRecipe
from lodim.randomness import build_seeded, derive_seed
from lodim.training import Recipe, Task, can_vectorize

Progress = Callable[[float, str], Any]
LEVELS = (3, 4, 5, 7, 9, 12, 16, 24, 32)
SCORE_NAMES = {"accuracy": "accuracy", "auc": "AUC", "r2": "R²"}
_SEARCH_SHARE, _LAYER_SHARE = 0.87, 0.03
_PLANNED = 0.5  # of the time: a machine half as fast as planned for still gives the same answer
_RUNS, _RUNS_AS_ONE = 30, 90  # what a search takes; as one, more are made at once
# A laptop's floating-point operations a second in matrix products and in convolutions, and what a step costs beside.
_DENSE, _CONVOLUTION, _STEP, _SHARED = 5e10, 2e10, 1.0e-3, 8
_MANY = 50_000  # weights from which on runs are trained a few at a time
_PASSES = 30


@dataclass(frozen=True)
class Plan:
    """Rows, passes and runs of a search; it starts low where runs are cheap, else nearer the answer.

    A second search, where there is time for it, has half as many passes and ``other_runs`` runs (0: none).
    """

    n_train: int
    epochs: int
    max_runs: int
    other_runs: int = 0
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
    flops: float,
    n_train: int,
    seconds: int | float,
    *,
    rate: float = _DENSE,
    batch_size: int = 128,
    as_one: bool = False,
) -> Plan:
    """Return passes, training rows and runs that take about half of ``seconds`` on a laptop.

    ``flops`` are those of one row, forward and backward; ``rate`` is in flops a second; ``as_one``: many runs share
    their steps. Thirty passes where a whole search of them fits; then fewer, down to ten; then fewer rows, down to
    1,000; then still fewer passes. It depends on the model and the time allowed only, not on how fast the machine is
    today.
    """
    step, needed = (_STEP / _SHARED, _RUNS_AS_ONE) if as_one else (_STEP, _RUNS)

    def cost(n: int, epochs: int) -> float:
        return epochs * (n * flops / rate + math.ceil(n / batch_size) * step)

    total = _PLANNED * seconds
    allowed, n, epochs = total / needed, n_train, _PASSES
    while cost(n, epochs) > allowed and epochs > 10:
        epochs -= 1
    while cost(n, epochs) > allowed and n > 1000:
        n = max(1000, int(0.9 * n))
    while cost(n, epochs) > allowed and epochs > 3:
        epochs -= 1
    runs = total / cost(n, epochs)
    other = needed if epochs == _PASSES and runs >= 1.5 * needed else 0
    return Plan(n, epochs, max(needed // 2, int(runs - other / 2)), other)


def measure_landscape(
    dataset: Dataset,
    choice: ModelChoice,
    *,
    seed: int,
    seconds: int | float,
    deadline: int | float,
    n_jobs: int,
    ray: str | None,
    progress: Progress,
    layers: bool = True,
) -> Iterator[tuple[LandscapePart, list[str]]]:
    """Measure how many numbers the model needs; yields what is known and the new notes, after each step.

    The data must have a target. The work is planned for ``seconds``; ``deadline``, a value of ``time.monotonic()``,
    cuts it short on a machine that is too slow for the plan. ``layers``: whether to measure their dimension, which
    means nothing where that of the rows cannot be read from neighbours. On Ctrl-C, KeyboardInterrupt is raised after
    what was known has been yielded.
    """
    progress(0.0, "training a linear model to compare with")
    parts, plan, notes = _prepare(dataset, choice, seed, seconds)
    if len(parts.y_val) == 0 or (dataset.kind != "regression" and len(np.unique(parts.y)) < 2):
        module = build_seeded(choice.make, 0)
        yield _empty(dataset, choice, module, parts, plan), [*notes, _NOTHING_HELD_OUT]
        return
    held = HeldOut(parts, dataset.kind, seed, linear=choice.name != "linear")
    base = _empty(dataset, choice, build_seeded(choice.make, 0), parts, plan, held)
    yield base, notes
    search = _Search(choice, held, plan, seed, deadline, n_jobs, ray, min(plan.d0, base.n_parameters))
    ends = _SEARCH_SHARE * (2 / 3 if plan.other_runs else 1.0)
    try:
        ended = search.run(lambda done, text: progress(ends * done, text))
    except KeyboardInterrupt:
        yield _filled(base, search)
        raise
    part, notes = _filled(base, search)
    yield part, notes + ended
    if part.unsolved:
        return
    if layers:
        progress(ends, "measuring the layers")
        part, notes = _with_layers(part, search.found, choice, parts, seed, _LAYER_SHARE * seconds, deadline)
        yield part, notes
    if part.d_int90 is not None:
        progress(ends + _LAYER_SHARE, "rounding the model to short messages")
        part, notes = _compressed(part, search.found, choice, deadline)
        yield part, notes
    if plan.other_runs and part.status != "not_measured":  # last, as the answer stands without it
        half = replace(plan, epochs=plan.epochs // 2, max_runs=plan.other_runs)
        other = _Search(choice, held, half, seed, deadline, n_jobs, ray, search.d0, part.score_floor)
        begin = ends + 1 - _SEARCH_SHARE
        other.run(lambda done, text: progress(begin + (1 - begin) * done, text))
        part = replace(part, other_recipe=_other(other))
        yield part, [] if part.other_recipe else [_OTHER_CUT]


_NOTHING_HELD_OUT = (
    "The model was not trained: the rows are equal in nearly all classes, and equal rows are never on both sides of a "
    "split, so none could be held out."
)
_OTHER_CUT = "ATTENTION, the clock ended the search with half as many passes; it is left out."


class _Search:
    """One search for the least dimension, its baseline judged before it goes on."""

    def __init__(
        self,
        choice: ModelChoice,
        held: HeldOut,
        plan: Plan,
        seed: int,
        deadline: int | float,
        n_jobs: int,
        ray: str | None,
        d0: int,
        floor: float | None = None,
    ):
        parts = held.parts
        self.choice, self.held, self.plan, self.d0 = choice, held, plan, d0
        self.task = Task.from_arrays(
            parts.X,
            parts.y,
            parts.X_val,
            parts.y_val,
            kind="regression" if held.kind == "regression" else "classification",
            image_shape=choice.image_shape,
            score_by=held.score_by,
        )
        self.judged: Judged | None = None
        self.judges, self.floor = floor is None, floor or 0.0
        self.found = LandscapeDimension(
            choice.make,
            task=self.task,
            recipe=Recipe(epochs=plan.epochs),
            score_floor=self._settle if self.judges else self.floor,
            d0=d0,
            n_jobs=n_jobs,
            ray=ray,
            max_runs=plan.max_runs,
            time_budget=max(round(deadline - time.monotonic(), 1), 0.1),
            random_state=derive_seed(seed, "landscape"),
        )

    def run(self, progress: Progress) -> list[str]:
        """Search; returns a note where it ended early."""
        self.found.set_params(progress=progress)
        ended: list[str] = []
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # they stand in the result's notes, and so in ours
                self.found.fit()
            if self.judges and self.judged is None:  # the clock ended the baseline
                self._settle()
        except ValueError as error:  # guessing, diverging, no model in time: an answer, not a failure
            ended = [] if self.guessing else [f"The search for the model's dimension ended early: {error}."]
        return ended

    @property
    def guessing(self) -> bool:
        """Whether the baseline was judged to be what guessing reaches."""
        return self.judged is not None and self.judged.guess_p >= LEVEL

    def _settle(self) -> float:
        """Judge the baseline, and return what its 90 per cent are counted from."""
        outputs = outputs_of(self.found.direct_model(), self.held.parts.X_val, self.choice.image_shape)
        if self.task.kind == "regression":
            outputs = self.task.target_mean + self.task.target_scale * outputs
        n_runs = sum(math.isfinite(r.score) for r in self.found.direct_runs())
        self.judged = self.held.judge(outputs, n_runs)
        if self.guessing:
            raise ValueError("direct training cannot be told from guessing")
        self.floor = self.held.floor(self.found.partial_result().baseline_score)
        return self.floor


def _prepare(
    dataset: Dataset, choice: ModelChoice, seed: int, seconds: int | float
) -> tuple[Split, Plan, list[str]]:
    """The split, shortened so that the runs fit the time, and notes about it."""
    parts = split(dataset, seed)
    n_all = len(dataset.X)
    row = torch.from_numpy(parts.X[:1]).reshape(1, *(choice.image_shape or parts.X.shape[1:]))
    module = choice.make()
    rate = _CONVOLUTION if any(p.ndim > 2 for p in module.parameters()) else _DENSE
    n_weights = sum(p.numel() for p in module.parameters())
    dear = rate == _CONVOLUTION or n_weights > _MANY
    plan = plan_training(
        flops_per_row(module, row),
        len(parts.X),
        _SEARCH_SHARE * seconds,
        rate=rate,
        as_one=not dear and bool(can_vectorize(module)),
    )
    if dear:
        plan = replace(plan, d0=max(10, round(math.sqrt(n_weights) / 4)))
    if plan.n_train < len(parts.X):
        rows = _leading(
            parts.y if dataset.kind == "classification" else np.zeros(len(parts.y), int), plan.n_train
        )
        parts = replace(parts, X=parts.X[rows], y=parts.y[rows])
    if dataset.kind == "classification":  # classes without a row to train on are left out
        used, codes = np.unique(parts.y, return_inverse=True)
        parts = replace(parts, y=codes, y_val=np.searchsorted(used, parts.y_val))
    notes = []
    if len(parts.X) + len(parts.X_val) < n_all:
        notes.append(
            f"The model was trained on {len(parts.X):,} and scored on {len(parts.X_val):,} of {n_all:,} rows."
        )
    if plan.epochs < _PASSES:
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
    module: torch.nn.Module,
    parts: Split,
    plan: Plan,
    held: HeldOut | None = None,
) -> LandscapePart:
    """What is known before anything is trained."""
    part = LandscapePart(
        n_parameters=sum(p.numel() for p in module.parameters() if p.requires_grad),
        baseline_score=None,
        threshold_score=None,
        d_int90=None,
        interval=None,
        status="not_measured",
        model=choice.name,
        n_train=len(parts.X),
        n_val=len(parts.X_val),
        layer_shapes=layer_shapes(module),
        passes=plan.epochs,
        scaling="together" if scaled_together(dataset) else "each",
    )
    if held is None:
        return part
    return replace(
        part,
        score_name=SCORE_NAMES[held.score_by],
        chance_score=held.chance,
        majority=held.majority,
        linear_score=held.linear_score,
        linear_parameters=held.linear_parameters,
        n_told=int(held.told.sum()),
    )


def _filled(base: LandscapePart, search: _Search) -> tuple[LandscapePart, list[str]]:
    """The part with what the search has found, and the search's notes as sentences."""
    result = search.found.partial_result()
    found = result.status == "found"
    part = replace(
        base,
        baseline_score=finite(result.baseline_score),
        threshold_score=finite(result.threshold_score),
        d_int90=finite(result.d_int90) if found else None,
        interval=_interval(result),
        status=result.status,
        compression_ratio=finite(result.compression_ratio) if found else None,
        curve=tuple(
            CurvePoint(r.d, r.seed, finite(r.score), finite(r.train_score), finite(r.lr))
            for r in sorted(result.kept, key=lambda r: (r.d, r.seed))
        ),
        score_floor=search.floor,
        baseline_runs=tuple(s for s in map(finite, result.baseline_scores) if s is not None),
    )
    notes = [
        f"ATTENTION, {note}; on another machine or day the same seed may answer otherwise"
        if "time budget" in note
        else note
        for note in result.notes
        # the floor is chosen with the majority in mind; who makes the runs is no part of the answer
        if "majority class" not in note and "nothing to spread" not in note
    ]
    judged = search.judged
    if judged is None:
        return part, notes
    if search.floor > 0 and base.score_name == "accuracy":
        notes.append(
            f"90 % of the accuracy would be within a constant answer's luck, so they are counted from its accuracy, "
            f"{search.floor:.3f}."
        )
    told = replace(
        part,
        n_direct=judged.n_runs,
        guess_p=judged.guess_p,
        auc=judged.auc,
        auc_p=judged.auc_p,
        linear_gain=judged.linear_gain,
        linear_p=judged.linear_p,
    )
    return told, notes


def _interval(result: Any) -> tuple[float | None, float | None] | None:
    low, high = result.interval
    return {
        "found": (finite(low) or None, finite(high)),
        "not_reached": (finite(result.bound), None),
        "below_d_min": (None, finite(result.bound)),
    }.get(result.status)


def _other(search: _Search) -> OtherRecipe | None:
    """A second search's answer; None where the clock cut it short."""
    result = search.found.partial_result()
    if result.status == "not_measured" or any("time budget" in note for note in result.notes):
        return None
    d = finite(result.d_int90) if result.status == "found" else None
    return OtherRecipe(search.plan.epochs, result.status, d, _interval(result), finite(result.baseline_score))


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
) -> tuple[LandscapePart, list[str]]:
    """The part with the messages of the models just above the threshold, and a note where the clock cut them."""
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
    notes: list[str] = []
    for d in sizes:
        if messages and time.monotonic() > deadline:
            notes.append(
                "ATTENTION, the clock left no time to round all models that pass; a shorter message may exist."
            )
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
    told = replace(
        part,
        messages=tuple(messages),
        message_bytes=shortest.bytes if shortest else None,
        message_score=shortest.score if shortest else None,
        bound=min((m.bound for m in messages if m.bound is not None), default=None),
    )
    return told, notes
