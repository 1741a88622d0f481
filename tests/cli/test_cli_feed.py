"""``lodim papers``: what is printed, what is written, exit codes."""

import json
import sys

import pytest
from typer.testing import CliRunner

from lodim.cli import app

for needed in ("sqlalchemy", "defusedxml", "bibtexparser", "platformdirs"):
    pytest.importorskip(needed, reason="needs the extra 'web'")

RUNNER = CliRunner()
DAILY = [
    {
        "paper": {
            "id": "1804.08838",
            "title": "Measuring the Intrinsic Dimension of Objective Landscapes",
            "summary": "Networks are trained in random subspaces.",
            "authors": [{"name": f"Person {i}"} for i in range(5)],
            "upvotes": 41,
            "publishedAt": "2024-05-03T05:00:00.000Z",
        }
    },
    {"paper": {"id": "2611.00001", "title": "Subspaces that Agree", "summary": "[red]x[/red]", "upvotes": 3}},
    {"paper": {"id": "2611.00002"}},
]


@pytest.fixture(autouse=True)
def _place(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LODIM_DEBUG", raising=False)
    (tmp_path / "daily.json").write_text(json.dumps(DAILY))


def run(*arguments, width=80, **options):
    environment = {"COLUMNS": str(width), "LODIM_PAPERS": "papers.db"}
    return RUNNER.invoke(app, ["papers", *map(str, arguments)], env=environment, **options)


def test_a_catalogue_without_papers_says_what_to_do():
    run("ingest", "-", input='[{"x": 1}]')  # makes the catalogue, and adds nothing
    done = run("list")
    assert done.exit_code == 0
    assert "lodim papers ingest FILE" in done.stdout


def test_taking_in_twice():
    first = run("ingest", "daily.json")
    assert first.exit_code == 0
    assert first.stdout.strip() == "2 added, 0 updated, 0 unchanged, 1 rejected (json)"
    assert "entry 3: it has no title" in first.stderr
    second = json.loads(run("ingest", "daily.json", "--json").stdout)
    assert (second["added"], second["unchanged"]) == (0, 2)
    assert second["rejected"] == [{"entry": "entry 3", "reason": "it has no title"}]


def test_from_standard_input_with_a_mapping():
    done = run("ingest", "-", "--format", "csv", "--map", "title=Paper", input="Paper,x\nA,1\n")
    assert done.exit_code == 0
    assert done.stdout.startswith("1 added")


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(
    "command",
    [
        ["list"],
        ["list", "--sort", "new"],
        ["search", "subspaces"],
        ["show", "1804.08838"],
        ["list", "-n", "1"],
    ],
)
def test_lists_fit_the_terminal(width, command):
    run("ingest", "daily.json")
    done = run(*command, width=width)
    assert done.exit_code == 0
    text = " ".join(done.stdout.split())
    assert "Measuring the Intrinsic Dimension of Objective Landscapes" in text or "-n" in command
    lines = [line for line in done.stdout.splitlines() if not line.startswith("More: ")]
    assert max(map(len, lines)) <= width


def test_a_list_shows_votes_methods_and_its_formula():
    run("ingest", "daily.json")
    text = " ".join(run("list", width=120).stdout.split())
    assert "41 votes" in text
    assert "objective-landscapes" in text
    assert "max(votes - 1, 0)^0.8 / (age in hours + 2)^1.8" in text
    assert "[red]x[/red]" in run("show", "2611.00001").stdout


def test_pages_follow_by_cursor():
    run("ingest", "daily.json")
    first = run("list", "-n", "1")
    cursor = first.stdout.split("--cursor ")[1].strip()
    rest = json.loads(run("list", "-n", "1", "--cursor", cursor, "--json").stdout)
    assert len(rest["papers"]) == 1
    assert rest["papers"][0]["title"] not in first.stdout
    assert rest["next"] is None


def test_json_is_complete():
    run("ingest", "daily.json")
    shown = json.loads(run("show", "1804.08838", "--json").stdout)
    assert shown["method"] == "objective-landscapes"
    assert shown["history"][0]["source"] == "huggingface"
    assert {p["title"] for p in json.loads(run("search", "subspaces", "--json").stdout)["papers"]} == {
        d["paper"]["title"] for d in DAILY[:2]
    }
    near = json.loads(run("list", "--sort", "similar", "--to", "1804.08838", "--json").stdout)
    assert near["papers"][0]["arxiv_id"] == "1804.08838"


@pytest.mark.parametrize(("form", "start"), [("atom", "<?xml"), ("json", '{\n  "version"'), ("bibtex", "@")])
def test_exports(form, start, tmp_path):
    run("ingest", "daily.json")
    assert run("export", "--format", form).stdout.startswith(start)
    done = run("export", "--format", form, "-o", "out", "--search", "agree")
    assert done.exit_code == 0
    text = (tmp_path / "out").read_text()
    assert text.startswith(start)
    assert "Agree" in text
    assert "Measuring" not in text


def test_backup_and_reindex(tmp_path):
    run("ingest", "daily.json")
    assert "Indexed 2 papers" in run("reindex").stderr
    assert run("backup", "copy.db").exit_code == 0
    assert run("backup", "copy.db").exit_code == 2
    assert "Subspaces" in run("list", "--catalog", "copy.db").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ingest", "nofile"], "there is no file"),
        (["ingest", "https://arxiv.org/x"], "--online"),
        (["ingest", "https://evil.test/x", "--online"], "not among the trusted hosts"),
        (["ingest", "daily.json", "--format", "pdf"], "format must be one of"),
        (["ingest", "daily.json", "--map", "x"], "--map must look like"),
        (["list", "--sort", "hot"], "sort must be one of"),
        (["list", "--since", "soon"], "since must be"),
        (["show", "0000.00000"], "there is no paper"),
        (["export", "--format", "pdf"], "--format must be"),
        (["export", "-o", "no/such/file"], "there is no folder"),
    ],
)
def test_what_is_wrong_is_said_with_code_2(arguments, said):
    run("ingest", "daily.json")
    done = run(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr


def test_nothing_but_rejected_entries_is_code_2():
    done = run("ingest", "-", input='[{"x": 1}]')
    assert done.exit_code == 2
    assert "1 rejected" in done.stdout


def test_a_missing_extra_is_code_3(monkeypatch):
    run("ingest", "daily.json")
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    done = run("list")
    assert done.exit_code == 3
    assert "pip install 'lodim[web]'" in done.stderr


def test_a_network_that_fails_is_code_3(monkeypatch):
    def fail(*args):
        raise OSError("no route")

    monkeypatch.setattr("lodim.catalog.feed.online.Fetcher.fetch", fail)
    done = run("ingest", "https://arxiv.org/x", "--online")
    assert done.exit_code == 3
    assert "could not be fetched: no route" in done.stderr


def test_a_server_that_cannot_be_reached_is_code_3_and_its_password_is_not_told():
    pytest.importorskip("psycopg", reason="needs the extra 'postgres'")
    done = run("list", "--catalog", "postgresql://me:hunter2@127.0.0.1:1/papers")
    assert done.exit_code == 3
    assert "postgresql://127.0.0.1:1/papers cannot be reached" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout


def test_a_catalogue_that_another_process_writes_to_is_code_3(monkeypatch):
    from lodim.catalog.feed.store import Store

    run("ingest", "daily.json")
    monkeypatch.setattr("lodim.catalog.feed.ingest.LONG", 0.05)
    with Store("papers.db").writing():
        done = run("ingest", "daily.json")
        assert done.exit_code == 3
        assert "written to by another process; try again" in done.stderr
        assert "41 votes" in run("list").stdout


def test_a_library_that_is_missing_is_code_3_in_every_command(monkeypatch):
    from lodim.cli.errors import reported

    with pytest.raises(SystemExit) as left, reported():
        raise ImportError("this needs 'x', which is not installed", name="x")
    assert left.value.code == 3


def test_rss_is_taken_in():
    feed = '<rss version="2.0"><channel><item><title>T</title></item></channel></rss>'
    assert run("ingest", "-", input=feed).stdout.startswith(
        "1 added, 0 updated, 0 unchanged, 0 rejected (rss)"
    )
