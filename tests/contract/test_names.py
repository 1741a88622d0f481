"""One name for one thing: the public names keep the table of ``docs/conventions.md``."""

import importlib
import inspect
import pkgutil
import re
from functools import cache
from pathlib import Path

import pytest
from sklearn.base import BaseEstimator

import lodim
from lodim.results import Result

from .finder import returns

PAGE = Path(__file__).parents[2] / "docs" / "conventions.md"
PACKAGES = [
    f"lodim.{info.name}"
    for info in pkgutil.iter_modules(lodim.__path__)
    if info.ispkg and info.name not in ("catalog", "claims", "cli", "pages", "web")
]
# An int from which the same thing is made anew: maps, subspaces, and the records of what was made with them.
STORED = re.compile(
    r"lodim\.sketch\.|lodim\.landscape\.(SubspaceModule|Origin|PolicySearch|Workbench)|"
    r"lodim\.training\.(Replica|DescentRun)"
)
RESUMES = "lodim.landscape.LandscapeDimension"  # finds the runs that it did before by its seed


def table():
    """Return the names that stand for one thing, and those that no public name may have."""
    rows = [line.split("|")[2:4] for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")][
        1:
    ]
    return tuple({word for row in rows for word in re.findall(r"`([a-z_]+)`", row[i])} for i in (0, 1))


@cache
def public():
    """Return each public function, class and method of the library by its dotted name."""
    found = {}
    for package in PACKAGES:
        for name in importlib.import_module(package).__all__:
            thing = getattr(importlib.import_module(package), name)
            if inspect.isclass(thing):
                found[f"{package}.{name}"] = thing
                found |= {
                    f"{package}.{name}.{method}": part
                    for method, part in vars(thing).items()
                    if inspect.isfunction(part) and not method.startswith("_")
                }
            elif inspect.isfunction(thing):
                found[f"{package}.{name}"] = thing
    return found


def parameters(thing):
    """Return a callable's parameters by name; of a result they are its fields."""
    try:
        return dict(inspect.signature(thing).parameters)
    except ValueError:  # a builtin
        return {}


def is_result(thing):
    return inspect.isclass(thing) and issubclass(thing, Result)


def test_no_public_name_has_another_word_for_it():
    allowed, never = table()
    assert {"random_state", "max_iter", "n_bootstrap"} <= allowed
    assert {"rng", "n_iter", "n_boot"} <= never
    assert not allowed & (never - {"n_iter"})
    wrong = [
        f"{name}({parameter})"
        for name, thing in public().items()
        for parameter in parameters(thing)
        if parameter in never and not (parameter == "n_iter" and is_result(thing))
    ]
    assert not wrong


def test_a_seed_is_a_part_of_what_is_stored():
    wrong = [
        name
        for name, thing in public().items()
        if "seed" in parameters(thing) and not is_result(thing) and not STORED.match(name)
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("parameter", "defaults"),
    {
        "n_jobs": (1,),
        "device": (None,),
        "ax": (None,),
        "progress": (None,),
        "ci": (0.95, None),
        "level": (0.05,),
    }.items(),
)
def test_defaults_are_alike(parameter, defaults):
    given = {
        name: found[parameter].default
        for name, thing in public().items()
        if not is_result(thing) and parameter in (found := parameters(thing))
    }
    wrong = {
        name: value for name, value in given.items() if value not in (*defaults, inspect.Parameter.empty)
    }
    assert given
    assert not wrong


def test_what_is_read_is_the_same_again_and_what_is_built_is_not():
    read, built = {}, {}
    for name, thing in public().items():
        if is_result(thing) or (found := parameters(thing).get("random_state")) is None:
            continue
        returned = returns(thing)
        estimator = inspect.isclass(thing) and issubclass(thing, BaseEstimator)
        draws = name.rpartition(".")[2].startswith(("sample_", "simulate_"))
        (read if is_result(returned) and not draws else built if estimator else {})[name] = found.default
    assert len(read) > 30
    assert not {name: value for name, value in read.items() if value not in (0, inspect.Parameter.empty)}
    assert len(built) > 20
    assert {name: value for name, value in built.items() if value is not None} == {RESUMES: 0}
