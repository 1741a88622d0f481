"""The catalogue's commands: tables on a terminal, JSON for machines, one message and code 2 for what is wrong."""

import json

import pytest
from typer.testing import CliRunner

from lodim.catalog import find_card, load_cards
from lodim.cli import app

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LODIM_DEBUG", raising=False)


def run(*arguments, width=80, **options):
    return RUNNER.invoke(app, [str(a) for a in arguments], env={"COLUMNS": str(width)}, **options)


@pytest.mark.parametrize("width", [80, 120])
def test_methods_are_listed_within_the_width_of_the_terminal(width):
    done = run("methods", width=width)
    assert done.exit_code == 0
    for card in load_cards():
        assert f" {card.slug} " in done.stdout
    assert "56 of 56 methods" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= width


def test_methods_that_meet_conditions_as_json():
    done = run("methods", "--area", "landscape", "--data-kind", "tabular", "--no-gpu", "--json")
    found = {card["slug"]: card for card in json.loads(done.stdout)}
    assert "objective-landscapes" in found
    for slug, card in found.items():
        assert "landscape" in card["areas"]
        assert card["needs"]["gpu"] != "yes"
        assert find_card(slug).handles(["tabular"])
        assert card["status"] == find_card(slug).status
    assert found["objective-landscapes"]["evidence"].startswith(("1 ", "2 ", "3 ", "4 ", "5 ", "6 ", "7 "))


def test_available_methods_only():
    done = run("methods", "--available", "--json")
    assert {card["status"] for card in json.loads(done.stdout)} == {"available"}


@pytest.mark.parametrize("key", ["objective-landscapes", "1804.08838"])
@pytest.mark.parametrize("width", [80, 120])
def test_a_card_is_shown_with_its_evidence(key, width):
    done = run("show", key, "--mode", "lexical", width=width)
    assert done.exit_code == 0
    text = " ".join(done.stdout.split())
    card = find_card(key)
    assert card.title in text
    assert card.summary in text
    assert "lodim.landscape.SubspaceModule" in text
    assert "holds" in text
    assert "Recorded at laptop scale on" in text
    assert "for_classifier(" in text
    assert max(map(len, done.stdout.splitlines())) <= width


def test_a_planned_method_says_so_and_shows_no_verdict():
    done = run("show", "koopman", "--mode", "lexical")
    assert "planned" in done.stdout
    assert "not written yet" in done.stdout
    assert "holds" not in done.stdout
    assert "pip install" not in done.stdout


def test_a_privacy_method_says_who_is_trusted():
    text = " ".join(run("show", "sketched-federated", "--mode", "lexical").stdout.split())
    assert "a sketch alone gives no privacy" in text


def test_a_card_as_json():
    shown = json.loads(run("show", "s4d", "--mode", "lexical", "--json").stdout)
    assert shown["slug"] == "s4d"
    assert shown["evidence"] == []
    assert shown["similar"]["methods"][0]["slug"] == "perturb-then-diagonalize"


def test_a_typo_is_answered_with_suggestions_and_code_two():
    done = run("show", "neural-colapse")
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "Did you mean 'neural-collapse'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("width", [80, 120])
def test_search_lists_the_best_first_and_says_how_it_searched(width):
    done = run("search", "--mode", "lexical", "k-means", "gives a different answer each run", width=width)
    assert done.exit_code == 0
    first = next(line for line in done.stdout.splitlines() if line.strip().startswith("1 "))
    assert "partitive-partitioning" in first
    assert "words only" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= width


def test_search_as_json_and_with_filters():
    done = run("search", "--json", "--mode", "lexical", "-k", "3", "noise area:privacy area:nowhere")
    found = json.loads(done.stdout)
    assert len(found["hits"]) == 3
    assert {hit["area"] for hit in found["hits"]} == {"privacy"}
    assert "area:nowhere is unknown" in found["notes"][0]


def test_a_search_counts_what_it_found():
    all_of_it = run("search", "-k", "56", "--mode", "lexical", "clusters").stdout
    n = len(json.loads(run("search", "-k", "56", "--json", "--mode", "lexical", "clusters").stdout)["hits"])
    assert f"found {n} methods, by words only" in " ".join(all_of_it.split())
    cut = run("search", "-k", "2", "--mode", "lexical", "clusters").stdout
    assert f"found {n} methods, 2 shown, by words only" in " ".join(cut.split())


@pytest.mark.parametrize(
    "text", ['"', "3D: what?", "C++ -", "'; drop table", "😀", "x" * 10_000, "[bold]x[/nope]"]
)
def test_nasty_texts_are_answered(text):
    done = run("search", "--mode", "lexical", "--", text)
    assert done.exit_code == 0
    assert "found" in done.stdout


@pytest.mark.parametrize("width", [80, 120])
def test_recommendations_give_reasons_and_exclusions(width):
    conditions = ("--data-kind", "tabular", "--rows", "100", "--no-gpu")
    done = run("recommend", "groups without labels", "--mode", "lexical", *conditions, width=width)
    assert done.exit_code == 0
    assert "because" in done.stdout
    assert "Left out:" in done.stdout
    assert "data_kinds:" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= width


def test_recommendations_from_a_profile(tmp_path):
    made = {
        "schema": 1,
        "n_samples": 300,
        "n_features": 40,
        "kind": None,
        "data": {"dimension": 4.2, "pca95": 5},
        "landscape": None,
    }
    file = tmp_path / "profile.json"
    file.write_text(json.dumps(made))
    done = run("recommend", "--profile", file, "--json", "--most", "3")
    found = json.loads(done.stdout)
    assert found["mode"] == "figures"
    assert len(found["recommended"]) == 3
    assert any("there are no labels" in r for m in found["recommended"] for r in m["reasons"])
    assert {
        "slug": "dataset-properties",
        "condition": "measured",
        "reason": "measured already: dimension 4.2",
    } in found["excluded"]
    assert run("recommend", "--profile", "-", input=json.dumps(made)).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["recommend"], "nothing to go by"),
        (["recommend", "--profile", "missing.json"], "missing.json"),
        (["recommend", "x", "--data-kind", "tables"], "'tables' is unknown"),
        (["methods", "--area", "landscap"], "Did you mean 'landscape'"),
        (["search", "x", "--mode", "fuzzy"], "mode must be one of"),
        (["methods", "--write"], "is not a checkout of lodim"),
    ],
)
def test_what_is_wrong_is_said_with_code_two(arguments, said):
    done = run(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_no_profile(tmp_path):
    for content, said in (
        ("not json", "is not JSON"),
        ("[1]", "is not what"),
        ('{"schema": 1}', "is not what"),
    ):
        (tmp_path / "p.json").write_text(content)
        done = run("recommend", "--profile", "p.json")
        assert done.exit_code == 2
        assert said in done.stderr


def test_check_leaves_with_one_where_something_is_stale(tmp_path):
    (tmp_path / "evidence" / "claims").mkdir(parents=True)
    digest = tmp_path / "src" / "lodim" / "catalog" / "claims_baseline.json"
    digest.parent.mkdir(parents=True)
    digest.write_text("{}")
    done = run("methods", "--check")
    assert done.exit_code == 1
    assert "is out of date" in done.stdout
    assert run("methods", "--write").exit_code == 0
    assert run("methods", "--check").exit_code == 0
