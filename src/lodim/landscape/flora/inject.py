"""FLoRA adapters in a whole model: put in, chosen, switched off, merged, taken out.

Everything works in place on any ``nn.Module``; layers are chosen by name as in the PEFT library (see
:mod:`lodim.nets.layers`). Modules named in ``modules_to_save``, a new head as a rule, are trained as they are: a copy
for each adapter, so that switching adapters switches heads too and taking all out restores the model.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import nn

from lodim.landscape.flora.adapted import FLoRALayer, Number, check_adapter_name
from lodim.landscape.flora.layer_kinds import KINDS
from lodim.landscape.flora.tucker import RankLike, resolve_ranks
from lodim.nets.kinds import owner_of
from lodim.nets.layers import LayerFilter, find_layers
from lodim.randomness import RandomState, derive_seed, root_seed
from lodim.validation import check_choice, checked, close_matches, warn

__all__ = [
    "delete_adapter",
    "disable_adapter",
    "inject_flora",
    "merge_adapter",
    "n_trainable",
    "remove_flora",
    "set_adapter",
    "unmerge_adapter",
]


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


KindLike = str | type[nn.Module]
_TRAINED = "_flora_trained_before"


@checked
def inject_flora(
    model: nn.Module,
    r: RankLike | Mapping[str, Any] = 8,
    scale: Number = 1.0,
    dropout: Number = 0.0,
    target_modules: LayerFilter = "all-linear",
    kinds: Sequence[KindLike] = ("linear", "conv2d"),
    modules_to_save: LayerFilter = (),
    adapter_name: str = "default",
    *,
    exclude_modules: LayerFilter = (),
    form: str = "auto",
    random_state: RandomState = None,
) -> nn.Module:
    """Freeze a model and give its layers FLoRA adapters, in place.

    Calling it again with another ``adapter_name`` adds a further adapter, which then is the active one.

    Parameters
    ----------
    r : int, sequence of int or dict
        Ranks of every layer (see :func:`~lodim.landscape.flora.resolve_ranks`), or by layer: keys are names, last
        parts of names, or kinds; the longest name that fits decides.
    scale : float
        Multiplier of the updates; a plain one, not divided by a rank.
    dropout : float
        Of the adapters' inputs, in training.
    target_modules : "all", "all-linear", str, sequence of str or callable
        As in :func:`lodim.nets.find_layers`.
    kinds : sequence of str or type
        What may be adapted: ``"linear"``, ``"embedding"``, ``"conv1d"`` to ``"conv3d"``, ``"conv_transpose1d"`` to
        ``"conv_transpose3d"``; or module types with a ``weight``, which are adapted in materialised form.
    modules_to_save : as ``target_modules``
        Modules of any type that are trained as a whole; they are not adapted besides.
    exclude_modules : as ``target_modules``
    form : {"auto", "materialize", "chain"}
        How the updates are computed; "chain" for layers that have it.
    random_state : int, Generator or None
        Of the factors; None draws from torch's global generator.

    Returns
    -------
    nn.Module
        The model.

    Raises
    ------
    ValueError
        Nothing matches (the message lists what there is), ranks that do not fit, no rank for a layer, a layer that
        has an adapter of this name, or that one adapter is to adapt and another to train as a whole. The model is as
        before.
    TypeError
        A layer that cannot be adapted.

    Examples
    --------
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 3))
    >>> n_trainable(inject_flora(net, r=4, target_modules=["0"], modules_to_save=["2"]))
    309
    """
    check_adapter_name(adapter_name)
    types = _types_of(kinds)
    with _without_adapters(model) as wrappers:
        chosen, saved = _choose(model, target_modules, exclude_modules, types, modules_to_save)
        _refuse_owned(model, chosen)
        for layer in chosen.values():
            _class_of(layer).check(layer, form, dropout)
        ranks = {name: _ranks_of(name, layer, r) for name, layer in chosen.items()}
        before = {name: p.requires_grad for name, p in model.named_parameters()}
        _warn_of_tied(model, chosen)
    for name in (*chosen, *saved):
        other = TrainedCopies if name in chosen else FLoRALayer
        if isinstance(wrappers.get(name), other):
            raise ValueError(
                f"{name!r} is {'trained as a whole' if name in chosen else 'adapted'} by another adapter and cannot be "
                f"{'adapted' if name in chosen else 'trained as a whole'} too; leave it out, or remove_flora first"
            )
    taken = [name for name in (*chosen, *saved) if _has(wrappers.get(name), adapter_name)]
    if taken:
        raise ValueError(
            f"{taken[0]!r} has an adapter {adapter_name!r} already; give adapter_name= another name, or take it away "
            "with delete_adapter"
        )
    root = None if random_state is None else root_seed(random_state)
    made: dict[int, nn.Module] = {}
    for name, layer in chosen.items():
        seed = None if root is None else derive_seed(root, name, adapter_name)
        wrapper = wrappers.get(name)
        if wrapper is None:
            wrapper = _class_of(layer)(
                layer, ranks[name], scale, dropout, adapter_name, form=form, random_state=seed
            )
        else:
            wrapper.add(adapter_name, ranks[name], scale, dropout, random_state=seed)
        made[id(layer)] = wrapper
    for name, module in saved.items():
        wrapper = wrappers.get(name) or TrainedCopies(module)
        wrapper.add(adapter_name)
        made[id(module)] = wrapper
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if id(module) in made and made[id(module)] not in wrappers.values():
            model.set_submodule(name, made[id(module)])
    if not hasattr(model, _TRAINED):
        setattr(model, _TRAINED, tuple(name for name, free in before.items() if free))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    set_adapter(model, adapter_name)
    return model


def set_adapter(model: nn.Module, adapter_name: str | Sequence[str]) -> None:
    """Make one adapter, or several together, the active ones: added in the forward, and trained.

    Raises
    ------
    ValueError
        No such adapter, or two of the adapters have a trained copy of one module.
    RuntimeError
        Adapters are merged.
    """
    check_known(model, adapter_name)
    wrappers = _wrappers(model).values()
    for layer in wrappers:
        if isinstance(layer, FLoRALayer):
            layer._refuse_if_merged("choose adapters")
    for layer in wrappers:
        layer.set_adapter(adapter_name)


def delete_adapter(model: nn.Module, adapter_name: str) -> None:
    """Take one of several adapters out of a model; the only one is for :func:`remove_flora`, a ValueError."""
    check_known(model, adapter_name)
    if len(adapters_of(model)) == 1:
        raise ValueError(f"{adapter_name!r} is the only adapter; remove_flora(model) restores the model")
    for layer in _wrappers(model).values():
        if isinstance(layer, FLoRALayer) and adapter_name in layer.flora_core:
            layer.delete(adapter_name)
        elif isinstance(layer, TrainedCopies) and adapter_name in layer.modules_to_save:
            layer.active = tuple(name for name in layer.active if name != adapter_name)
            del layer.modules_to_save[adapter_name]


@contextmanager
def disable_adapter(model: nn.Module) -> Iterator[nn.Module]:
    """Run a block with the model as it was before any adapter."""
    wrappers = list(_wrappers(model).values())
    states = [layer.enabled for layer in wrappers]
    merged = [layer for layer in wrappers if isinstance(layer, FLoRALayer) and layer.merged]
    try:
        for layer in merged:
            layer.unmerge()
        for layer in wrappers:
            layer.enabled = False
        yield model
    finally:
        for layer, state in zip(wrappers, states):
            layer.enabled = state
        for layer in merged:
            layer.merge()


def merge_adapter(model: nn.Module) -> None:
    """Write the active updates into the weights: the forward then costs what the plain model's does."""
    for layer in _adapted(model).values():
        layer.merge()


