"""What the cards' entry points are, so that each is held to the contract of its kind.

======================  ==========================================================================================
kind                    what belongs to it
======================  ==========================================================================================
``estimators``          subclasses of scikit-learn's ``BaseEstimator``
``generators``          modules with ``loss`` and ``sample``
``layers``              other modules; functions of a model that return a model; classes that take hold of a model
``results``             subclasses of :class:`lodim.results.Result` that are entry points, that an entry point returns
                        or that an area exports
======================  ==========================================================================================

Everything else (plain functions, value classes) has its own tests only, but for one thing: whatever is documented to
take an array, be it a function, a class or a method, is held to the contract of arrays (:func:`array_arguments`).
"""

import importlib
import inspect
import re
import typing
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator
from torch import nn

from lodim.catalog import load_cards
from lodim.nets.layers import Replacement
from lodim.results import Result
from lodim.validation import to_numpy

KINDS = ("estimators", "generators", "layers", "results")


def kind_of(thing):
    """Return the kind of an entry point, or None."""
    if inspect.isclass(thing):
        if issubclass(thing, Result):
            return "results"
        if issubclass(thing, BaseEstimator):
            return "estimators"
        if issubclass(thing, nn.Module):
            return "generators" if hasattr(thing, "loss") and hasattr(thing, "sample") else "layers"
        return "layers" if _first_parameter(thing) == "model" else None
    returned = returns(thing)
    converts = inspect.isclass(returned) and issubclass(returned, nn.Module | Replacement)
    return "layers" if converts and _first_parameter(thing) == "model" else None


def returns(thing):
    """Return what a function is annotated to return, or None."""
    return typing.get_type_hints(thing).get("return") if inspect.isfunction(thing) else None


def _first_parameter(thing):
    try:
        return next(iter(inspect.signature(thing).parameters), None)
    except ValueError:  # a builtin
        return None


@dataclass(frozen=True)
class Found:
    """An entry point (or a class that it returns): its dotted name, the card that names it, and what it is."""

    name: str
    slug: str
    thing: object
    kind: str


def resolve(dotted):
    """Return the object of a dotted name."""
    module, _, name = dotted.rpartition(".")
    return getattr(importlib.import_module(module), name)


def found_in(cards):
    """Return what the available ones of the cards offer and what their areas export, each thing once."""
    found = {}

    def note(name, slug, thing):
        if kind := kind_of(thing):
            found.setdefault(thing, Found(name, slug, thing, kind))

    available = [card for card in cards if card.status == "available"]
    for card in available:
        for name in card.entry_points:
            thing = resolve(name)
            note(name, card.slug, thing)
            returned = returns(thing)
            if inspect.isclass(returned) and issubclass(returned, Result):
                note(f"{returned.__module__}.{returned.__name__}", card.slug, returned)
    for area in sorted({card.area for card in available}):
        exported = importlib.import_module(f"lodim.{area}")
        for name in exported.__all__:
            thing = getattr(exported, name)
            if kind_of(thing) == "results":
                note(f"lodim.{area}.{name}", area, thing)
    return tuple(found.values())


def documented_arrays(function):
    """Return the parameters whose documented type is an array, as a set of names."""
    section = re.search(r"Parameters\n-+\n(.*?)(\n\n\S|\Z)", inspect.getdoc(function) or "", re.DOTALL)
    found = re.findall(r"^(\S.*?) : (.*)$", section.group(1), re.MULTILINE) if section else []
    return {
        name.strip(" *")
        for names, kind in found
        if re.search(r"array", kind) and not re.search(r"callable|iterable|DataLoader", kind)
        for name in names.split(",")
    }


def array_arguments(cards):
    """Return what takes arrays: function, class or method -> (dotted name, names of its array arguments).

    Looked at are the entry points of the available cards and all else that their modules export.
    """
    found = {}
    available = [card for card in cards if card.status == "available"]
    homes = sorted({name.rpartition(".")[0] for card in available for name in card.entry_points})
    for home in homes:
        module = importlib.import_module(home)
        for name in module.__all__:
            thing = getattr(module, name)
            parts = {f"{home}.{name}": thing}
            if inspect.isclass(thing):
                parts |= {f"{home}.{name}.{k}": v for k, v in vars(thing).items() if k[0] != "_"}
            for dotted, part in parts.items():
                part = getattr(part, "__func__", part)
                if callable(part) and (names := documented_arrays(part)):
                    found.setdefault(part, (dotted, names))
    return found


def everything(kind):
    """Return all things of a kind."""
    return tuple(one for one in found_in(load_cards()) if one.kind == kind)


def missing(found, examples):
    """Return what a test is to say if something has no example, or an empty string.

    Parameters
    ----------
    found : sequence of Found
    examples : mapping of str to mapping
        By kind, by class or function.
    """
    lines = [
        f"{one.name} (card {one.slug!r}) is one of the {one.kind} and has no example: add a line for it to "
        f"{one.kind.upper()} in tests/contract/examples.py"
        for one in found
        if one.thing not in examples.get(one.kind, {})
    ]
    return "\n".join(lines)


def flat(value):
    """All numbers in an array, a tensor, a list of them or an object that holds them, in one row."""
    if isinstance(value, int | float | np.number | np.ndarray | torch.Tensor):
        array = np.ravel(np.asarray(to_numpy(value)))
        return array.astype(float) if array.dtype.kind in "fiub" else np.empty(0)
    held = {name: part for name, part in getattr(value, "__dict__", {}).items() if name != "seconds"}
    parts = value if isinstance(value, list | tuple) else held.values()
    return np.concatenate([np.empty(0), *map(flat, parts)])


def parametrize(name, examples):
    """Return a mark that runs a test on every example of a kind, under the public names."""
    return pytest.mark.parametrize(
        name,
        [
            pytest.param(each, id=thing.__name__ + (f"-{i}" if len(several) > 1 else ""))
            for thing, several in examples.items()
            for i, each in enumerate(several)
        ],
    )


def refused(act, *words, errors=(ValueError,)):
    """Return whether something is refused; a refusal that says none of the words fails."""
    try:
        act()
    except errors as error:
        said = str(error)
    else:
        return False
    assert any(word in said for word in words), said
    return True
