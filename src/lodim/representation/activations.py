"""What layers say of the same inputs, as matrices of rows and units: :func:`collect`.

A unit is a channel, wherever it stands in an image, or a feature of a token. So a map of C channels, H x W large, is
H W rows of C units for each image (``reduce="channels"``), or one row of their means (``"mean"``), or one row of C H W
units, each at its place (``"flatten"``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lodim.nets import find_layers
from lodim.nets.activations import outline, watch_layers
from lodim.randomness import RandomState, as_generator, derive_seed, root_seed
from lodim.validation import check_choice, check_counts, check_in_range, check_tensor, checked

__all__ = [
    "REDUCTIONS",
    "Activations",
    "attended",
    "check_data",
    "check_places",
    "choose_layers",
    "collect",
    "is_map",
    "masked_mean",
    "placed_units",
    "unit_rows",
]

REDUCTIONS = ("channels", "mean", "flatten")
_CHANNELS_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
)


@dataclass(frozen=True, eq=False, repr=False)
class Activations(Mapping[str, np.ndarray]):
    """Matrices of rows and units by the layers' names, and which sample each row is of.

    Attributes
    ----------
    units : dict of str to ndarray, shape (n_rows, n_units)
    samples : dict of str to ndarray, shape (n_rows,)
        Number of the sample, in the order of the data. Rows of one sample depend on each other.
    labels : ndarray, shape (n_samples,), or None
        What the batches held beside the inputs.
    """

    units: dict[str, np.ndarray]
    samples: dict[str, np.ndarray]
    labels: np.ndarray | None = field(default=None)

    def __repr__(self) -> str:
        shapes = ", ".join(
            f"{name!r}: {' x '.join(map(str, rows.shape))}" for name, rows in self.units.items()
        )
        return f"Activations of {len(self)} layers as rows x units: {shapes}"

    def __getitem__(self, layer: str) -> np.ndarray:
        return self.units[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self.units)

    def __len__(self) -> int:
        return len(self.units)

    def labels_of(self, layer: str) -> np.ndarray:
        """Return the label of each row, shape (n_rows,).

        Raises
        ------
        ValueError
            The batches held no labels.
        """
        if self.labels is None:
            raise ValueError("the batches held no labels: let the loader yield pairs (inputs, labels)")
        return self.labels[self.samples[layer]]


def choose_layers(model: nn.Module, layers: Any = None) -> dict[str, nn.Module]:
    """Return the layers that names stand for; None: those a reader would name (:func:`lodim.nets.activations.outline`).

    A name may be the last parts of one, and hold wildcards: ``"layer*.conv1"``.
    """
    if layers is None:
        return outline(model)
    try:
        names = [layers] if isinstance(layers, str) else list(layers)
    except TypeError:
        names = [None]
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"layers must be a name, several names or None, got {layers!r}")
    if not names:
        raise ValueError("layers is empty: give names, or None for all that a reader would name")
    return find_layers(model, names, kinds=nn.Module)


def check_data(data: Any, name: str) -> None:
    """Refuse arrays and tensors that hold no numbers a model could be given, single numbers, and data frames."""
    if hasattr(data, "columns"):
        raise TypeError(
            f"{name} is a data frame, and models take arrays: give {name}.to_numpy(dtype='float32')"
        )
    if isinstance(data, Tensor):
        check_tensor(data, name)
    elif np.ma.is_masked(data):
        raise ValueError(f"{name} has {np.ma.count_masked(data)} masked entries: fill or drop them")
    elif isinstance(data, np.ndarray | np.generic) and data.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold numbers, got dtype {data.dtype}")
    if isinstance(data, Tensor | np.ndarray | np.generic) and data.ndim == 0:
        raise ValueError(f"{name} must hold samples along axis 0, got the single number {data!r}")


def placed_units(output: Tensor, layer: nn.Module, unit_axis: int | np.integer | None = None) -> Tensor:
    """Return a batch of a layer's outputs with its units last: samples, places along any number of axes, units.

    Units are along axis 1 of an image (four axes or more) and of what convolutions, their norms and pools return; along
    the last axis otherwise, as in transformers; or where ``unit_axis`` says.
    """
    if output.ndim == 0:
        raise ValueError("the layer returned one number, not one row a sample")
    if output.ndim <= 2:
        return output if output.ndim == 2 else output[:, None]
    axis = (1 if is_map(output, layer) else -1) if unit_axis is None else int(unit_axis)
    if not -output.ndim < axis < output.ndim or axis == 0:
        raise ValueError(
            f"unit_axis must be one of 1 to {output.ndim - 1} for an output of shape {tuple(output.shape)}"
        )
    return output.movedim(axis, -1)


def is_map(output: Tensor, layer: nn.Module) -> bool:
    """Whether an output of three axes or more has its units first, as images have, or last, as sequences have."""
    return output.ndim >= 4 or (output.ndim == 3 and isinstance(layer, _CHANNELS_FIRST))


def unit_rows(
    output: Tensor,
    layer: nn.Module,
    reduce: str = "channels",
    *,
    unit_axis: int | np.integer | None = None,
    positions: int | np.integer | None = None,
    mask: Tensor | None = None,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Return a batch of a layer's outputs as rows of units, and each row's sample; rows of a sample stand together.

    Parameters
    ----------
    output : Tensor, shape (n, ...)
    layer : nn.Module
        Whose output it is; see :func:`placed_units`.
    reduce : {"channels", "mean", "flatten"}
    unit_axis : int, optional
    positions : int, optional
        At most so many places of each sample, the same ones in all samples, drawn with the seed.
    mask : Tensor of bool, shape (n, places), optional
        Places that count (:func:`attended`); the others are no rows and in no mean.
    """
    placed = placed_units(output, layer, unit_axis)
    samples = torch.arange(len(output), device=output.device)
    if placed.ndim == 2 or reduce == "flatten":
        return (placed if placed.ndim == 2 else output.flatten(1)), samples
    placed = placed.flatten(1, -2)  # samples, places, units
    if reduce == "mean":
        return masked_mean(placed, mask), samples
    if positions is not None and positions < placed.shape[1]:
        drawn = np.sort(as_generator(seed).choice(placed.shape[1], int(positions), replace=False))
        at = torch.from_numpy(drawn).to(placed.device)
        placed, mask = placed[:, at], None if mask is None else mask[:, at]
    samples = samples[:, None].expand(placed.shape[:2])
    if mask is not None:
        return placed[mask], samples[mask]
    return placed.flatten(0, 1), samples.flatten()


