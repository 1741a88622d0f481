"""Modules that are trained as a whole beside adapters: a copy for each adapter, the original kept."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import nn

__all__ = ["TrainedCopies"]


class TrainedCopies(nn.Module):
    """A module and its trained copies, one an adapter; runs the active one."""

    original_module: Any

    def __init__(self, original_module: nn.Module) -> None:
        super().__init__()
        self.original_module, self.modules_to_save = original_module, nn.ModuleDict()
        self.active: tuple[str, ...] = ()
        self.enabled = True

    @property
    def current(self) -> Any:
        """The module that runs."""
        return self.modules_to_save[self.active[0]] if self.enabled and self.active else self.original_module

    def add(self, adapter_name: str) -> None:
        """Copy the original for an adapter."""
        self.modules_to_save[adapter_name] = copy.deepcopy(self.original_module).requires_grad_(False)

    def set_adapter(self, names: str | Sequence[str]) -> None:
        """Choose the copy to run and to train; ValueError where several of the adapters have one."""
        chosen = (names,) if isinstance(names, str) else tuple(names)
        active = tuple(name for name in chosen if name in self.modules_to_save)
        if len(active) > 1:
            raise ValueError(
                f"{list(active)} each have a trained copy of one module; only one of them can run"
            )
        self.active = active
        for name, module in self.modules_to_save.items():
            module.requires_grad_(name in active)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the active copy, or the original."""
        return self.current(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name in ("original_module", "modules_to_save"):
                raise
            return getattr(self.current, name)
