"""The tables say what the records say, and know when they are stale."""

import pytest

from lodim.claims import Check, Claim, ClaimResult, claims_table, evidence_page, read_evidence, update_tables
from lodim.claims.table import BEGIN, END
from lodim.results.records import evidence_path


def record(root, name="topic/one", verdict="holds", **changes):
    fields = {
        "name": name,
        "arxiv": "1804.08838",
        "statement": "Ten numbers are enough.",
        "scale": "laptop",
        "verdict": verdict,
        "checks": (
            Check("numbers | needed", 10, (9.0, 11.0), True, 10),
            Check("other", 0.5, "more", False, None, False),
        ),
        "seconds": 12.3,
        "seed": 0,
        "notes": ("smaller than the paper's",),
        "command": f"lodim claims run {name}",
        "machine": {"cpu": "a processor", "cores": 2, "memory_gib": 8.0, "gpu": None},
        "versions": {"python": "3.11"},
    }
    result = ClaimResult(**(fields | changes))
    path = evidence_path(name, "laptop", root / "evidence", result.seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(result.to_json())
    return result


@pytest.fixture
def project(tmp_path, monkeypatch):
    claims = [Claim(name, "1804.08838", "s", len) for name in ("topic/one", "topic/two", "other/three")]
    monkeypatch.setattr("lodim.claims.table.claims_by_area", lambda: {"geometry": claims})
    monkeypatch.setattr("lodim.claims.table.list_claims", list)
    (tmp_path / "README.md").write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    return tmp_path


def test_records_are_read_in_order(project):
    record(project, "b/two")
    record(project, "a/one")
    assert [r.name for r in read_evidence(project / "evidence")] == ["a/one", "b/two"]
    assert read_evidence(project / "nowhere") == []


def test_a_record_has_the_name_of_its_file(project):
    record(project, "old/name", notes=())
    folder = project / "evidence" / "claims"
    (folder / "old").rename(folder / "new")
    (found,) = read_evidence(project / "evidence")
    assert (found.name, found.command) == ("new/name", "lodim claims run new/name")


def test_table_has_a_row_a_claim_and_keeps_failures(project):
    rows = claims_table(
        [record(project), record(project, "topic/two", "fails")], ["topic/three"]
    ).splitlines()
    assert len(rows) == 5
    assert "**holds**" in rows[2]
    assert "numbers \\| needed: 10 (paper: 10)" in rows[2]
    assert "1 of 2" in rows[2]
    assert "**fails**" in rows[3]
    assert "not run yet" in rows[4]
    assert all(row.replace("\\|", "").count("|") == 6 for row in rows)


def test_update_fills_the_place_and_only_that(project):
    record(project)
    assert update_tables(project) == [project / "README.md"]
    text = (project / "README.md").read_text()
    assert text.startswith(f"# Title\n\n{BEGIN}\n| area")
    assert text.endswith(f"{END}\n\nafter\n")
    assert "\nold\n" not in text
    assert update_tables(project) == []


def test_check_finds_stale_files_without_touching_them(project):
    record(project)
    before = (project / "README.md").read_text()
    assert update_tables(project, check=True) == [project / "README.md"]
    assert (project / "README.md").read_text() == before
    update_tables(project)
    assert update_tables(project, check=True) == []
    record(project, verdict="fails")
    assert update_tables(project, check=True) == [project / "README.md"]


def test_areas_are_counted_and_systems_linked(project):
    record(project)
    record(project, "topic/two", verdict="error")
    (project / "docs" / "geometry").mkdir(parents=True)
    (project / "docs" / "geometry" / "topic.md").write_text("")
    update_tables(project)
    row = (project / "README.md").read_text().splitlines()[5]
    assert row.startswith("| `geometry`: Geometry of a data set |")
    assert row.endswith("| other, [topic](docs/geometry/topic.md) | 1 | 0 | 1 | 1 | 0 of 0 |")


@pytest.mark.parametrize("text", [BEGIN, END, f"{END}\n{BEGIN}", f"{BEGIN}{BEGIN}{END}"])
def test_broken_markers_are_said(project, text):
    (project / "README.md").write_text(text)
    with pytest.raises(ValueError, match=r"README\.md must hold"):
        update_tables(project)


def test_evidence_page_shows_checks_notes_and_circumstances(project):
    record(project)
    page = evidence_page(project / "evidence")
    assert "### topic/one, laptop scale: holds" in page
    assert "| other | 0.5 | more |  | no (not essential) |" in page
    assert "- smaller than the paper's" in page
    assert "`lodim claims run topic/one`" in page
    assert "a processor, 2 cores" in page
    assert evidence_page(project / "nowhere").startswith("No claim")


def test_an_error_shows_its_message(project):
    record(project, verdict="error", checks=(), message="ValueError: too small")
    page = evidence_page(project / "evidence")
    assert "> ValueError: too small" in page


def test_what_another_seed_said_is_shown(project):
    record(project)
    record(project, "topic/two", verdict="fails")
    record(project, seed=1)
    record(project, "topic/two", verdict="holds", seed=1)
    update_tables(project)
    assert (project / "README.md").read_text().splitlines()[5].endswith("| 1 | 0 | 1 | 1 | 1 of 2 |")
    page = evidence_page(project / "evidence")
    assert page.count("### topic/") == 2
    assert "\nSeed 1: holds (other: 0.5 (expected more)).\n" in page
