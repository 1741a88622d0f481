"""The extras of lodim, ``pip install 'lodim[NAME]'``: what each brings, and what of it is missing here.

Nothing lists them a second time: they are read from the metadata of the installed package, so an extra exists once it
stands in ``pyproject.toml``.
"""

from __future__ import annotations

import importlib
import platform
from collections.abc import Iterator
from functools import lru_cache
from importlib import metadata
from types import ModuleType

from packaging.requirements import Requirement

__all__ = ["distributions", "extras", "missing", "require", "versions"]

FOUNDATION = ("lodim", "numpy", "scipy", "scikit-learn", "torch")


def _brought(distribution: str, extra: str) -> Iterator[str]:
    """Names of the distributions that an extra asks for on this platform, those of nested extras too."""
    for line in metadata.requires(distribution) or ():
        asked = Requirement(line)
        marker = asked.marker
        if marker is None or marker.evaluate({"extra": ""}) or not marker.evaluate({"extra": extra}):
            continue
        yield asked.name
        for nested in asked.extras:
            try:
                yield from _brought(asked.name, nested)
            except metadata.PackageNotFoundError:
                continue  # what it would bring is unknown until it is there; it is missing itself


@lru_cache
def extras() -> tuple[str, ...]:
    """Return the names of the extras, sorted."""
    try:
        return tuple(sorted(metadata.metadata("lodim").get_all("Provides-Extra") or ()))
    except metadata.PackageNotFoundError:  # the sources on the path, never installed
        return ()


@lru_cache
def distributions(extra: str) -> tuple[str, ...]:
    """Return the names of the distributions that an extra asks for."""
    return tuple(dict.fromkeys(_brought("lodim", extra)))


def missing(extra: str) -> tuple[str, ...]:
    """Return the distributions of an extra that are not installed."""

    def absent(name: str) -> bool:
        try:
            metadata.distribution(name)
        except metadata.PackageNotFoundError:
            return True
        return False

    return tuple(filter(absent, distributions(extra)))


def require(module: str, extra: str) -> ModuleType:
    """Import an optional library or say which extra brings it.

    Parameters
    ----------
    module : str
        Module to import, e.g. ``"faiss"``.

    Raises
    ------
    ImportError
        Naming the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"this needs {module.split('.')[0]!r}, which is not installed: pip install 'lodim[{extra}]'"
        ) from error


def versions(packages: tuple[str, ...] = FOUNDATION) -> dict[str, str]:
    """Return the versions of Python and of the installed ones among ``packages``, which are distribution names."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
