"""Rules of advice about the model: what its baseline, its curve and its messages ask for.

A rule takes a profile and returns an :class:`~lodim.profiling.parts.Advice`, or None when it does not apply. An
adapter of rank r on an m x n matrix has r (m + n) numbers. Any compact shape of m dimensions fits without crossing
itself into 2 m + 1 coordinates (Whitney 1936, Annals of Mathematics 37); the same number is taken for the dimensions
measured here.
"""

from __future__ import annotations

import math

import numpy as np

from lodim.pages.words import closed
from lodim.profiling import wording
from lodim.profiling.parts import Advice, ProfileData, scores_by_d, wavers

_EXACT = 0.9999  # R² above which a target is a sum of columns rather than a forecast
_ERRS = 0.05  # share of new rows, from which on answers are no certainties
_APART = 3  # runs on either side: as many stand apart in one of twenty draws where nothing differs

__all__ = [
    "adapter_size",
    "compression",
    "direct_falls_short",
    "linear_suffices",
    "memorising",
    "narrow_layers",
    "not_reached",
    "probabilities",
    "unsolved",
    "weak_regression",
]


def unsolved(p: ProfileData) -> Advice | None:
    """The model cannot be told from guessing: say what would settle it."""
    part = p.landscape
    if part is None or not part.unsolved or part.baseline_score is None or part.chance_score is None:
        return None
    because: dict[str, object] = {
        "baseline_score": part.baseline_score,
        "chance_score": part.chance_score,
        "guess_p": part.guess_p,
        "n_told": part.n_told,
    }
    who = wording.sentence(wording.model(part.model))
    text = (
        f"{who} reaches {part.score_name} {wording.score(part.baseline_score)} where a constant answer has "
        f"{wording.score(part.chance_score)}"
    )
    if part.n_told:
        text += f", which {wording.plural(part.n_told, 'different held-out row')} do not tell from guessing"
    if p.data is not None and p.data.steps is not None and part.n_told < part.n_val / 2:
        text += (
            ". Equal rows count once here, as copies are no new evidence. Where they are cases of their own, compare "
            f"the shares of {_target(p)} between the {p.data.steps.n_distinct:,} different rows instead."
        )
        return Advice(text, because, "unsolved", 1.0)
    if part.orders_rows and part.linear_is != "better":
        because |= {"auc": part.auc, "auc_p": part.auc_p}
        text += (
            f". It does order them (AUC {wording.score(part.auc)}), so the columns say something about {_target(p)}: "
            "use its scores to rank rows, and judge its answers on more rows."
        )
        return Advice(text, because, "unsolved", 1.0)
    text += (
        f". Either the rows are too few, or the columns say little about {_target(p)}, or the model or its training is "
        "wrong for it."
    )
    if part.linear_is == "better" and part.linear_score is not None:
        because |= {"linear_score": part.linear_score, "linear_p": part.linear_p}
        text += (
            f" The last is likely: a linear model has {wording.score(part.linear_score)} on the same rows "
            f"({wording.chance(part.linear_p)})."
        )
    return Advice(text, because, "unsolved", 1.0)


def weak_regression(p: ProfileData) -> Advice | None:
    """The model explains only part of the target."""
    part = p.landscape
    if part is None or p.kind != "regression" or part.unsolved or part.baseline_score is None:
        return None
    best = max(part.baseline_score, part.linear_score if part.linear_score is not None else -math.inf)
    if best >= 0.6:
        return None
    more = ""
    if part.linear_score is not None and part.linear_score > part.baseline_score:
        more = f" (a linear model {wording.percent(part.linear_score)})"
    return Advice(
        f"{wording.sentence(wording.model(part.model))} explains {wording.percent(max(0.0, part.baseline_score))} of "
        f"the variance of {_target(p)}{more}. Whether more can be explained is not known: another model, more rows or "
        "other columns may do so. The number of trained numbers is that for the explained part only.",
        {"baseline_score": part.baseline_score, "linear_score": part.linear_score},
        "weak_regression",
        0.8,
    )


def not_reached(p: ProfileData) -> Advice | None:
    """No subspace tried was large enough."""
    part = p.landscape
    if part is None or part.status != "not_reached" or part.d_max is None:
        return None
    best = max((r.score for r in part.curve if r.score is not None), default=None)
    reached = f"{part.score_name} {wording.score(part.threshold_score)}"
    if wavers(part):
        text = (
            f"Some subspaces reach {reached} on average, larger ones do not: more trained numbers fit the training "
            "rows more closely and new ones no better. No least number is known; more rows would settle it."
        )
    elif part.d_max >= part.n_parameters:
        text = (
            f"Even {part.d_max:,} numbers, as many as there are weights, do not reach {reached} through a random map "
            f"(the best run has {wording.score(best)}). There is no least number to give."
        )
    else:
        text = (
            f"No subspace of up to {part.d_max:,} numbers reached {reached} (the best run has {wording.score(best)}). "
            f"Read the answer as 'more than {part.d_max:,}', and raise the budget to look further."
        )
    return Advice(
        text,
        {"d_max": part.d_max, "best_score": best, "threshold_score": part.threshold_score},
        "not_reached",
        0.95,
    )


