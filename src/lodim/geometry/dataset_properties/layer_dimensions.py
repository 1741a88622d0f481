r"""How many dimensions a model's representations have: :func:`representation_id`, :func:`id_profile`.

*The Effect of Intrinsic Dataset Properties on Generalization*, Konz and Mazurowski 2024, arXiv 2401.08865, section 6:
the activations of a layer over the training set, with the model in evaluation mode, have an intrinsic dimension d_repr
of their own. It is estimated with TwoNN. A layer that is Lipschitz cannot stretch a set into more dimensions, so

.. math:: d_\mathrm{repr} \lesssim d_\mathrm{data},

up to the error of the estimates, and the loss falls with the number of samples as :math:`N^{-1/d_\mathrm{repr}}` too.
Across depth the dimension typically rises first and falls towards the output.

============== ======================== =======================================================
in the paper   here                     meaning
============== ======================== =======================================================
d_data         first row, ``"(input)"`` dimension of what goes into the model
d_repr         ``dimension``            dimension of a layer's output
N              ``n_points``             rows measured: a uniform sample of those that went by
============== ======================== =======================================================

Departures. The paper measures one layer before the last; here it is any layer, and all of them in one pass. Rows are a
reservoir sample (:class:`~lodim.geometry.StreamingDimension`), the same rows in every layer, so that memory does not
grow with the data and layers can be compared. Layers are measured in their own precision, single at least.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from lodim.dimension.streaming import StreamingDimension
from lodim.nets.activations import first_tensor, outline, the_layer, watch_layers
from lodim.plots import COLORS, new_axes
from lodim.randomness import RandomState, root_seed
from lodim.results import Result
from lodim.validation import check_in_range, checked

_INPUT = "(input)"  # no part of a module can be called so


@dataclass(frozen=True)
class LayerDimension(Result):
    """Intrinsic dimension of one layer's output; ``float()`` of it is the dimension.

    Attributes
    ----------
    layer : str
        Its full name in the model; ``"(input)"`` for what goes into the model.
    kind : str
        Its class.
    depth : float
        Its place in the order in which layers run: 0 for the input, 1 for the last layer of the profile. NaN for a
        layer measured by itself.
    dimension : float
        NaN where it could not be estimated; see ``note``.
    interval : (float, float) or None
        Bootstrap interval over points.
    n_points : int
        Samples measured.
    n_features : int
        Numbers in one sample's output.
    n_duplicates : int
        Of those samples, the ones whose output equals another's.
    """

    layer: str
    kind: str
    depth: float
    dimension: float
    interval: tuple[float, float] | None
    n_points: int
    n_features: int
    n_duplicates: int
    method: str
    note: str = ""

    def __float__(self) -> float:
        return self.dimension

    def __str__(self) -> str:
        interval = "" if self.interval is None else f" ({self.interval[0]:.1f} to {self.interval[1]:.1f})"
        note = f"; {self.note}" if self.note else ""
        return (
            f"{self.layer or 'the model'}: dimension {self.dimension:.1f}{interval} of {self.n_features:,} numbers, "
            f"{self.method} on {self.n_points:,} samples{note}"
        )


@dataclass(frozen=True)
class IdProfile(Result):
    """Intrinsic dimension across a model's layers, in the order in which they run.

    Attributes
    ----------
    layers : tuple of LayerDimension
        The input first (where it is numbers).
    notes : tuple of str
        What is not in it: layers of the model's outline that do not run exactly once a batch.
    """

    layers: tuple[LayerDimension, ...]
    notes: tuple[str, ...] = ()

    @property
    def data(self) -> LayerDimension | None:
        """Dimension of the input, or None where the input is no numbers (token indices)."""
        first = self.layers[0]
        return first if first.layer == _INPUT else None

    @property
    def peak(self) -> LayerDimension:
        """The layer, or the input, of the largest dimension."""
        return max(self.layers, key=lambda one: -math.inf if math.isnan(one.dimension) else one.dimension)

    def to_frame(self) -> Any:
        """Return one row a layer, with the ends of the interval as columns ``low`` and ``high``."""
        import pandas as pd

        rows = []
        for one in self.layers:
            low, high = one.interval or (math.nan, math.nan)
            sizes = (one.n_points, one.n_features, one.n_duplicates)
            rows.append((one.layer, one.kind, one.depth, one.dimension, low, high, *sizes, one.note))
        names = "layer kind depth dimension low high n_points n_features n_duplicates note"
        return pd.DataFrame(rows, columns=names.split())

    def plot(self, ax: Any = None) -> Any:
        """Draw the dimension against the relative depth, with intervals, and return the axes.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        """
        ax = new_axes(ax)
        frame = self.to_frame()
        ax.plot(frame.depth, frame.dimension, marker="o", color=COLORS[0])
        known = frame.low.notna()
        ax.vlines(frame.depth[known], frame.low[known], frame.high[known], color=COLORS[0], alpha=0.5)
        if self.data is not None:
            ax.axhline(self.data.dimension, color=COLORS[1], linestyle="--", label="input")
            ax.legend()
        ax.set(xlabel="relative depth", ylabel="intrinsic dimension", ylim=(0, None))
        return ax

    def __str__(self) -> str:
        width = max(len(one.layer) for one in self.layers)
        lines = [f"intrinsic dimension by {self.layers[0].method} on {self.layers[0].n_points:,} samples"]
        for one in self.layers:
            interval = "" if one.interval is None else f"  ({one.interval[0]:.1f} to {one.interval[1]:.1f})"
            size = f"{one.kind} of {one.n_features:,}"
            note = f"  {one.note}" if one.note else ""
            lines.append(
                f"  {one.depth:4.2f}  {one.layer:<{width}}  {one.dimension:6.1f}{interval}  {size}{note}"
            )
        lines += [f"  ! {text}" for text in self.notes]
        return "\n".join(lines)


@checked
def representation_id(
    model: nn.Module,
    loader: Any,
    layer: str,
    method: str = "twonn",
    *,
    select: Callable[[Any], Tensor] = first_tensor,
    max_points: int | np.integer = 2000,
    ci: float | None = 0.95,
    random_state: RandomState = 0,
    **parameters: Any,
) -> LayerDimension:
    """Estimate the intrinsic dimension of a layer's output over some data.

    Parameters
    ----------
    model : nn.Module
        Runs in evaluation mode, without gradients, where its parameters are; left as it was.
    loader : DataLoader, iterable, array or Tensor
        Batches: tensors, tuples that start with the input, or mappings of the model's arguments; or all inputs.
    layer : str
        Name of a part of the model, or the end of one, as in :func:`lodim.nets.find_layers`; "" for the model itself.
    method : str
        Of :class:`~lodim.geometry.IntrinsicDimension`.
    select : callable
        Takes what the layer returns and gives the tensor to measure, samples along axis 0; the rest is flattened. By
        default the first tensor of a tuple or record, e.g. ``select=lambda out: out[0][:, 0]`` for a first token.
    max_points : int
        Samples measured: a uniform sample of all. Memory is this many times the size of the layer's output.
    ci : float, optional
        Level of the bootstrap interval.
    random_state : int, Generator or None
        Draws the sample and the interval.
    **parameters
        Further parameters of :class:`~lodim.geometry.IntrinsicDimension`.

    Raises
    ------
    ValueError
        No such layer (the message names close ones), one that does not run exactly once a batch, outputs of differing
        size, or too few different ones.

    References
    ----------
    arXiv 2401.08865, section 6.

    Examples
    --------
    >>> import torch
    >>> from lodim.geometry import representation_id
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 2), torch.nn.Linear(2, 30))
    >>> data = torch.rand(500, 8, generator=torch.Generator().manual_seed(0))
    >>> round(float(representation_id(model, data, "1", random_state=0)))
    2
    """
    name, module = the_layer(model, layer)
    metrics, _ = _measure(
        model,
        loader,
        {name: module},
        select,
        max_points,
        root_seed(random_state),
        method,
        {"ci": ci, **parameters},
    )
    return _dimension(metrics[name], name, type(module).__name__, math.nan, ci)


@checked
def id_profile(
    model: nn.Module,
    loader: Any,
    layers: Sequence[str] | None = None,
    *,
    method: str = "twonn",
    select: Callable[[Any], Tensor] = first_tensor,
    max_points: int | np.integer = 2000,
    max_bytes: int | float | np.number = 4 * 2**30,
    ci: float | None = 0.95,
    random_state: RandomState = 0,
    **parameters: Any,
) -> IdProfile:
    """Estimate the intrinsic dimension of the input and of several layers' outputs in one pass over the data.

    Parameters
    ----------
    model, loader, method, select, max_points, ci, random_state, **parameters
        As in :func:`representation_id`.
    layers : sequence of str, optional
        Names; by default the parts that :func:`lodim.nets.activations.outline` lists: the model's children, sequences
        opened, blocks whole. Of these, layers that do not run exactly once a batch are left out (one activation module
        used in two places, a part that ``forward`` does not use); ``notes`` names them. Layers that you name must.
    max_bytes : float
        Most memory for the samples of all layers together; a profile that needs more is refused after the first batch.

    Raises
    ------
    ValueError
        As in :func:`representation_id`, or more memory than ``max_bytes``. A layer whose output has too few different
        values for an estimate does not raise: its dimension is NaN and its note says why.

    Examples
    --------
    >>> import torch
    >>> from lodim.geometry import id_profile
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 2), torch.nn.Linear(2, 30))
    >>> data = torch.rand(500, 8, generator=torch.Generator().manual_seed(0))
    >>> [round(float(one)) for one in id_profile(model, data, random_state=0).layers][1:]
    [2, 2]
    """
    if isinstance(layers, str):
        raise TypeError("layers must be a sequence of names; for one layer there is representation_id")
    chosen = outline(model) if layers is None else dict(the_layer(model, name) for name in layers)
    if not chosen:
        raise ValueError("layers is empty; give names, or None for the model's outline")
    seed, options = root_seed(random_state), {"ci": ci, **parameters}
    metrics, left_out = _measure(
        model,
        loader,
        chosen,
        select,
        max_points,
        seed,
        method,
        options,
        max_bytes,
        with_input=True,
        only_single=layers is None,
    )
    if len(left_out) == len(chosen):
        raise ValueError(
            f"no layer is left to measure: {_left_out_note(left_out)}; name layers that run once"
        )
    names = list(metrics)  # in the order of running, the input first
    first = 0 if names[0] == _INPUT else 1
    found = []
    for place, name in enumerate(names):
        kind = "data" if name == _INPUT else type(chosen[name]).__name__
        depth = (place + first) / (len(names) - 1 + first)
        found.append(_dimension(metrics[name], name, kind, depth, ci, tolerant=True))
    return IdProfile(tuple(found), (_left_out_note(left_out),) if left_out else ())


def _left_out_note(left_out: Mapping[str, int]) -> str:
    times = ("not run", "run once", "run twice")
    parts = (f"{name!r} is {times[n] if n < 3 else f'run {n} times'}" for name, n in left_out.items())
    return f"left out are layers that do not run exactly once a batch: {', '.join(parts)}"


def _measure(
    model: nn.Module,
    loader: Any,
    chosen: dict[str, nn.Module],
    select: Callable[[Any], Tensor],
    max_points: Any,
    seed: int,
    method: str,
    options: dict[str, Any],
    max_bytes: Any = math.inf,
    with_input: bool = False,
    only_single: bool = False,
) -> tuple[dict[str, StreamingDimension], dict[str, int]]:
    """A reservoir of each layer's rows, filled in one pass, and the layers left out.

    Equal seeds keep the same samples in each.
    """
    check_in_range(max_points, "max_points", low=4, integer=True)
    check_in_range(max_bytes, "max_bytes", low=0)
    if options.get("ci") is not None:
        check_in_range(options["ci"], "ci", low=1e-6, high=1 - 1e-6)
    metrics: dict[str, StreamingDimension] = {}

    def visit(batch: Any, outputs: dict[str, Tensor]) -> None:
        rows = {**(_input_of(batch) if with_input else {}), **outputs}
        if not metrics:
            _check_memory(rows, int(max_points), max_bytes)
        for name, values in rows.items():
            if name not in metrics:
                metrics[name] = StreamingDimension(
                    method, max_points=max_points, random_state=seed, **options
                )
            _update(metrics[name], name, values)

    left_out = watch_layers(model, loader, chosen, visit, select=select, only_single=only_single)
    counts = {metric.n_seen for metric in metrics.values()}
    if len(counts) > 1:
        seen = ", ".join(f"{name!r} {metric.n_seen}" for name, metric in metrics.items())
        raise ValueError(
            f"layers gave different numbers of rows ({seen}); axis 0 must be the samples (see select=)"
        )
    return metrics, left_out


def _input_of(batch: Any) -> dict[str, Any]:
    """What goes into the model, where it is one tensor of real numbers (of a mapping, the only one)."""
    value = batch[0] if isinstance(batch, tuple | list) else batch
    if isinstance(value, Mapping):
        points = [v for v in value.values() if isinstance(v, Tensor) and v.is_floating_point() and v.ndim > 1]
        value = points[0] if len(points) == 1 else None
    if isinstance(value, Tensor):
        floating = value.is_floating_point()
    else:
        floating = isinstance(value, np.ndarray) and value.dtype.kind == "f"
    return {_INPUT: value} if floating else {}


def _check_memory(rows: dict[str, Any], max_points: int, max_bytes: Any) -> None:
    widths = {name: math.prod(values.shape[1:]) for name, values in rows.items()}
    per_point = sum(width * (8 if _is_double(rows[name]) else 4) for name, width in widths.items())
    if per_point * max_points > max_bytes:
        widest = max(widths, key=lambda name: widths[name])
        raise ValueError(
            f"{max_points:,} samples of {len(widths)} layers take {per_point * max_points / 2**30:.1f} GiB, more than "
            f"max_bytes ({max_bytes / 2**30:.1f} GiB); the widest is {widest!r} with {widths[widest]:,} numbers. "
            f"Lower max_points (to {int(max_bytes / per_point):,}), name fewer layers, or average maps with select="
        )


def _is_double(values: Any) -> bool:
    return str(values.dtype).removeprefix("torch.") not in ("float32", "float16", "bfloat16")


def _update(metric: StreamingDimension, name: str, values: Any) -> None:
    if values.ndim < 1:
        raise ValueError(
            f"the layer {name!r} gave a single number; samples must be along axis 0 (see select=)"
        )
    try:
        metric.update(values.reshape(len(values), math.prod(values.shape[1:])))  # of no rows too
    except ValueError as error:
        raise ValueError(f"layer {name!r}: {error}") from error


def _dimension(
    metric: StreamingDimension,
    name: str,
    kind: str,
    depth: float,
    ci: float | None,
    *,
    tolerant: bool = False,
) -> LayerDimension:
    sample = metric.sample
    value, interval, repeated, note = math.nan, None, 0, ""
    try:
        value = metric.compute()
        assert metric.model is not None
        interval, repeated = metric.model.ci_, metric.model.n_duplicates_
        bound = ("only a lower bound",) if metric.model.saturated_ else ()
        note = "; ".join((*bound, *metric.model.warnings_))
    except ValueError as error:
        if not tolerant:
            raise ValueError(f"layer {name!r}: {error}") from error
        note = str(error)
    shape = (len(sample), sample.shape[1])
    return LayerDimension(name, kind, depth, value, interval, *shape, repeated, metric.method, note)
