"""Who descends: :class:`Player`, a loss with its parameters and an optimiser."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lodim.training.recipe import ADAM_BETA2, ADAM_EPS, DescentRecipe, check_lr, check_optimizer
from lodim.training.schedules import MOMENTUM
from lodim.validation import check_in_range, checked

__all__ = ["Moving", "Player"]


@checked
@dataclass(frozen=True, eq=False)
class Player:
    """One of several that descend in turn, each on a loss of its own, on the same batch.

    Attributes
    ----------
    loss : callable
        As :func:`~lodim.training.descend` takes it; only the gradient of ``parameters`` is computed.
    parameters : nn.Module, or iterable of tensors, modules or groups
    optimizer, lr : optional
        The recipe's unless given.
    every : int
        It moves in every so many-th step.
    """

    loss: Callable[..., Any]
    parameters: Any
    optimizer: str | Callable[..., torch.optim.Optimizer] | None = None
    lr: float | int | None = None
    every: int = 1


class Moving:
    """A player with its optimiser.

    ``alone``: nothing but whole modules was given, and there is no other player. ``only`` are the tensors whose
    gradients backward computes, None where there are no others. ``in_a_row`` counts the steps skipped since it last
    moved.
    """

    def __init__(self, player: Player, recipe: DescentRecipe, alone: bool) -> None:
        self.loss, self.every = player.loss, check_in_range(player.every, "every", low=1, integer=True)
        self.lr = check_lr(recipe.lr if player.lr is None else player.lr)
        self.modules, groups = _groups(player.parameters)
        self.parameters = [p for group in groups for p in group["params"]]
        if not self.parameters:
            raise ValueError("there is no parameter that requires a gradient: nothing to train")
        known = {id(p) for module in self.modules for p in module.parameters()}
        self.loose = [p for p in self.parameters if id(p) not in known]
        self.alone, self.in_a_row, self._started = alone and not self.loose, 0, False
        self.only: list[Tensor] | None = self.parameters
        self.optimizer = _make_optimizer(player.optimizer or recipe.optimizer, groups, self.lr)
        closure = inspect.signature(self.optimizer.step).parameters.get("closure")
        if closure is not None and closure.default is closure.empty:
            raise ValueError(
                f"{type(self.optimizer).__name__} evaluates the loss several times a step (its step needs a closure), "
                "which a descent over batches does not do; take another optimiser"
            )
        for group in self.optimizer.param_groups:
            group["share"] = float(group.get("share", group["lr"] / self.lr))  # plain: it is saved

    def set_rate(self, factor: float, momentum: float | None) -> None:
        """Set every group's rate, and the momentum where the schedule says one."""
        lr = self.lr * factor
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["share"]
            if momentum is None:
                continue
            if "betas" in group:
                group["betas"] = (momentum, group["betas"][1])
            elif "momentum" in group:
                group["momentum"] = momentum

    def backward(self, value: Tensor) -> None:
        """Compute the gradient of the own parameters, and nobody else's; the loss must depend on one of them."""
        if value.requires_grad:
            if self.alone and not self._started and not {id(p) for p in self.parameters} < _leaves(value):
                self.only = (
                    None  # a little faster, and reaches what a checkpointed forward hides from the graph
                )
            self._started = True
            value.backward(inputs=self.only)
        if all(p.grad is None for p in self.parameters):
            raise ValueError("the loss does not depend on a parameter that requires a gradient")

    def state(self) -> dict[str, Any]:
        """Return modules and loose parameters, not copied."""
        modules = [module.state_dict() for module in self.modules]
        return {"modules": modules, "loose": [p.detach() for p in self.loose]}

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        """Write them back."""
        for module, saved in zip(self.modules, state["modules"], strict=True):
            module.load_state_dict(saved)
        for p, saved in zip(self.loose, state["loose"], strict=True):
            p.copy_(saved)


def _groups(parameters: Any) -> tuple[list[nn.Module], list[dict[str, Any]]]:
    """Modules among the parameters, and an optimiser's groups; what needs no gradient is left out."""
    modules: list[nn.Module] = []
    groups: list[dict[str, Any]] = [{"params": []}]
    items: Iterable[Any] = [parameters] if isinstance(parameters, nn.Module | Tensor | dict) else parameters
    for item in items:
        own: Any = getattr(item, "param_groups", None)
        if isinstance(item, nn.Module):
            modules.append(item)
        if isinstance(item, nn.Module) and own is not None:
            rates = own(1.0)
            groups += [{"params": g["params"], "share": g["lr"] / rates[0]["lr"]} for g in rates]
        elif isinstance(item, dict):
            groups.append({**item, "params": list(_tensors(item["params"]))})
        else:
            groups[0]["params"] += _tensors(item)
    loose = groups[0]["params"]
    groups[0]["params"] = list({id(p): p for p in loose}.values())  # weights that modules share move once
    for group in groups:
        odd = [p for p in group["params"] if not isinstance(p, Tensor)]
        if odd:
            raise TypeError(
                f"parameters must be tensors, modules or groups of tensors, got {type(odd[0]).__name__}"
            )
        group["params"] = [p for p in group["params"] if p.requires_grad]
    return modules, [group for group in groups if group["params"]]


def _leaves(value: Tensor) -> set[int]:
    """Ids of the tensors whose gradients a backward would leave behind."""
    waiting, seen, leaves = [value.grad_fn], set(), set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [next_node for next_node, _ in node.next_functions]
        if (leaf := getattr(node, "variable", None)) is not None:
            leaves.add(id(leaf))
    return leaves


def _tensors(item: Any) -> list[Any]:
    if isinstance(item, Tensor):
        return [item]
    return list(item.parameters()) if isinstance(item, nn.Module) else list(item)


def _make_optimizer(
    make: str | Callable[..., torch.optim.Optimizer], groups: list[dict[str, Any]], lr: float
) -> torch.optim.Optimizer:
    check_optimizer(make)
    if not isinstance(make, str):
        return make(groups, lr=lr)
    fused = all(
        p.is_floating_point() and p.device.type in ("cpu", "cuda")
        for group in groups
        for p in group["params"]
    )
    if make == "adam":
        return torch.optim.Adam(groups, lr=lr, betas=(MOMENTUM, ADAM_BETA2), eps=ADAM_EPS, fused=fused)
    return torch.optim.SGD(groups, lr=lr, momentum=MOMENTUM, fused=fused)
