"""The tools that begin a system and check its paths, on a folder laid out like the project."""

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lodim.catalog import AREAS, find_card

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / "tools"


def tool(name, patch):
    patch.syspath_prepend(str(TOOLS))
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    patch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def paths(monkeypatch):
    return tool("system_paths", monkeypatch)


@pytest.fixture
def new_system(monkeypatch, paths):
    return tool("new_system", monkeypatch)


@pytest.fixture
def root(tmp_path):
    shared = {
        "pyproject.toml": 'layers = [\n  "lodim.landscape | lodim.geometry",\n]\n',
        "src/lodim/__init__.pyi": "from . import (\n    landscape as landscape,\n)\nfrom .profiling import Profile\n",
        "docs/api/index.rst": "   lodim.landscape\n   lodim.geometry\n",
        **{f"src/lodim/catalog/cards/{slug}.toml": "claims = []\n" for slug in ("koopman", "s4d")},
    }
    for path, text in shared.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def test_a_skeleton_has_every_part_at_its_path(root, new_system, paths):
    card = find_card("koopman")
    new_system.write(root, card, AREAS[card.area])
    begun = SimpleNamespace(slug="koopman", area=card.area, claims=("koopman/headline",))
    (only,) = paths.misplaced(root, [begun])
    assert only.startswith("koopman: no records")  # those come from running the claim
    for path in root.rglob("*.py"):
        compile(path.read_text(), path.name, "exec")
    assert "from . import (\n    dynamics as dynamics,\n)" in (root / "src/lodim/__init__.pyi").read_text()
    project = (root / "pyproject.toml").read_text()
    assert '| lodim.dynamics"' in project
    assert project.endswith('type = "independence"\nmodules = [\n  "lodim.dynamics.koopman",\n]\n')
    new_system.write(root, find_card("s4d"), AREAS[card.area])
    assert (
        'modules = [\n  "lodim.dynamics.koopman",\n  "lodim.dynamics.s4d",\n]\n'
        in (root / "pyproject.toml").read_text()
    )
    assert 'claims = ["koopman/headline"]' in (root / "src/lodim/catalog/cards/koopman.toml").read_text()


def test_what_was_written_since_is_left_alone(root, new_system):
    card = find_card("koopman")
    new_system.write(root, card, AREAS[card.area])
    module = root / "src/lodim/dynamics/koopman.py"
    module.write_text("mine = 1\n")
    assert new_system.write(root, card, AREAS[card.area]) == []
    assert module.read_text() == "mine = 1\n"
    module.unlink()
    (module.with_suffix("") / "parts.py").parent.mkdir()  # it has grown into a folder
    assert new_system.write(root, card, AREAS[card.area]) == []


def test_what_lies_elsewhere_is_named(root, new_system, paths, monkeypatch):
    card = find_card("koopman")
    new_system.write(root, card, AREAS[card.area])
    (root / "evidence/claims/koopman").mkdir(parents=True)
    begun = SimpleNamespace(slug="koopman", area="dynamics", claims=("koopman/headline",))
    assert paths.misplaced(root, [begun]) == []
    (root / "evidence/claims/dmd").mkdir()
    (root / "docs/dynamics/koopman.md").rename(root / "docs/dynamics/dmd.md")
    (root / "evidence/claims/comparison").mkdir()  # ours, of no card
    begun.claims = ("dmd/spurious",)
    assert paths.misplaced(root, [begun]) == [
        "koopman: no page at docs/dynamics/koopman.md",
        "koopman: the claim 'dmd/spurious' has another name",
        "evidence/claims/dmd is of no method that can be used",
    ]
    exception = {("koopman", "page"): ("docs/dynamics/dmd.md", "as here"), ("koopman", "module"): (None, "x")}
    monkeypatch.setattr(paths, "ELSEWHERE", exception)
    begun.claims = ()
    (root / "evidence/claims/dmd").rmdir()
    assert paths.misplaced(root, [begun]) == [
        "koopman: the module is where it belongs, so that its exception can go"
    ]


@pytest.fixture
def tests_due(monkeypatch):
    return tool("tests_due", monkeypatch)


