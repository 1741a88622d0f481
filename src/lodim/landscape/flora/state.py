"""What there is to keep of an adapted model: the adapters' own numbers, and the arguments that made them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lodim.landscape.flora.adapted import FLoRALayer
from lodim.landscape.flora.inject import TrainedCopies, adapters_of, check_known
from lodim.landscape.flora.layer_kinds import KINDS
from lodim.validation import checked, close_matches

__all__ = ["exactly", "flora_config", "flora_state_dict", "load_flora_state_dict"]


@checked
def flora_state_dict(model: nn.Module, adapter_name: str | None = None) -> dict[str, Tensor]:
    """Return the adapters' numbers only, and those of the modules trained with them.

    Names are ``<layer>.flora_core.<adapter>``, ``<layer>.flora_factors.<adapter>.<mode>`` and
    ``<module>.modules_to_save.<adapter>.<name>``. Ranks and scale are not in it: :func:`flora_config` has them.

    Parameters
    ----------
    adapter_name : str, optional
        By default all adapters.

    Raises
    ------
    ValueError
        No such adapter.
    """
    wanted = [adapter_name] if adapter_name is not None else adapters_of(model)
    check_known(model, wanted)
    return {key: value.detach() for name in wanted for key, value in _entries(model, name).items()}


@checked
def load_flora_state_dict(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load what :func:`flora_state_dict` returned into a model with the same adapters.

    Parameters
    ----------
    model : nn.Module
        Adapted, with :func:`inject_flora`.

    Raises
    ------
    ValueError
        Entries that are missing, too many, or of another shape. Nothing is loaded then.
    RuntimeError
        An adapter is merged.
    """
    for layer in model.modules():
        if isinstance(layer, FLoRALayer):
            layer._refuse_if_merged("load adapters")
    every = {name: _entries(model, name) for name in adapters_of(model)}
    mine = {
        key: value
        for entries in every.values()
        if entries.keys() & state.keys()
        for key, value in entries.items()
    }
    if not mine:
        raise ValueError(
            f"the state holds no numbers of the model's adapters {list(every)}; its first entry is "
            f"{next(iter(state), None)!r}"
        )
    for key in mine.keys() ^ state.keys():
        where = "the state lacks" if key in mine else "the model has no adapter for"
        other = state if key in mine else mine
        raise ValueError(f"{where} {key!r}.{close_matches(key, other)}")
    for key, value in mine.items():
        if value.shape != state[key].shape:
            raise ValueError(
                f"{key!r} has shape {tuple(state[key].shape)} in the state and {tuple(value.shape)} in the model; "
                "were the ranks the same?"
            )
    with torch.no_grad():
        for key, value in mine.items():
            value.copy_(state[key])


def flora_config(model: nn.Module, adapter_name: str = "default") -> dict[str, Any]:
    """Return an adapter's arguments as plain data: ``inject_flora(plain_model, **config)`` makes it again.

    (Plain but for module types that were given as ``kinds``.)

    Raises
    ------
    ValueError
        No such adapter.
    """
    check_known(model, adapter_name)
    layers = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, FLoRALayer) and adapter_name in layer.flora_core
    }
    saved = [
        name
        for name, module in model.named_modules()
        if isinstance(module, TrainedCopies) and adapter_name in module.modules_to_save
    ]
    some = next(iter(layers.values()))
    return {
        "r": {name: list(layer.ranks[adapter_name]) for name, layer in layers.items()},
        "scale": some.scale[adapter_name],
        "dropout": some.dropout[adapter_name],
        "target_modules": exactly(layers),
        "kinds": _kinds_of(layers),
        "modules_to_save": exactly(saved) if saved else [],
        "adapter_name": adapter_name,
        "form": some.form,
    }


def exactly(names: Iterable[str]) -> str:
    """Return the regular expression that these names match, and no others."""
    return "|".join(map(re.escape, names))


def _kinds_of(layers: Mapping[str, FLoRALayer]) -> list[Any]:
    names = {cls: kind for kind, cls in KINDS.items()}
    return list(dict.fromkeys(names.get(type(x), type(x.base_layer)) for x in layers.values()))


def _entries(model: nn.Module, adapter_name: str) -> dict[str, Tensor]:
    """Return an adapter's tensors by the names they have in the model's state."""
    found: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(module, FLoRALayer) and adapter_name in module.flora_core:
            found[f"{prefix}flora_core.{adapter_name}"] = module.flora_core[adapter_name]
            factors: Any = module.flora_factors[adapter_name]
            for mode, factor in enumerate(factors):
                found[f"{prefix}flora_factors.{adapter_name}.{mode}"] = factor
        elif isinstance(module, TrainedCopies) and adapter_name in module.modules_to_save:
            trained = module.modules_to_save[adapter_name].state_dict()
            found |= {
                f"{prefix}modules_to_save.{adapter_name}.{key}": value for key, value in trained.items()
            }
    return found
