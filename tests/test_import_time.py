"""Importing costs next to nothing: heavy libraries wait until something needs them.

Modules are counted here; seconds are measured by ``tools/import_budget.py``.
"""

import json
import subprocess
import sys

import pytest

HEAVY = {
    "torch",
    "pandas",
    "matplotlib",
    "sklearn",
    "scipy",
    "numpy",
    "jinja2",
    "joblib",
    "pooch",
    "PIL",
    "pyarrow",
}


def loaded_by(code):
    """Return the top-level modules that a fresh interpreter has loaded after running ``code``."""
    report = (
        "\nimport sys, json; print('\\n' + json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import lodim",
        "import lodim; lodim.__version__; dir(lodim)",
        "import lodim.cli",
        "import lodim; lodim.datasets; lodim.geometry; lodim.landscape; lodim.claims; lodim.profiling; lodim.nets",
    ],
)
def test_importing_loads_nothing_heavy(code):
    loaded = loaded_by(code)
    assert "lodim" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["profile", "--help"], ["claims", "--help"]]
)
def test_help_loads_nothing_heavy(arguments):
    code = (
        f"import sys; sys.argv = ['lodim', *{arguments!r}]\n"
        "from lodim.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass"
    )
    loaded = loaded_by(code)
    assert "typer" in loaded
    assert not loaded & HEAVY


def test_listing_the_data_sets_needs_no_torch():
    loaded = loaded_by("from lodim.datasets import summaries; summaries()")
    assert not loaded & {"torch", "matplotlib"}


def test_the_check_can_fail():
    assert "numpy" in loaded_by("import lodim.randomness") & HEAVY


def test_everything_promised_can_be_loaded():
    """Every name in a package's stub exists."""
    import importlib

    import lodim

    for name in lodim.__all__:
        room = getattr(lodim, name)
        for promised in getattr(room, "__all__", ()):
            assert getattr(room, promised) is not None
    assert importlib.import_module("lodim.cli").main is not None
