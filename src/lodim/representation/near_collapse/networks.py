"""The model's two messages on networks: layers trained one after the other, and weight decay in two parts."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from lodim.nets.activations import batches_of, evaluation_mode, the_layer
from lodim.plots import COLORS, new_axes
from lodim.randomness import RandomState, build_seeded, derive_seed, root_seed
from lodim.representation.collapse import class_geometry
from lodim.representation.near_collapse.model import Number
from lodim.results import Result
from lodim.training import DescentRecipe, descend
from lodim.validation import (
    ConvergenceWarning,
    check_choice,
    check_counts,
    check_in_range,
    check_labels,
    check_numbers,
    checked,
    warn,
)

LOSSES = ("mse", "ce")


@checked
def split_weight_decay(
    model: nn.Module, last_layer: str, wd_features: Number, wd_classifier: Number
) -> list[dict[str, Any]]:
    """Parameter groups for an optimiser, with one weight decay for the classifier and one for all else.

    Biases and the parameters of norms decay with the part that they are in, as with ``weight_decay`` of an optimiser.
    The first is the features' regularisation of the model, the second the classifier's; the theory says that the first
    is what decides on collapse.

    Parameters
    ----------
    model : nn.Module
    last_layer : str
        Name of the classifier, or its last parts.
    wd_features, wd_classifier : float
        At least 0.

    Returns
    -------
    list of dict
        Features first, as ``torch.optim.SGD`` and :func:`lodim.training.descend` take them; frozen parameters are
        left out.

    Raises
    ------
    ValueError
        No such layer or several, a weight shared between both parts, nothing to train in one of them.
    """
    for value, name in ((wd_features, "wd_features"), (wd_classifier, "wd_classifier")):
        check_in_range(value, name, low=0.0, high=1e6)
    name, layer = the_layer(model, last_layer)
    own = {id(p) for p in layer.parameters()}
    names = dict(model.named_parameters(remove_duplicate=False))
    inside = f"{name}." if name else ""
    shared = [
        each for each, p in names.items() if id(p) in own and p.requires_grad and not each.startswith(inside)
    ]
    if shared:
        raise ValueError(f"{shared[0]} is a weight of {name!r} too: it cannot have two weight decays")
    trained = [p for p in model.parameters() if p.requires_grad]
    parts = [[p for p in trained if id(p) not in own], [p for p in trained if id(p) in own]]
    if not all(parts):
        raise ValueError(
            f"nothing to train {'in' if parts[0] else 'before'} last_layer {name!r}: there is nothing to split"
        )
    return [
        {"params": part, "weight_decay": float(decay)}
        for part, decay in zip(parts, (wd_features, wd_classifier), strict=True)
    ]


@dataclass(frozen=True)
class GreedyTraining(Result):
    """Variability of features layer by layer, each trained with the ones before it frozen.

    Attributes
    ----------
    layers : tuple of str
        "input", and what is trained in each stage.
    nc1, nc1_trace : tuple of float
        tr(Sigma_W pinv(Sigma_B)) / K and tr(Sigma_W) / tr(Sigma_B) of the training rows; NaN where all class means are
        one.
    accuracy : tuple of float
        On the training rows, of the classifier trained with each layer; NaN for the input.
    loss : tuple of float
        Mean of the last epoch, without weight decay; NaN for the input.
    """

    layers: tuple[str, ...]
    nc1: tuple[float, ...]
    nc1_trace: tuple[float, ...]
    accuracy: tuple[float, ...]
    loss: tuple[float, ...]

    def to_frame(self) -> pd.DataFrame:
        """One row for each layer."""
        return pd.DataFrame(vars(self)).rename_axis("depth")

    def __str__(self) -> str:
        return self.to_frame().to_string(float_format="{:.4g}".format)

    def plot(self, ax: Any = None) -> Any:
        """Both forms of NC1 over depth.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        """
        ax = new_axes(ax)
        for name, color, label in (("nc1", COLORS[0], "NC1"), ("nc1_trace", COLORS[1], "NC1 by traces")):
            ax.plot(getattr(self, name), "o-", color=color, label=label)
        ax.set_xticks(range(len(self.layers)), self.layers)
        ax.set(xlabel="layers trained", ylabel="variability within classes", yscale="log")
        ax.legend()
        return ax


def _stages(model: nn.Sequential) -> list[tuple[str, nn.Sequential]]:
    """Cut a sequence where each part begins that has parameters, the first one keeping what is before it."""
    stages: list[tuple[str, list[nn.Module]]] = []
    before: list[nn.Module] = []
    for name, part in model._modules.items():  # named_children leaves out what stands in two places
        if part is None:
            continue
        if any(True for _ in part.parameters()):
            stages.append((name, [*before, part]))
            before = []
        elif stages:
            stages[-1][1].append(part)
        else:
            before.append(part)
    if len(stages) < 2:
        raise ValueError(
            f"model must have at least two parts with parameters, features and classifier; got {len(stages)}"
        )
    owner: dict[int, str] = {}
    for name, parts in stages:
        own = {id(p) for part in parts for p in part.parameters() if p.requires_grad}
        if not own:
            raise ValueError(f"{name!r} is frozen: every part with parameters must have some to train")
        if taken := own & owner.keys():
            raise ValueError(
                f"{name!r} shares a weight with {owner[taken.pop()]!r}: one cannot be trained with the other frozen"
            )
        owner |= dict.fromkeys(own, name)
    return [(name, nn.Sequential(*parts)) for name, parts in stages]


@torch.no_grad()
def _answers(part: nn.Module, rows: Tensor) -> Tensor:
    with evaluation_mode(part):
        return torch.cat([part(batch.clone()) for batch in batches_of(rows, 2048)])


def _check_taken(model: nn.Module, rows: Tensor, n_classes: int, batch_size: int) -> None:
    """Refuse, before anything is trained, rows, classes and a last batch that the model does not take."""
    try:
        shape = tuple(_answers(model, rows[:1]).shape[1:])
    except (RuntimeError, IndexError) as error:
        raise ValueError(
            f"model does not take samples of X, of shape {tuple(rows.shape[1:])}: {error}"
        ) from error
    if shape != (n_classes,):
        raise ValueError(f"model has {' x '.join(map(str, shape))} outputs but y has {n_classes} classes")
    if (len(rows) - 1) % batch_size == 0:
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                copy.deepcopy(model).train()(rows[:1].clone())
        except ValueError as error:
            raise ValueError(
                f"batch_size={batch_size} leaves a batch of one of {len(rows)} rows, which a norm over "
                "batches does not take: choose another"
            ) from error


@checked
def greedy_train(
    model: nn.Sequential,
    X: Any,
    y: Any,
    *,
    loss: str = "mse",
    epochs: int | np.integer = 10,
    lr: Number = 1e-3,
    batch_size: int | np.integer = 128,
    wd_features: Number = 5e-4,
    wd_classifier: Number = 5e-4,
    random_state: RandomState = 0,
    progress: Callable[[float, str], Any] | None = None,
) -> GreedyTraining:
    """Train a network in place one layer at a time, from the input on, and tell how features collapse with depth.

    Each layer learns with a linear classifier of its own, which is dropped when the next layer's turn comes; the last
    one learns with the model's. The model comes back in the mode that it had, also from an error. Those of their own
    begin as torch begins ``nn.Linear``, so to compare depths let the model's begin so too. Layers below are frozen.

    Parameters
    ----------
    model : nn.Sequential
        Parts in the order in which they compute, the last one with parameters being the classifier, e.g.
        :func:`lodim.nets.mlp`. A stage is a part with parameters and what follows without.
    X : array-like, shape (n_samples, ...)
        Computed on in the precision of the model, on its device.
    y : array-like, shape (n_samples,)
        Classes.
    loss : {"mse", "ce"}
        Half the squared distance to one-hot targets, summed over classes, as in the theory; or cross-entropy.
    epochs, lr, batch_size
        Of every stage, by Adam.
    wd_features, wd_classifier : float
        As of :func:`split_weight_decay`.
    random_state : int, Generator or None
        Of the classifiers and the order of rows.
    progress : callable, optional
        ``progress(done, text)`` after every epoch.

    Raises
    ------
    ValueError
        Bad input, one class, a model without features or with another number of outputs, a part that is frozen or
        shares a weight with an earlier one, a batch of one row where there is a norm over batches.

    Warns
    -----
    ConvergenceWarning
        A stage diverged; the stages after it are not trained.
    UserWarning
        NC1 is not defined in some layer.
    """
    check_choice(loss, LOSSES, "loss")
    check_counts(epochs=epochs, batch_size=batch_size)
    stages = _stages(model)
    weight = next(model.parameters())
    rows = torch.tensor(check_numbers(X, "X"), dtype=weight.dtype, device=weight.device)
    if rows.ndim < 2 or not len(rows) or not torch.isfinite(rows).all():
        raise ValueError(f"X must hold finite samples, one a row, got shape {tuple(rows.shape)}")
    classes, codes = np.unique(check_labels(y, len(rows)), return_inverse=True)
    target = torch.from_numpy(codes).to(rows.device)
    recipe = DescentRecipe(epochs=int(epochs), lr=float(lr), batch_size=int(batch_size))
    modes = [(part, part.training) for part in model.modules()]
    seed, last, K = root_seed(random_state), len(stages) - 2, len(classes)
    head_name, own_head = stages.pop()
    _check_taken(model, rows, K, int(batch_size))
    onehot = torch.eye(K, dtype=rows.dtype, device=rows.device)
    told: dict[str, list[Any]] = {name: [] for name in ("layers", "nc1", "nc1_trace", "accuracy", "loss")}

    def tell(name: str, accuracy: float, value: float) -> None:
        found = class_geometry(rows.flatten(1).cpu().numpy(), codes)
        pair = [each if math.isfinite(each) else math.nan for each in (found.nc1(), found.nc1_trace())]
        if math.isnan(pair[0]):
            warn(f"all class means are one after {name!r}: NC1 is not defined there", stacklevel=4)
        for each, figure in zip(told.values(), (name, *pair, accuracy, value), strict=True):
            each.append(figure)

    tell("input", math.nan, math.nan)
    try:
        for at, (name, stage) in enumerate(stages):
            width = _answers(stage, rows[:1]).flatten(1).shape[1]
            head: nn.Module = own_head
            if at < last:
                fresh = build_seeded(partial(nn.Linear, width, K), derive_seed(seed, "head", at))
                head = nn.Sequential(nn.Flatten(), fresh).to(rows)
            net = nn.ModuleDict({"features": stage, "classifier": head})

            def objective(x: Tensor, labels: Tensor, stage: Any = stage, head: Any = head) -> Tensor:
                out = head(stage(x))
                if loss == "ce":
                    return nn.functional.cross_entropy(out, labels)
                return (out - onehot[labels]).square().sum(1).mean() / 2

            def note(done: float, text: str, at: int = at) -> None:
                if progress is not None:
                    progress((at + done) / len(stages), f"layer {at + 1} of {len(stages)}, {text}")

            net.train()
            groups = split_weight_decay(net, "classifier", wd_features, wd_classifier)
            run = descend(
                objective,
                groups,
                recipe,
                (rows, target),
                random_state=derive_seed(seed, "order", at),
                progress=note,
                interruptible=False,
            )
            if run.stopped == "diverged" or not math.isfinite(run.loss):  # no step in the last epoch
                warn(f"layer {name} diverged at lr={lr:.3g}; use a smaller one", ConvergenceWarning)
                break
            rows = _answers(stage, rows)
            right = float((_answers(head, rows).argmax(-1) == target).float().mean())
            tell(name if at < last else f"{name} and {head_name}", right, run.loss)
    finally:
        for part, mode in modes:
            part.training = mode
    return GreedyTraining(**{name: tuple(values) for name, values in told.items()})
