"""From the arguments of a measurement to its settings: the score's name and floor, the least d that makes sense."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from lodim.training import Task
from lodim.validation import check_in_range

__all__ = ["floor_score", "least_d", "majority_score", "score_name"]


def score_name(task: Task | None, score_on: str) -> str:
    """Return what the built-in score is called.

    Parameters
    ----------
    task : Task or None
        None for a score of the user's own.
    score_on : {"val", "train"}
    """
    if task is None:
        return "score"
    name = "accuracy" if task.kind == "classification" else "R^2"
    return f"training {name}" if score_on == "train" else name


def majority_score(task: Task | None, score_on: str = "val") -> float:
    """Return the accuracy of always answering the training set's most frequent class; NaN where that is no answer.

    Parameters
    ----------
    score_on : {"val", "train"}
        The set it is scored on.
    """
    if task is None or task.kind != "classification":
        return math.nan
    answer = torch.bincount(task.y).argmax()
    return float(((task.y if score_on == "train" else task.y_val) == answer).double().mean())


def floor_score(score_floor: float | int | str, trivial: float) -> float:
    """Return the score of knowing nothing as a number.

    Parameters
    ----------
    score_floor : float or "majority"
    trivial : float
        See :func:`majority_score`.

    Raises
    ------
    ValueError
        "majority" without classes to count.
    """
    if isinstance(score_floor, str):
        if score_floor != "majority":
            raise ValueError(f"score_floor must be a number or 'majority', got {score_floor!r}")
        if math.isnan(trivial):
            raise ValueError(
                "score_floor='majority' needs a classification with the built-in training; give a number instead"
            )
        return trivial
    return float(check_in_range(score_floor, "score_floor"))


def least_d(d_min: int, search: str | Sequence[int], fixed: int) -> int:
    """Return the least d to be tried, with which any given list of d must agree.

    Parameters
    ----------
    d_min : int
        As asked for; 1 stands for the least possible.
    fixed : int
        Numbers of every d that are no directions.

    Raises
    ------
    ValueError
        A d that leaves no direction.
    """
    check_in_range(d_min, "d_min", low=1, integer=True)
    wanted = [d_min] if d_min > 1 else []
    wanted += [] if isinstance(search, str) else list(search)
    if fixed and wanted and min(wanted) <= fixed:
        raise ValueError(
            f"d={min(wanted)} leaves no direction: m={fixed} of the d numbers are factors of said, or are trained "
            f"directly; use at least {fixed + 1}"
        )
    return max(int(d_min), fixed + 1)