SOME = [
    "tests/geometry/koopman/test_modes.py",
    "tests/geometry/test_s4d.py",
    "tests/geometry/test_shared.py",
    "tests/landscape/test_flora.py",
    "tests/test_parallel.py",
    "tests/contract/test_fuzz.py",
]


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("tests/landscape/test_flora.py", SOME[3:4]),  # itself
        ("src/lodim/geometry/koopman/modes.py", SOME[:1]),  # of the same system
        ("src/lodim/geometry/s4d.py", SOME[1:2]),
        ("src/lodim/geometry/_common.py", SOME[:3]),  # of no system: the room
        ("src/lodim/parallel/jobs.py", SOME[4:5]),  # a room with one file of tests
        ("tests/contract/examples.py", SOME[5:]),
        ("docs/geometry/koopman.md", []),
    ],
)
def test_tests_near_a_change_are_due(tests_due, path, near):
    assert [test for test in SOME if tests_due.is_near(test, {path}, SOME)] == near


def test_every_test_has_its_turn_and_without_history_all_are_due(tests_due):
    turns = [tests_due.due(SOME, SOME, set(), turn, 8) for turn in range(100, 108)]
    assert sorted(test for turn in turns for test in turn) == sorted(SOME)
    assert tests_due.due(SOME, SOME, None, 0, 8) == SOME


@pytest.fixture
def pages(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_ext"))
    return tool("record_pages", monkeypatch)


def test_every_page_that_shows_a_measurement_has_its_record(pages):
    import measured

    included = {
        name
        for file in (ROOT / "docs").rglob("*.md")
        for name in re.findall(r"\{include\} (?:\.\./)*generated/(\w+)\.md", file.read_text(encoding="utf-8"))
    }
    names = set(pages.measurements.MEASUREMENTS)
    assert {page.__name__ for page in measured.BELOW} <= names
    assert included == names | {page.__name__ for page in measured.PAGES}
    assert {file.stem for file in pages.PAGES.glob("*.json")} == names
    for name in names:
        record = json.loads((pages.PAGES / f"{name}.json").read_text(encoding="utf-8"))
        assert record["content"] == pages.content_digest(pages.PAGES, name, record["pictures"]), name
        text = (pages.PAGES / f"{name}.md").read_text(encoding="utf-8")
        assert re.findall(r"!\[[^\]]*\]\(([^)]*)\)", text) == record["pictures"]
        sizes = [(pages.PAGES / picture).stat().st_size for picture in record["pictures"]]
        assert max(sizes, default=0) <= pages.MOST_BYTES


def test_a_measurement_is_stale_when_its_source_or_what_it_loaded_has_changed(pages, tmp_path, monkeypatch):
    def first(save):
        return save(one_line(), "a line", "line")

    def one_line():
        from lodim.plots import new_axes

        axes = new_axes()
        axes.plot([0, 1])
        return axes.figure

    monkeypatch.setattr(pages.measurements, "MEASUREMENTS", {"first": first})
    assert pages.stale(tmp_path, ["first"]) == ["first"]  # no record yet
    text, pictures, record = pages.measure("first")
    pages.write(tmp_path, "first", text, pictures, record | {"pictures": ["first-line.svg"]})
    assert (tmp_path / "first.md").read_text() == "![a line](first-line.svg)\n"
    assert b"<svg" in (tmp_path / "first-line.svg").read_bytes()
    assert pages.measure("first")[1] == pictures  # the same drawing, byte by byte
    assert pages.stale(tmp_path, ["first"]) == []
    assert record["source"] != pages.source_digest("first", ["lodim.plots"])
    monkeypatch.setattr(pages.measurements, "MEASUREMENTS", {"first": lambda save: ""})
    assert pages.stale(tmp_path, ["first"]) == ["first"]
    pages.write(tmp_path, "first", "", {}, record | {"pictures": []})
    assert not (tmp_path / "first-line.svg").exists()
    with pytest.raises(ValueError, match="rasterise"):
        pages.write(tmp_path, "first", "", {"first.svg": b"-" * 200_000}, record)


def test_a_build_without_a_record_names_the_command(pages, tmp_path, monkeypatch):
    import measured

    monkeypatch.setattr(measured, "RECORDED", tmp_path)
    with pytest.raises(RuntimeError, match=r"python tools/record_pages.py guidance"):
        measured.recorded("guidance")
