"""Status and evidence are derived from the code and from recorded runs, never written."""

import dataclasses
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lodim.catalog import claim_records, find_card, load_cards, status_of
from lodim.catalog.baseline import evidence_folder, make_baseline, public
from lodim.catalog.cards import evidence_of

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "evidence" / "claims"


def record(folder, name, verdict="holds", passed=(True, True), scale="laptop"):
    path = folder / "claims" / f"{name}.{scale}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(
            {
                "name": name,
                "arxiv": "2001.00001",
                "statement": "It is so.",
                "seed": 0,
                "scale": scale,
                "verdict": verdict,
                "checks": [{"what": "a", "ours": 1, "expected": "b", "passed": p} for p in passed],
                "seconds": 1.5,
                "recorded": "2026-01-01",
                "machine": {"cpu": "A processor", "cores": 2, "gpu": None},
                "versions": {"lodim": "0.1.0"},
                "command": f"lodim claims run {name}",
            }
        )
    )


def test_the_digest_says_what_the_records_say(tmp_path):
    record(tmp_path, "b/two", verdict="fails", passed=(True, False, True))
    record(tmp_path, "a/one")
    record(tmp_path, "a/one", scale="full")
    made = json.loads(make_baseline(tmp_path))["claims"]
    assert [entry["name"] for entry in made] == ["a/one", "b/two"]
    assert made[1]["verdict"] == "fails"
    assert (made[1]["checks_passed"], made[1]["checks"]) == (2, 3)
    assert made[0]["machine"] == "A processor, 2 cores, no GPU"
    assert made[0]["recorded"] == "2026-01-01"


@pytest.mark.skipif(not RECORDS.is_dir(), reason="needs a checkout with evidence/")
def test_the_shipped_digest_invents_nothing():
    """Each entry is a recorded run; whether some record is missing from it, `lodim methods --check` says."""
    now = {entry["name"]: entry for entry in json.loads(make_baseline(ROOT / "evidence"))["claims"]}
    for name, shipped in claim_records().items():
        assert name in now, f"{name} has no record under evidence/; run `lodim methods --write`"
        assert shipped.to_dict() == now[name], f"{name} was recorded again; run `lodim methods --write`"


def test_available_needs_code_and_a_recorded_claim():
    there = find_card("objective-landscapes")
    assert status_of(there) == "available"
    assert status_of(dataclasses.replace(there, entry_points=())) == "planned"
    assert (
        status_of(dataclasses.replace(there, claims=("objective-landscapes/nobody-ran-this",))) == "planned"
    )
    wrong = (*there.entry_points, "lodim.landscape.NoSuchThing")
    assert status_of(dataclasses.replace(there, entry_points=wrong)) == "planned"


def test_no_card_without_entry_points_is_called_available():
    for card in load_cards():
        assert (card.status == "available") <= bool(card.entry_points)


@pytest.mark.parametrize("name", ["lodim.landscape.Nothing", "lodim.nowhere.Thing", "lodim.landscape"])
def test_what_is_not_public(name):
    assert not public(name) or name == "lodim.landscape"


def test_evidence_in_words():
    card = find_card("objective-landscapes")
    assert evidence_of(dataclasses.replace(card, claims=())) == "not run"
    assert evidence_of(dataclasses.replace(card, claims=("x/never-run",))) == "not run"
    run = next(name for name in card.claims if claim_records()[name].verdict == "holds")
    assert evidence_of(dataclasses.replace(card, claims=(run,))) == "1 holds"
    assert evidence_of(dataclasses.replace(card, claims=(run, "x/never-run"))) == "1 holds, 1 not run"


def test_a_failed_claim_is_shown_as_failed(monkeypatch):
    from lodim.catalog import baseline

    card = find_card("objective-landscapes")
    failing = {name: dataclasses.replace(r, verdict="fails") for name, r in claim_records().items()}
    monkeypatch.setattr(baseline, "claim_records", lambda: failing)
    assert evidence_of(card) == f"{len(card.claims)} fail"


def test_evidence_is_in_the_folder_of_a_clone_else_with_the_user(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "platformdirs", None)  # the extra is missing
    assert evidence_folder() == Path("evidence")
    own = SimpleNamespace(user_data_dir=lambda name, appauthor: f"/home/me/{name}")
    monkeypatch.setitem(sys.modules, "platformdirs", own)
    assert evidence_folder() == Path("/home/me/lodim/evidence")
    (tmp_path / "evidence").mkdir()
    assert evidence_folder() == Path("evidence")
