"""The linear head of a classifier, found by running it, and the metrics of collapse at each of its layers.

The head is the layer whose outputs are the model's (else the linear layer that runs last) and those linear layers
before it whose outputs are, number for number, what the next one is given: dropout between them does nothing when a
model is evaluated, and a non-linearity ends the head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler

from lodim.nets.activations import batches_of, the_layer, watch_layers
from lodim.nets.kinds import linear_kinds, weight_axes
from lodim.representation.activations import attended, check_places, labels_of, unit_rows
from lodim.representation.collapse import CollapseMetrics, Gathering, gathered_metrics

__all__ = ["Head", "LabelledBatches", "find_head", "geometries", "walk"]


class LabelledBatches:
    """Inputs batch by batch, with ``labels`` of the present one; a shuffled data loader is gone through in order."""

    def __init__(self, loader: Any) -> None:
        if isinstance(loader, Iterator):
            raise ValueError(
                "the loader is gone through several times: give a data loader or a list, no generator"
            )
        if isinstance(loader, DataLoader) and isinstance(loader.sampler, RandomSampler) and loader.batch_size:
            loader = DataLoader(
                loader.dataset,
                loader.batch_size,
                collate_fn=loader.collate_fn,
                num_workers=loader.num_workers,
            )
        self.loader, self.labels = loader, np.zeros(0, dtype=np.int64)

    def __iter__(self) -> Iterator[Any]:
        for batch in batches_of(self.loader):
            inputs = batch[0] if isinstance(batch, tuple | list) else batch
            if isinstance(batch, Mapping):
                inputs = {k: v for k, v in batch.items() if k != "labels"}
                sized = next((v for v in inputs.values() if hasattr(v, "__len__")), ())
            else:
                sized = inputs
            if not hasattr(sized, "__len__"):
                raise TypeError(
                    "the loader must yield pairs (inputs, labels) or mappings with 'labels', got a "
                    f"{type(batch).__name__}"
                )
            labels = labels_of(batch, len(sized))
            if labels is None:
                raise ValueError("the batches hold no labels: let the loader yield pairs (inputs, labels)")
            self.labels = check_places(labels)
            if len(labels):
                yield inputs


class Head:
    """The linear layers of a head, in order; the last one is the classifier."""

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        self.layers = dict(layers)

    @property
    def n_classes(self) -> int:
        """Outputs of the last layer."""
        return len(_matrix(list(self.layers.values())[-1]))

    def classifiers(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """From each layer's name to W and b of the map from what it is given to the outputs, as they are now."""
        found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        W, b = np.eye(self.n_classes), np.zeros(self.n_classes)
        for name, layer in reversed(self.layers.items()):
            bias: Any = getattr(layer, "bias", None)
            if bias is not None:
                b = b + W @ bias.detach().double().cpu().numpy()
            W = W @ _matrix(layer)
            found[name] = W, b
        return dict(reversed(found.items()))


def _matrix(layer: nn.Module) -> np.ndarray:
    weight: Any = layer.weight
    array: np.ndarray = weight.detach().double().cpu().numpy()
    return array if weight_axes(layer) == (0, 1) else array.T


