"""What a trained model makes of the data, layer by layer: the dimension of its activations."""

from __future__ import annotations

import time
import warnings

import numpy as np
import torch

from lodim.geometry.dataset_properties import id_profile
from lodim.nets.activations import outline
from lodim.profiling.data_part import RATE, finite, finite_interval
from lodim.profiling.parts import Layer

MOST_POINTS, LEAST_POINTS = 2000, 500


def plan_points(widths: tuple[int, ...], seconds: float | int, n_rows: int) -> int:
    """Return how many rows fit into ``seconds``; 0 where 500 (or all, if fewer) do not.

    ``widths`` are the numbers that each layer puts out for a row.
    """
    n, least = min(n_rows, MOST_POINTS), min(n_rows, LEAST_POINTS)
    a_pair = 2.0 * sum(width + 60.0 for width in widths) / RATE
    while n > least and a_pair * n**2 > seconds:
        n = max(least, int(0.9 * n))
    return n if a_pair * n**2 <= seconds else 0


def measure_layers(
    model: torch.nn.Module, X: np.ndarray, *, seed: int, seconds: float | int, deadline: float | int
) -> tuple[tuple[Layer, ...], int, list[str]]:
    """Estimate the dimension of every layer's activations, the input first; return layers, rows measured and notes.

    ``X`` is float32, shaped as the model takes it. No layers are returned for a model of one layer, or past
    ``deadline``, a value of ``time.monotonic()``.
    """
    if len(outline(model)) < 2:
        return (), 0, []
    try:
        widths = _widths(model, X[:2])
        n = plan_points(widths, seconds, len(X))
        if n == 0 or time.monotonic() > deadline:
            return (), 0, ["The layers of the model were not measured, for want of time."]
        rows = np.random.default_rng(seed).choice(len(X), n, replace=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they say stands in the layers' remarks
            found = id_profile(model, torch.from_numpy(X[rows]), max_points=n, random_state=seed)
    except (ValueError, TypeError) as error:  # no layer that runs once, one that puts out no tensor
        return (), 0, [f"The layers of the model were not measured: {str(error).rstrip('.')}."]
    layers = (
        Layer(
            "input" if e.kind == "data" else e.layer,
            e.kind,
            int(e.n_features),
            finite(e.dimension),
            finite_interval(e.interval),
            e.note,
        )
        for e in found.layers
    )
    return tuple(layers), n, [f"In the profile of the layers, {text}." for text in found.notes]


def _widths(model: torch.nn.Module, sample: np.ndarray) -> tuple[int, ...]:
    """Numbers a row in the input and in each layer's output."""
    from lodim.nets.activations import watch_layers

    found: dict[str, int] = {}

    def look(batch: object, outputs: dict[str, torch.Tensor]) -> None:
        found.update({name: int(values[0].numel()) for name, values in outputs.items()})

    watch_layers(model, torch.from_numpy(sample), outline(model), look, only_single=True)
    return (int(np.prod(sample.shape[1:])), *found.values())
