"""What the room of papers loads, and what it does without its extra."""

import subprocess
import sys

import pytest

WEB = ("sqlalchemy", "defusedxml", "bibtexparser", "pylatexenc", "platformdirs")
HEAVY = ("torch", "pandas", "sklearn", "scipy", "matplotlib", "transformers")


def loaded(code):
    """Return the top-level modules that a fresh interpreter has loaded after some code."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*{{n.split('.')[0] for n in sys.modules}})"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_the_extra_is_not_loaded_before_it_is_used():
    """All in one process: what any of them loaded would be seen."""
    code = "import lodim.catalog, lodim.catalog.feed, lodim.cli\nfrom lodim.catalog.feed import Catalog"
    assert not loaded(code) & set(WEB)


def test_a_list_loads_nothing_heavy():
    code = (
        "from lodim.catalog.feed import Catalog\nwith Catalog(':memory:') as c: c.papers(); c.search('x y')"
    )
    modules = loaded(code)
    assert "sqlalchemy" in modules
    assert not modules & set(HEAVY)


@pytest.mark.parametrize("missing", ["sqlalchemy", "platformdirs"])
def test_without_the_extra_the_message_names_it(missing, monkeypatch):
    from lodim.catalog.feed import Catalog

    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=r"lodim\[web\]"):
        Catalog()