def unmerge_adapter(model: nn.Module) -> None:
    """Put the original weights back and compute the updates aside again."""
    for layer in _adapted(model).values():
        layer.unmerge()


@checked
def remove_flora(model: nn.Module, *, merge: bool) -> nn.Module:
    """Take all adapters out, in place, and let train again what did before.

    Parameters
    ----------
    merge : bool
        Whether the active adapters' updates (and trained copies) stay in the weights; else the model is the original.
    """
    wrappers = _wrappers(model)
    adapters_of(model)
    for layer in wrappers.values():
        if isinstance(layer, FLoRALayer):
            layer.merge() if merge else layer.unmerge()
    for name, layer in wrappers.items():
        plain = layer.base_layer if isinstance(layer, FLoRALayer) else layer.original_module
        if isinstance(layer, TrainedCopies) and merge and layer.active:
            plain = layer.modules_to_save[layer.active[0]]
        model.set_submodule(name, plain)
    free = set(getattr(model, _TRAINED))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in free)
    delattr(model, _TRAINED)
    return model


def n_trainable(model: nn.Module) -> int:
    """Return how many numbers training changes."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def adapters_of(model: nn.Module) -> list[str]:
    """Return the names of the adapters in a model; ValueError without any."""
    found: dict[str, None] = {}
    for layer in _adapted(model).values():
        found |= dict.fromkeys(layer.flora_core)
    if not found:
        raise ValueError(f"{type(model).__name__} has no FLoRA adapter; inject_flora(model) makes one")
    return list(found)


def check_known(model: nn.Module, names: str | Sequence[str]) -> None:
    """Raise ValueError unless the model has these adapters, naming those there are."""
    known = adapters_of(model)
    for name in (names,) if isinstance(names, str) else names:
        if name not in known:
            raise ValueError(f"no adapter {name!r}; there are {known}.{close_matches(name, known)}")


def _wrappers(model: nn.Module) -> dict[str, Any]:
    """Adapted layers and trained copies by every name they stand under."""
    every = model.named_modules(remove_duplicate=False)
    return {name: m for name, m in every if isinstance(m, FLoRALayer | TrainedCopies)}


def _adapted(model: nn.Module) -> dict[str, FLoRALayer]:
    return {name: m for name, m in model.named_modules() if isinstance(m, FLoRALayer)}


def _has(wrapper: Any, adapter_name: str) -> bool:
    return adapter_name in getattr(wrapper, "flora_core", ()) or adapter_name in getattr(
        wrapper, "modules_to_save", ()
    )


@contextmanager
def _without_adapters(model: nn.Module) -> Iterator[dict[str, Any]]:
    """Let a block see the model's own layers under their own names."""
    wrappers = _wrappers(model)
    for name, layer in wrappers.items():
        model.set_submodule(
            name, layer.base_layer if isinstance(layer, FLoRALayer) else layer.original_module
        )
    try:
        yield wrappers
    finally:
        for name, layer in wrappers.items():
            model.set_submodule(name, layer)


