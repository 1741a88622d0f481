"""What every way is given: the origin, the data and one manner of training, with the stored size counted alike."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import nn

from lodim.randomness import build_seeded, derive_seed
from lodim.training import FitResult, Recipe, Task, fit

__all__ = [
    "SEED_BYTES",
    "DoesNotFitError",
    "Origin",
    "Stored",
    "Workbench",
    "round_to_halves",
    "store_halves",
]

SEED_BYTES = 8
HALF_BYTES = 2


class DoesNotFitError(ValueError):
    """A way cannot spend as little as the budget; ``least`` is what it needs, in bytes."""

    def __init__(self, least: int):
        super().__init__(f"needs at least {least} bytes")
        self.least = int(least)


@dataclass(frozen=True, eq=False)
class Origin:
    """Where training starts: a model that everybody has (pre-trained), or one that a seed makes again.

    Attributes
    ----------
    model : nn.Module or callable
        The model itself, or ``model() -> nn.Module`` with a random initialisation.
    seed : int
        Of the initialisation.
    """

    model: nn.Module | Callable[[], nn.Module]
    seed: int = 0

    @property
    def pretrained(self) -> bool:
        """Whether the origin's weights mean something."""
        return isinstance(self.model, nn.Module)

    def make(self) -> nn.Module:
        """Return a module at the origin, the caller's own."""
        if isinstance(self.model, nn.Module):
            return copy.deepcopy(self.model)
        return build_seeded(self.model, derive_seed(self.seed, "origin"))


@dataclass(frozen=True, eq=False)
class Stored:
    """A model as it was stored.

    Attributes
    ----------
    module : nn.Module
        Computes with what was stored: rounded numbers, codes.
    n_bytes : int
        Of everything that is stored.
    n_numbers : int
        Trained numbers.
    setting : str
    """

    module: nn.Module
    n_bytes: int
    n_numbers: int
    setting: str


@dataclass(frozen=True, eq=False)
class Workbench:
    """One origin, task, recipe and seed.

    Attributes
    ----------
    origin : Origin
    task : Task
    recipe : Recipe
        Of a training from the origin.
    lr : float
        Learning rate of direct training.
    multiplier : float
        Of the learning rate, chosen for a way.
    seed : int
    dense_state : dict, optional
        State of the model after direct training, where that is known already.
    """

    origin: Origin
    task: Task
    recipe: Recipe
    lr: float
    multiplier: float = 1.0
    seed: int = 0
    dense_state: dict[str, torch.Tensor] | None = None

    def train(
        self,
        module: nn.Module,
        *,
        lr_factor: float = 1.0,
        share: float = 1.0,
        on_step: Callable[[], object] | None = None,
    ) -> FitResult:
        """Train what requires a gradient in a module, in place.

        Parameters
        ----------
        module : nn.Module
        lr_factor : float
            On the learning rate of direct training, besides the multiplier chosen for the way.
        share : float
            Share of the recipe's epochs, for fine-tuning.
        on_step : callable, optional
            See :func:`lodim.training.fit`.
        """
        lr, order = self.rate(lr_factor), derive_seed(self.seed, "order")
        return fit(module, self.task, self.shortened(share), lr=lr, seed=order, on_step=on_step)

    def rate(self, factor: float) -> float:
        """Return the learning rate of direct training, times the way's multiplier and a factor.

        Parameters
        ----------
        factor : float
        """
        return self.lr * self.multiplier * factor

    def shortened(self, share: float) -> Recipe:
        """Return the recipe with a share of its epochs, one at least.

        Parameters
        ----------
        share : float
        """
        return replace(self.recipe, epochs=max(1, round(share * self.recipe.epochs)))

    @cached_property
    def dense(self) -> nn.Module:
        """The model after direct training, all its weights free."""
        module = self.origin.make()
        if self.dense_state is None:
            replace(self, multiplier=1.0).train(module)
        else:
            module.load_state_dict(self.dense_state)
        return module

    @torch.no_grad()
    def scores(self, module: nn.Module) -> tuple[float, float]:
        """Validation and training score.

        Parameters
        ----------
        module : nn.Module
        """
        module.eval()
        task = self.task
        outputs = [torch.cat([module(part) for part in X.split(1024)]) for X in (task.X_val, task.X)]
        return float(task.score(outputs[0], task.y_val)), float(task.score(outputs[1], task.y))


def store_halves(module: nn.Module, setting: str, *, origin: nn.Module | None = None) -> Stored:
    """Round the trained numbers of a module to half precision, in place, and count what has to be kept.

    Parameters
    ----------
    module : nn.Module
        What requires a gradient is stored; everything else follows from the origin.
    setting : str
    origin : nn.Module, optional
        Buffers that differ from those of this module of the same layout (running statistics) are stored too, in
        single precision.

    Raises
    ------
    ValueError
        A number does not fit half precision.
    """
    trained = [p for p in module.parameters() if p.requires_grad]
    round_to_halves(trained)
    n = sum(p.numel() for p in trained)
    return Stored(module, SEED_BYTES + HALF_BYTES * n + _changed_buffers(module, origin), n, setting)


@torch.no_grad()
def round_to_halves(parameters: Iterable[nn.Parameter]) -> None:
    """Round parameters to half precision, in place.

    Parameters
    ----------
    parameters : iterable of Parameter

    Raises
    ------
    ValueError
        A number does not fit.
    """
    for parameter in parameters:
        rounded = parameter.half()
        if not rounded.isfinite().all():
            raise ValueError("a trained number is beyond half precision; lower the learning rate")
        parameter.copy_(rounded)


def _changed_buffers(module: nn.Module, origin: nn.Module | None) -> int:
    """Bytes of the floating-point buffers that training has changed."""
    if origin is None:
        return 0
    before = {name: b for name, b in origin.named_buffers() if b.is_floating_point()}
    now = dict(module.named_buffers())
    return sum(4 * b.numel() for name, b in before.items() if name in now and not torch.equal(b, now[name]))
