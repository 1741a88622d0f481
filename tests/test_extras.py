"""Extras are what the package's metadata says, and nothing lists them again."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from lodim import extras

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
pytestmark = pytest.mark.skipif(not extras.extras(), reason="lodim is not installed: it has no metadata")


def test_extras_bring_what_the_project_says():
    declared = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    assert {"all", "web", "lm"} <= set(extras.extras()) <= set(declared)  # fewer before it is installed again
    for name in ("faiss", "lm", "topology"):
        plain = {re.split(r"[\[<>=]", line)[0] for line in declared[name]}
        assert plain <= set(extras.distributions(name))
    assert set(extras.distributions("web")) <= set(extras.distributions("postgres"))


def test_what_is_missing_is_named(monkeypatch):
    asked = {
        "lodim": ["numpy>=2", 'one[part]>=1; extra == "x"', "two; extra == 'x' and python_version < '3'"],
        "one": ["three", 'four>=2; extra == "part"'],
    }

    def distribution(name):
        if name != "one":
            raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", asked.get)
    monkeypatch.setattr(metadata, "distribution", distribution)
    extras.distributions.cache_clear()
    try:
        assert extras.distributions("x") == ("one", "four")
        assert extras.missing("x") == ("four",)
    finally:
        extras.distributions.cache_clear()
