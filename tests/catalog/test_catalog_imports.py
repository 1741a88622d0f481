"""The catalogue is light: no torch, no pandas, no scikit-learn, no network."""

import json
import subprocess
import sys

HEAVY = {"torch", "pandas", "sklearn", "scipy", "matplotlib", "transformers", "pooch", "joblib"}

QUIET = """
import socket
def refuse(*args, **kwargs):
    raise RuntimeError("the network was touched")
socket.socket.connect = refuse
socket.create_connection = refuse
"""


def loaded_by(code):
    """Return the top-level modules that a fresh interpreter has loaded after running ``code`` without a network."""
    report = "\nimport sys, json; print('\\n' + json.dumps(sorted({n.split('.')[0] for n in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", QUIET + code + report], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_nothing_heavy_is_loaded():
    """All in one process: what any of them loaded would be seen."""
    code = [
        "import lodim.catalog",
        "from lodim.catalog import *",
        "from lodim.catalog import load_cards; [card.status for card in load_cards()]",
        "from lodim.catalog import search; search('clusters of points', mode='lexical').hits[0]",
        "from lodim.catalog import similar; similar('flora', mode='lexical')",
        "from lodim.catalog import recommend; recommend({'text': 'x', 'data_kinds': ['tabular']}, mode='lexical')",
        "from lodim.catalog import methods_table; methods_table()",
    ]
    assert not loaded_by("\n".join(code)) & HEAVY


def test_the_check_can_fail():
    assert "joblib" in loaded_by("import joblib") & HEAVY


def test_commands_load_nothing_heavy():
    commands = [
        ["--help"],
        ["methods"],
        ["methods", "--json"],
        ["show", "flora", "--mode", "lexical"],
        ["search", "--mode", "lexical", "clusters"],
        ["recommend", "--mode", "lexical", "clusters"],
    ]
    code = (
        "import sys\n"
        "from lodim.cli import main\n"
        f"for arguments in {commands!r}:\n"
        "    sys.argv = ['lodim', *arguments]\n"
        "    try: main()\n"
        "    except SystemExit as end: assert end.code in (0, None), end.code\n"
    )
    assert not loaded_by(code) & HEAVY