def _types_of(kinds: Sequence[KindLike]) -> tuple[type[nn.Module], ...]:
    if isinstance(kinds, str):
        raise TypeError(f"kinds is a sequence, as in kinds=({kinds!r},)")
    return tuple(
        KINDS[check_choice(kind, KINDS, "kinds")].base_type if isinstance(kind, str) else kind
        for kind in kinds
    )


def _class_of(layer: nn.Module) -> type[FLoRALayer]:
    return next((cls for cls in KINDS.values() if isinstance(layer, cls.base_type)), FLoRALayer)


def _choose(
    model: nn.Module,
    targets: LayerFilter,
    exclude: LayerFilter,
    types: tuple[type[nn.Module], ...],
    modules_to_save: LayerFilter,
) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
    """Return the layers to adapt and the modules to copy."""
    saved = find_layers(model, modules_to_save, kinds=nn.Module) if modules_to_save else {}
    chosen = find_layers(model, targets, kinds=types, exclude=exclude)
    inside = {id(m) for module in saved.values() for m in module.modules()}
    chosen = {name: layer for name, layer in chosen.items() if id(layer) not in inside}
    if not chosen:
        raise ValueError("every layer that target_modules chooses is in modules_to_save: nothing to adapt")
    if "" in chosen or "" in saved:
        raise ValueError(
            f"the model is itself a {type(model).__name__}; wrap it, as in nn.Sequential(model), or use "
            f"{_class_of(model).__name__}(model) directly"
        )
    return chosen, saved


def _refuse_owned(model: nn.Module, chosen: Mapping[str, nn.Module]) -> None:
    """Raise if a layer's weight belongs to another method, which would not call an adapter."""
    held = {
        id(child): (name, owner)
        for name, m in model.named_modules()
        if (owner := owner_of(m)) is not None and owner is not FLoRALayer.weight_owner
        for child in m.children()
    }
    for layer in chosen.values():
        if id(layer) in held:
            name, owner = held[id(layer)]
            raise TypeError(f"the layer {name!r} {owner.state}, without an adapter; {owner.release}")


def _ranks_of(name: str, layer: Any, r: RankLike | Mapping[str, Any]) -> tuple[int, ...]:
    """Return a layer's ranks, from a dict by the longest fitting name, else by kind."""
    wanted: Any = r
    if isinstance(r, Mapping):
        fitting = [key for key in r if name == key or name.endswith("." + key)]
        kind = next((key for key, cls in KINDS.items() if isinstance(layer, cls.base_type)), None)
        if not fitting and kind not in r:
            raise ValueError(
                f"r has no ranks for {name!r} (a {kind or type(layer).__name__}); its keys are {list(r)}. Add the "
                "name, its last part or the kind"
            )
        wanted = r[max(fitting, key=len)] if fitting else r[kind or ""]
    if not isinstance(wanted, int | np.integer):
        wanted = tuple(wanted)
    return resolve_ranks(layer.weight.shape, wanted, name=repr(name))


def _warn_of_tied(model: nn.Module, chosen: Mapping[str, Any]) -> None:
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    layers = {id(layer) for layer in chosen.values()}
    for name, layer in chosen.items():
        others = [
            other
            for other in names.get(id(layer.weight), ())
            if id(model.get_submodule(other.rpartition(".")[0])) not in layers
        ]
        if others:
            warn(
                f"the weight of {name!r} is shared with {others[0]!r}, which keeps the original: adapting and merging "
                f"concern {name!r} alone",
                stacklevel=4,
            )