def find_head(
    model: nn.Module, loader: Any, classifier: str | None = None, layers: Sequence[str] | None = None
) -> Head:
    """Find the head on the first batch; names given are taken instead."""
    if layers is not None:
        chosen = dict(the_layer(model, name) for name in layers)
        if classifier is not None and the_layer(model, classifier)[0] != list(chosen)[-1]:
            raise ValueError(
                f"the last of layer_names must be the classifier {classifier!r}, got {list(chosen)}"
            )
        for name, layer in chosen.items():
            _check_linear(name, layer)
        return Head(chosen)
    linear = {name: layer for name, layer in model.named_modules() if isinstance(layer, linear_kinds())}
    if not linear:
        raise ValueError("the model has no linear layer, so no head whose collapse could be measured")
    batch = next(iter(LabelledBatches(loader)), None)
    if batch is None:
        raise ValueError("the data hold no batch")
    given: dict[str, Tensor] = {}
    told: dict[str, Tensor] = {}
    watch_layers(model, [batch], linear, lambda _, seen: given.update(seen), only_single=True, inputs=True)
    watch_layers(model, [batch], {"": model, **linear}, lambda _, seen: told.update(seen), only_single=True)
    outputs = told.pop("", None)
    if not told:
        raise ValueError("no linear layer runs exactly once a batch: name the classifier")
    if classifier is not None:
        last, layer = the_layer(model, classifier)
        _check_linear(last, layer)
        if last not in told:
            raise ValueError(f"the layer {last!r} does not run exactly once a batch")
    else:
        same = [n for n, out in told.items() if outputs is not None and torch.equal(out, outputs)]
        last = (same or list(told))[-1]
    if given[last].ndim != 2:
        raise ValueError(
            f"the classifier {last!r} is given an array of shape {tuple(given[last].shape)}, not one row of features a "
            "sample (a model that classifies every token and picks one?): wrap the model so that it picks first"
        )
    found = [last]
    while before := [n for n in told if n not in found and torch.equal(told[n], given[found[0]])]:
        if not _passes_on(model, batch, linear[before[-1]], found[0], linear[found[0]], told[before[-1]]):
            break
        found.insert(0, before[-1])
    return Head({name: linear[name] for name in found})


def _passes_on(
    model: nn.Module, batch: Any, layer: nn.Module, name: str, after: nn.Module, told: Tensor
) -> bool:
    """Whether the next layer is given the same where this one returns other numbers: a ReLU lets positive ones by."""
    other, seen = -1000 * told, dict[str, Tensor]()
    handle = layer.register_forward_hook(lambda *_: other)
    try:
        watch_layers(model, [batch], {name: after}, lambda _, given: seen.update(given), inputs=True)
    finally:
        handle.remove()
    return torch.equal(seen[name], other)


def _check_linear(name: str, layer: nn.Module) -> None:
    if not isinstance(layer, linear_kinds()):
        raise ValueError(f"the layer {name!r} is a {type(layer).__name__}, and heads are linear layers")


def walk(
    model: nn.Module,
    batches: LabelledBatches,
    head: Head,
    visit: Callable[[str, np.ndarray, np.ndarray], None],
    others: Mapping[str, nn.Module] | None = None,
) -> None:
    """Call ``visit(name, rows, labels)`` with what each layer of the head is given and what other layers return."""

    def hand(layers: Mapping[str, nn.Module]) -> Callable[[Any, dict[str, Tensor]], None]:
        def each(batch: Any, seen: dict[str, Tensor]) -> None:
            for name, values in seen.items():
                rows, _ = unit_rows(values, layers[name], "mean", mask=attended(batch, values))
                if len(rows) != len(batches.labels):
                    raise ValueError(f"layer {name!r} has {len(rows)} rows for {len(batches.labels)} labels")
                matrix = rows.float().cpu().numpy() if rows.dtype != torch.float64 else rows.cpu().numpy()
                if not np.isfinite(matrix).all():
                    raise ValueError(f"the layer {name!r} has features that are not finite")
                if batches.labels.max() >= head.n_classes:
                    raise ValueError(
                        f"label {batches.labels.max()} has no output: the classifier has {head.n_classes}"
                    )
                visit(name, matrix, batches.labels)

        return each

    watch_layers(model, batches, head.layers, hand(head.layers), inputs=True)
    if others:
        watch_layers(model, batches, others, hand(others))


def geometries(model: nn.Module, loader: Any, head: Head, frame: Any = "etf") -> dict[str, CollapseMetrics]:
    """Return the metrics at each layer of a head, in two passes."""
    batches = LabelledBatches(loader)
    found = {name: Gathering(head.n_classes, W=W, b=b) for name, (W, b) in head.classifiers().items()}
    walk(model, batches, head, lambda name, rows, labels: found[name].first(rows, labels))
    for gathering in found.values():
        gathering.turn()
    walk(model, batches, head, lambda name, rows, labels: found[name].second(rows, labels))
    return {name: gathered_metrics(gathering, frame) for name, gathering in found.items()}