def linear_suffices(p: ProfileData) -> Advice | None:
    """A linear model does as well as the network, or better."""
    part = p.landscape
    if part is None or part.unsolved or part.model == "linear":
        return None
    if part.linear_score is None or part.baseline_score is None or part.linear_parameters is None:
        return None
    if part.linear_score < part.baseline_score - 0.01 or part.linear_is == "worse":
        return None
    different = "different held-out row" if part.n_told < part.n_val else "held-out row"
    judged = {
        "better": f" It is better than the best run of the other ({wording.chance(part.linear_p)}): take it.",
        "alike": f" The {wording.plural(part.n_told, different)} do not tell it from the best run of the "
        "other: take the linear one, the smaller.",
    }.get(part.linear_is or "", " Take the linear one.")
    if part.score_name == "R²" and part.linear_score > _EXACT:
        judged += (
            f" It leaves next to nothing: see whether {_target(p)} is computed from columns that would not be known "
            "beforehand."
        )
    return Advice(
        f"A linear model with {part.linear_parameters:,} weights scores {wording.score(part.linear_score)}, "
        f"{wording.model(part.model)} with {part.n_parameters:,} scores {wording.score(part.baseline_score)}.{judged}",
        {
            "linear_score": part.linear_score,
            "baseline_score": part.baseline_score,
            "linear_parameters": part.linear_parameters,
            "linear_p": part.linear_p,
            "n_told": part.n_told,
        },
        "linear_suffices",
        0.88,
    )


def direct_falls_short(p: ProfileData) -> Advice | None:
    """Every run in the largest subspace does better than every direct one: 90 per cent of a low mark."""
    part = p.landscape
    if part is None or part.unsolved or part.baseline_score is None or len(part.baseline_runs) < _APART:
        return None
    d, score = part.d_max, part.score_name
    runs = scores_by_d(part).get(d or 0, [])
    if d is None or len(runs) < _APART or min(runs) <= max(part.baseline_runs):
        return None
    mean = sum(runs) / len(runs)
    return Advice(
        f"With {d:,} trained numbers every run does better than every run that trains all weights "
        f"({score} {wording.score(mean)} against {wording.score(part.baseline_score)} on average): that training is "
        "not at its best with so many weights, rows and passes, and the 90 % are of a low mark. Train longer or stop "
        "earlier, and profile that model.",
        {"d": d, "score": mean, "baseline_score": part.baseline_score},
        "direct_falls_short",
        0.82,
    )


def adapter_size(p: ProfileData) -> Advice | None:
    """How small an adapter or a network may be."""
    part = p.landscape
    if part is None or part.unsolved or not part.d_int90 or part.status != "found":
        return None
    ratio = part.n_parameters / part.d_int90
    if ratio < 4:
        return None
    text = (
        f"About {part.d_int90:,.0f} trained numbers in place of {part.n_parameters:,} weights reach {part.score_name} "
        f"{wording.score(part.threshold_score)}, even in a subspace drawn at random: "
        f"{wording.number(ratio, digits=2)} times fewer."
    )
    per_rank = sum(m + n for m, n in part.layer_shapes)
    because: dict[str, object] = {
        "d_int90": part.d_int90,
        "n_parameters": part.n_parameters,
        "compression_ratio": ratio,
    }
    if (
        per_rank and part.linear_is != "better" and linear_suffices(p) is None
    ):  # who takes the linear model has nothing to adapt
        rank = max(1, math.ceil(part.d_int90 / per_rank))
        because |= {"rank": rank, "adapter_numbers": rank * per_rank}
        text += (
            f" Fine-tuning to a task of this size can start with adapters of rank {rank} on every layer "
            f"({rank * per_rank:,} numbers)"
        )
        n_weights = sum(m * n for m, n in part.layer_shapes)
        text += "." if rank * per_rank < n_weights else ", which saves nothing over training the layers."
    return Advice(text, because, "adapter_size", 0.75)


