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


IMPORTS = (
    "import lodim",
    "lodim.__version__; dir(lodim)",
    "import lodim.cli",
    "lodim.datasets; lodim.geometry; lodim.landscape; lodim.claims; lodim.profiling; lodim.nets",
)
HELP = ("--help", "--version", "profile --help", "claims --help")
FIRST_HEAVY = "import lodim.randomness"
LISTING = "from lodim.datasets import summaries; summaries()"

ANSWERS = """
import json, shlex, sys

def report():
    print("\\n" + json.dumps(sorted({name.split(".")[0] for name in sys.modules})))

for words in sys.argv[1:]:
    kind, _, what = words.partition(":")
    if kind == "lodim":
        from lodim.cli import main

        sys.argv = ["lodim", *shlex.split(what)]
        try:
            main()
        except SystemExit:
            pass
    else:
        exec(what)
    report()
"""


@pytest.fixture(scope="module")
def loaded():
    """The top-level modules that one fresh interpreter has loaded after each step: what a step loads stays loaded."""
    steps = [f"run:{code}" for code in IMPORTS] + [f"lodim:{words}" for words in HELP]
    steps += [f"run:{LISTING}", f"run:{FIRST_HEAVY}"]
    done = subprocess.run([sys.executable, "-c", ANSWERS, *steps], capture_output=True, text=True, check=True)
    reports = [set(json.loads(line)) for line in done.stdout.splitlines() if line.startswith('["')]
    return dict(zip((*IMPORTS, *HELP, LISTING, FIRST_HEAVY), reports, strict=True))


@pytest.mark.parametrize("code", IMPORTS)
def test_importing_loads_nothing_heavy(loaded, code):
    assert "lodim" in loaded[code]
    assert not loaded[code] & HEAVY


@pytest.mark.parametrize("words", HELP)
def test_help_loads_nothing_heavy(loaded, words):
    assert "typer" in loaded[words]
    assert not loaded[words] & HEAVY


def test_listing_the_data_sets_needs_no_torch(loaded):
    assert not loaded[LISTING] & {"torch", "matplotlib"}


def test_the_check_can_fail(loaded):
    assert "numpy" in loaded[FIRST_HEAVY] & HEAVY


def test_everything_promised_can_be_loaded():
    """Every name in a package's stub exists."""
    import importlib

    import lodim

    for name in lodim.__all__:
        room = getattr(lodim, name)
        for promised in getattr(room, "__all__", ()):
            assert getattr(room, promised) is not None
    assert importlib.import_module("lodim.cli").main is not None