def attended(batch: Any, output: Tensor) -> Tensor | None:
    """Return which tokens of a sequence a batch's ``attention_mask`` counts, if it has one of the output's shape."""
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    if isinstance(mask, Tensor) and output.ndim == 3 and mask.shape == output.shape[:2]:
        return mask.to(output.device).bool()
    return None


def masked_mean(placed: Tensor, mask: Tensor | None) -> Tensor:
    """Return means over places, shape (n, units), of those that count; 0 where none does."""
    if mask is None:
        return placed.mean(1)
    weight = mask.to(placed)[..., None]
    return (weight * placed).sum(1) / weight.sum(1).clamp_min(1)


@checked
def collect(
    model: nn.Module,
    layers: Any,
    data: Any,
    *,
    reduce: str = "channels",
    max_positions: int | np.integer | None = None,
    unit_axis: int | np.integer | Mapping[str, int] | None = None,
    dtype: Any = None,
    batch_size: int | np.integer = 256,
    random_state: RandomState = None,
) -> Activations:
    """Run a model over data and keep what some of its layers return.

    The model computes in evaluation mode, without gradients, on its own device; its modes come back and the hooks go
    whatever happens. All rows are held: for data that are too large for that, :func:`lodim.representation.compare`
    streams.

    Parameters
    ----------
    model : nn.Module
    layers : str, sequence of str, or None
        Names, or last parts of names, wildcards allowed; None: all that a reader would name.
    data : array, Tensor or iterable of batches
        Of a pair (inputs, labels) the inputs go in and the labels are kept. A mapping is given as keyword arguments;
        its ``labels`` are kept as well, and tokens that its ``attention_mask`` leaves out are no rows.
    reduce : {"channels", "mean", "flatten"}
        What is a row of an image or of a sequence.
    max_positions : int, optional
        At most so many places of each sample. With the same ``random_state`` and batches, two models whose maps have
        the same size are seen at the same places.
    unit_axis : int or mapping of layer names to int, optional
        Where the units are in outputs of three axes or more; see :func:`unit_rows`.
    dtype : NumPy dtype, optional
        Of the matrices; None: the layer's own, half precision as float32.
    batch_size : int
        Of an array or tensor.
    random_state : int, Generator or None

    Raises
    ------
    ValueError
        No such layer, one that does not run exactly once a batch, no batch, labels that are not one a sample or come
        with some batches only.
    """
    check_choice(reduce, REDUCTIONS, "reduce")
    if max_positions is not None:
        check_counts(max_positions=max_positions)
    check_in_range(batch_size, "batch_size", low=1, integer=True)
    kind = None if dtype is None else _floating(dtype)
    check_data(data, "data")
    chosen, seed = choose_layers(model, layers), root_seed(random_state)
    axes = unit_axis if isinstance(unit_axis, Mapping) else dict.fromkeys(chosen, unit_axis)
    if unknown := set(axes) - set(chosen):
        raise ValueError(
            f"unit_axis names {sorted(unknown)}, which are not among the layers {sorted(chosen)}"
        )
    parts: dict[str, list[np.ndarray]] = {name: [] for name in chosen}
    owners: dict[str, list[np.ndarray]] = {name: [] for name in chosen}
    labels: list[np.ndarray] = []
    count, number = 0, 0

    def keep(batch: Any, outputs: dict[str, Tensor]) -> None:
        nonlocal count, number
        size = 0
        for name, output in outputs.items():
            rows, samples = unit_rows(
                output, chosen[name], reduce, unit_axis=axes.get(name), positions=max_positions,
                mask=attended(batch, output), seed=derive_seed(seed, number),
            )  # fmt: skip
            size = len(output)
            rows = rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows
            matrix = rows.cpu().numpy()
            parts[name].append(matrix if kind is None else matrix.astype(kind))
            owners[name].append(count + samples.cpu().numpy())
        told = labels_of(batch, size)
        if told is not None:
            labels.append(told)
        count, number = count + size, number + 1

    left_out = watch_layers(model, data, chosen, keep, batch_size=batch_size, only_single=layers is None)
    if labels and len(labels) < number:
        raise ValueError(
            f"some batches hold labels and others none ({len(labels)} of {number} do): give all of them, or inputs only"
        )
    kept = [name for name in chosen if name not in left_out]
    return Activations(
        {name: np.concatenate(parts[name]) for name in kept},
        {name: np.concatenate(owners[name]) for name in kept},
        np.concatenate(labels) if labels else None,
    )


def _floating(dtype: Any) -> np.dtype:
    try:
        found = np.dtype(dtype)
    except (TypeError, ValueError):
        found = None
    if found is None or found.kind != "f":
        raise TypeError(f"dtype must be a floating-point type of NumPy, got {dtype!r}")
    return found


def labels_of(batch: Any, size: int) -> np.ndarray | None:
    """Return the labels that a batch holds beside its inputs, one a sample; None where it holds none."""
    if isinstance(batch, Mapping):
        told = batch.get("labels")
    else:
        told = batch[1] if isinstance(batch, tuple | list) and len(batch) > 1 else None
    if told is None:
        return None
    labels = np.asarray(told.detach().cpu() if isinstance(told, Tensor) else told)
    if labels.shape != (size,):
        raise ValueError(f"labels must be one a sample ({size}), got shape {labels.shape}")
    return labels


def check_places(labels: np.ndarray) -> np.ndarray:
    """Refuse labels that are no places among a classifier's outputs."""
    if labels.dtype.kind not in "iu" or (labels < 0).any():
        raise ValueError(
            "labels must be whole numbers from 0 on, places among the outputs; got "
            f"{np.unique(labels)[:5].tolist()} of dtype {labels.dtype}"
        )
    return labels.astype(np.int64)