def compression(p: ProfileData) -> Advice | None:
    """What the model weighs as a message, and what that certifies."""
    part = p.landscape
    if part is None or part.unsolved or part.message_bytes is None:
        return None
    full = 4 * part.n_parameters
    text = (
        f"The model travels as {part.message_bytes:,} bytes (a seed and quantised coordinates; as 32-bit weights "
        f"{full:,}) with {part.score_name} {wording.score(part.message_score)}."
    )
    because: dict[str, object] = {
        "message_bytes": part.message_bytes,
        "message_score": part.message_score,
        "full_bytes": full,
    }
    constant = part.chance_score if part.majority is None else part.majority
    if part.bound is not None and part.bound < 0.75 * (1 - (constant or 0.0)):
        because |= {"bound": part.bound, "n_train": part.n_train}
        text += (
            f" So short a description certifies, from {part.n_train:,} training rows alone and with 95 % confidence, a "
            f"test error below {wording.number(part.bound, digits=2)}."
        )
    return Advice(text, because, "compression", 0.6)


def memorising(p: ProfileData) -> Advice | None:
    """Training scores far above validation scores in the largest subspace."""
    part = p.landscape
    if part is None or part.unsolved or part.d_max is None:
        return None
    if part.n_train + part.n_val < 0.9 * p.n_samples:  # it had fewer rows than there are, for want of time
        return None
    runs = [r for r in part.curve if r.d == part.d_max and r.score is not None and r.train_score is not None]
    if not runs:
        return None
    train = float(np.mean([r.train_score for r in runs]))
    held = float(np.mean([r.score for r in runs]))
    luck = 0.0  # of so few held-out rows: two standard errors
    if part.score_name == "accuracy":
        luck = 2 * math.sqrt(max(0.0, held * (1 - held)) / max(1, part.n_told or part.n_val))
    if train - held < max(0.1, luck):
        return None
    fewer = any(sum(s) / len(s) >= held for d, s in scores_by_d(part).items() if d < part.d_max)
    return Advice(
        f"With {part.d_max:,} trained numbers the model scores {wording.score(train)} on its training rows and "
        f"{wording.score(held)} on new ones: it memorises. More rows{' or fewer trained numbers' * fewer} are worth "
        "more than a larger model; check the labels too.",
        {"d": part.d_max, "train_score": train, "score": held},
        "memorising",
        0.78,
    )


def _target(p: ProfileData) -> str:
    return repr(p.target_name) if p.target_name else "the target"


def probabilities(p: ProfileData) -> Advice | None:
    """A classifier that errs often enough for its probabilities to decide what to do with an answer."""
    part = p.landscape
    if part is None or part.unsolved or p.kind != "classification" or part.baseline_score is None:
        return None
    errs, n = 1 - part.baseline_score, max(1, part.n_told or part.n_val)
    who = wording.model(part.model)
    if part.score_name == "accuracy":
        if errs - 2 * math.sqrt(errs * (1 - errs) / n) < _ERRS:  # two standard errors
            return None
        said = (
            f"{wording.sentence(who)} errs on {wording.percent(errs)} of {wording.plural(n, 'held-out row')}"
        )
    else:
        said = f"One class is much the commonest, and {who} has AUC {wording.score(part.baseline_score)}"
    return Advice(
        f"{said}: what to do with an answer depends on how probable it is. Before you rely on such a model, "
        "lodim.trust.report(model, X, y) says whether its probabilities are true, which columns drive it and what "
        "fools it.",
        {"baseline_score": part.baseline_score, "score": part.score_name, "n": n},
        "probabilities",
        0.58,
    )


def narrow_layers(p: ProfileData) -> Advice | None:
    """Layers much wider than the dimension of what they put out."""
    part = p.landscape
    if part is None or part.unsolved or p.data is None or p.data.steps is not None:
        return None
    inner = [e for e in part.layers[1:-1] if e.dimension is not None and e.kind == "Linear"]
    if not inner:
        return None
    most, widest = max(float(e.dimension or 0.0) for e in inner), max(e.width for e in inner)
    ends, first = closed(p.data.interval), part.layers[0].dimension
    if ends is None or not first:
        return None
    most *= ends[1] / float(first)  # the layers as published read too few, as they do of the rows themselves
    enough = 2 * math.ceil(most) + 1
    if widest < 2 * enough:
        return None
    return Advice(
        f"The model's inner linear layers put out up to {widest:,} numbers. Corrected as the dimension of the data is, "
        f"they have up to {wording.dimension(most)} dimensions at the upper end of its interval; {enough} numbers "
        "would hold such a shape (2 m + 1). Narrower layers are worth a try.",
        {"widest": widest, "most_dimensions": most, "enough": enough},
        "narrow_layers",
        0.46,
    )
