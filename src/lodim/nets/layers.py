"""Finding a module's layers by name and exchanging them: :func:`find_layers`, :func:`replace_layers`.

Names are chosen as in the PEFT library: a list holds names or their last parts (``"fc1"`` finds
``"blocks.0.fc1"``), also with wildcards (``"blocks.*.fc1"``), a string is a regular expression for the whole name,
``"all"`` stands for every layer of the kinds in question and ``"all-linear"`` for the linear ones, a language model's
output layer left out.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from lodim.nets.kinds import linear_kinds
from lodim.validation import checked, close_matches, warn

__all__ = ["LayerFilter", "Replacement", "find_layers", "peculiarity", "replace_layers"]

LayerFilter = str | Sequence[str] | Callable[[str, nn.Module], bool]
_MOST_NAMES = 20


@checked
def find_layers(
    module: nn.Module,
    targets: LayerFilter = "all",
    *,
    kinds: type[nn.Module] | tuple[type[nn.Module], ...] = nn.Linear,
    exclude: LayerFilter = (),
) -> dict[str, nn.Module]:
    """Return the layers that ``targets`` chooses among those of the given kinds, by name, in the module's order.

    Parameters
    ----------
    targets : "all", "all-linear", str, sequence of str or callable
        See :mod:`lodim.nets.layers`; a callable is asked ``targets(name, layer) -> bool``.
    kinds : type or tuple of type
        What may be chosen at all.
    exclude : as ``targets``
        Left out of what ``targets`` chose.

    Raises
    ------
    ValueError
        Nothing matches, or an entry of a list matches nothing; the message lists the names there are.

    Warns
    -----
    UserWarning
        ``exclude`` names a module that is not there.
    """
    candidates = {name: layer for name, layer in module.named_modules() if isinstance(layer, kinds)}
    chosen = {
        name: layer
        for name, layer in candidates.items()
        if _matches(name, layer, targets, module) and not _matches(name, layer, exclude, module)
    }
    if not isinstance(targets, str) and not callable(targets):
        for entry in targets:
            if not any(_is_named(name, entry) for name in candidates):
                raise ValueError(_nothing(module, f"the target {entry!r}", candidates, kinds, entry))
    for entry in () if callable(exclude) else [exclude] if isinstance(exclude, str) else exclude:
        asked = exclude if isinstance(exclude, str) else [entry]
        if not any(_matches(name, layer, asked, module) for name, layer in module.named_modules()):
            warn(f"exclude: {entry!r} is the name of no module here.{close_matches(entry, candidates)}")
    if not chosen:
        entry = targets if isinstance(targets, str) else ""
        raise ValueError(_nothing(module, f"targets={targets!r}", candidates, kinds, entry))
    return chosen


@dataclass(frozen=True, eq=False)
class Replacement:
    """What :func:`replace_layers` did: the layers by name, as they were before and after."""

    module: nn.Module
    before: dict[str, nn.Module]
    after: dict[str, nn.Module]

    def undo(self) -> None:
        """Put the original layers back."""
        for name, layer in self.before.items():
            self.module.set_submodule(name, layer)


@checked
def replace_layers(
    module: nn.Module,
    factory: Callable[[str, nn.Module], nn.Module | None],
    targets: LayerFilter = "all",
    *,
    kinds: type[nn.Module] | tuple[type[nn.Module], ...] = nn.Linear,
    exclude: LayerFilter = (),
) -> Replacement:
    """Exchange the chosen layers of a module, in place.

    Parameters
    ----------
    factory : callable
        ``factory(name, layer)`` makes the new layer; None keeps the old one. It is asked once for a layer that stands
        in several places, and the new one is put in all of them.
    targets, kinds, exclude
        As in :func:`find_layers`.

    Raises
    ------
    ValueError
        As :func:`find_layers`; or the module is itself such a layer, which nothing holds.
    """
    chosen = find_layers(module, targets, kinds=kinds, exclude=exclude)
    if "" in chosen:
        raise ValueError(
            f"the module is itself a {type(module).__name__}; wrap it, as in nn.Sequential(module), to have its layer "
            "replaced"
        )
    made = {id(layer): factory(name, layer) for name, layer in chosen.items()}
    before: dict[str, nn.Module] = {}
    after: dict[str, nn.Module] = {}
    for name, layer in list(module.named_modules(remove_duplicate=False)):
        new = made.get(id(layer))
        if new is not None:
            before[name], after[name] = layer, new
    for name, new in after.items():
        module.set_submodule(name, new)
    return Replacement(module, before, after)


def peculiarity(layer: nn.Module, kind: type[nn.Module]) -> str | None:
    """Say why a layer computes something else than its kind does with a weight of its own; None if it does not.

    What puts another layer in its place and reads its weight would change the function of such a layer. ``kind`` is the
    class whose forward is known.
    """
    if nn.utils.parametrize.is_parametrized(layer) or "weight" not in layer._parameters:
        return "its weight is itself computed from other parameters"
    if isinstance(layer.weight, nn.parameter.UninitializedParameter):
        return "it is lazy, its weight's shape not known yet"
    if type(layer).forward is not kind.forward:
        return f"{type(layer).__name__} has a forward of its own"
    if layer._forward_hooks or layer._forward_pre_hooks:
        return "it has forward hooks, which would be lost"
    return None


def _is_named(name: str, entry: str) -> bool:
    return fnmatch.fnmatchcase(name, entry) or fnmatch.fnmatchcase(
        name, "*." + entry
    )  # no name holds a wildcard


def _matches(name: str, layer: nn.Module, targets: LayerFilter, module: nn.Module) -> bool:
    if targets == "all":
        return True
    if targets == "all-linear":
        head = getattr(module, "get_output_embeddings", lambda: None)()
        return isinstance(layer, linear_kinds()) and layer is not head
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    if callable(targets):
        return bool(targets(name, layer))
    return any(_is_named(name, entry) for entry in targets)


def _nothing(
    module: nn.Module,
    what: str,
    candidates: dict[str, nn.Module],
    kinds: type[nn.Module] | tuple[type[nn.Module], ...],
    entry: str,
) -> str:
    wanted = " or ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
    if not candidates:
        return f"{type(module).__name__} has no {wanted} layer for {what} to choose from"
    shown = list(candidates)[:_MOST_NAMES]
    more = f" and {len(candidates) - len(shown)} more" if len(candidates) > len(shown) else ""
    return (
        f"{what} matches no {wanted} layer that is not excluded.{close_matches(entry, candidates)} "
        f"There are: {', '.join(repr(name) for name in shown)}{more}"
    )
