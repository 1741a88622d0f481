"""What every way is given: the origin, the data and one manner of training, with the stored size counted alike."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from lodim.landscape.objective_landscapes.compression_sweep import full_score
from lodim.randomness import build_seeded, derive_seed, forked_torch_rng
from lodim.training import FitResult, Recipe, Task, fit
from lodim.validation import checked

__all__ = ["DoesNotFitError", "Origin", "Stored", "Workbench"]

SEED_BYTES = 8
HALF_BYTES = 2
SINGLE_BYTES = 4
_PROBED = 64  # samples of the forward that shows which buffers training moves


class DoesNotFitError(ValueError):
    """A way cannot spend as little as the budget; ``least`` is what it needs, in bytes."""

    def __init__(self, least: int):
        super().__init__(f"needs at least {least} bytes")
        self.least = int(least)


@checked
@dataclass(frozen=True, eq=False)
class Origin:
    """Where training starts: a model that everybody has (pre-trained), or one that a seed makes again.

    Attributes
    ----------
    model : nn.Module or callable
        The model itself, or ``model() -> nn.Module`` with a random initialisation.
    seed : int
        Of the initialisation.
    device : torch.device, optional
        Where modules are made; by default where the model puts itself.
    moving : tuple of str
        Names of the buffers that training moves (:func:`moving_buffers`).
    """

    model: nn.Module | Callable[[], nn.Module]
    seed: int = 0
    device: torch.device | None = None
    moving: tuple[str, ...] = ()

    @property
    def pretrained(self) -> bool:
        """Whether the origin's weights mean something."""
        return isinstance(self.model, nn.Module)

    def make(self) -> nn.Module:
        """Return a module at the origin, the caller's own."""
        if isinstance(self.model, nn.Module):
            module = copy.deepcopy(self.model)
        else:
            module = build_seeded(self.model, derive_seed(self.seed, "origin"))
        return module if self.device is None else module.to(self.device)

    def kept_buffers(self, module: nn.Module) -> list[Tensor]:
        """Return the buffers to be kept of a module made from the origin: those that training moves, unless folded.

        A wrapper may put something in front of their names.
        """
        ends = tuple("." + name for name in self.moving)
        return [b for name, b in module.named_buffers() if ("." + name).endswith(ends)] if ends else []

    @cached_property
    def buffer_bytes(self) -> int:
        """Bytes of the buffers that training moves, in single precision."""
        return buffer_bytes(self.kept_buffers(self.make())) if self.moving else 0


@dataclass(frozen=True, eq=False)
class Stored:
    """A model as it was stored: a module that computes with rounded numbers and codes, and what they take."""

    module: nn.Module
    n_bytes: int
    n_numbers: int
    setting: str


@dataclass(frozen=True, eq=False)
class Workbench:
    """One origin, task, recipe and seed, with the learning rate of direct training and a way's multiplier of it.

    ``dense_state`` is that of the model after direct training, where it is known already.
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
        """Train what requires a gradient in a module, in place; ``on_step`` as in :func:`lodim.training.fit`.

        The rate is that of direct training times the way's multiplier and ``lr_factor``; ``share`` of the recipe's
        epochs is for fine-tuning.
        """
        lr, order = self.rate(lr_factor), derive_seed(self.seed, "order")
        return fit(module, self.task, self.shortened(share), lr=lr, random_state=order, on_step=on_step)

    def rate(self, factor: float) -> float:
        """Return the learning rate of direct training, times the way's multiplier and a factor."""
        return self.lr * self.multiplier * factor

    def shortened(self, share: float) -> Recipe:
        """Return the recipe with a share of its epochs, one at least."""
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

    def scores(self, module: nn.Module) -> tuple[float, float]:
        """Validation and training score."""
        task = self.task
        return full_score(module, task, task.X_val, task.y_val), full_score(module, task, task.X, task.y)


def store_halves(module: nn.Module, setting: str, origin: Origin) -> Stored:
    """Round the trained numbers of a module to half precision, in place, and count what has to be kept.

    That is what requires a gradient, and what training moves besides; the rest follows from the origin.
    ValueError where a number does not fit half precision.
    """
    trained = [p for p in module.parameters() if p.requires_grad]
    round_to_halves(trained)
    n = sum(p.numel() for p in trained)
    return store(module, SEED_BYTES + HALF_BYTES * n, n, setting, origin)


@torch.no_grad()
def store(module: nn.Module, n_bytes: int, n_numbers: int, setting: str, origin: Origin) -> Stored:
    """Round the buffers that training moves to single precision, in place, and add their bytes.

    Everything else in the module is rounded already, and takes ``n_bytes``.
    """
    kept = origin.kept_buffers(module)
    for buffer in kept:
        buffer.copy_(buffer.float())
    return Stored(module, n_bytes + buffer_bytes(kept), n_numbers, setting)


def buffer_bytes(buffers: Iterable[Tensor]) -> int:
    """Return the bytes of buffers in single precision."""
    return sum(SINGLE_BYTES * buffer.numel() for buffer in buffers)


@torch.no_grad()
def round_to_halves(parameters: Iterable[nn.Parameter]) -> None:
    """Round parameters to half precision, in place; ValueError if a number does not fit."""
    for parameter in parameters:
        rounded = parameter.half()
        if not rounded.isfinite().all():
            raise ValueError("a trained number is beyond half precision; lower the learning rate")
        parameter.copy_(rounded)


@torch.no_grad()
def moving_buffers(module: nn.Module, inputs: Tensor) -> tuple[str, ...]:
    """Return the names of the floating-point buffers that a forward in training mode changes: running statistics.

    A copy of the module runs, on the first few inputs. Counters of batches are whole numbers, which nothing computes
    with once the training is over.
    """
    before = {name: b for name, b in module.named_buffers() if b.is_floating_point()}
    if not before:
        return ()
    probe = copy.deepcopy(module).train()
    with forked_torch_rng(0):
        probe(inputs[:_PROBED])
    after = dict(probe.named_buffers())
    return tuple(name for name, b in before.items() if not torch.equal(b, after[name]))
