"""Generated tables: what the cards and records say, between markers, and nothing else."""

import json

import pytest

from lodim.catalog import load_cards, methods_table, update_documents
from lodim.catalog.tables import BEGIN, END


@pytest.fixture
def checkout(tmp_path):
    """Return a folder laid out like the project, with one stale page."""
    (tmp_path / "evidence" / "claims").mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    digest = tmp_path / "src" / "lodim" / "catalog" / "claims_baseline.json"
    digest.parent.mkdir(parents=True)
    digest.write_text("{}")
    (tmp_path / "docs" / "page.md").write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    (tmp_path / "docs" / "other.md").write_text("nothing to fill\n")
    return tmp_path


def test_the_table_has_a_row_for_every_method():
    table = methods_table()
    for card in load_cards():
        (row,) = [line for line in table.splitlines() if line.startswith(f"| `{card.slug}` ")]
        assert card.paper in row
        assert f"| {card.status} |" in row
    assert len([line for line in table.splitlines() if line.startswith("| `")]) == 56


def test_documents_are_filled_once(checkout):
    page = checkout / "docs" / "page.md"
    stale = {p.name for p in update_documents(checkout, check=True)}
    assert stale == {"page.md", "claims_baseline.json"}
    assert "old" in page.read_text()
    assert {p.name for p in update_documents(checkout)} == stale
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert methods_table() in text
    assert update_documents(checkout) == []
    assert (checkout / "docs" / "other.md").read_text() == "nothing to fill\n"
    digest = json.loads((checkout / "src" / "lodim" / "catalog" / "claims_baseline.json").read_text())
    assert digest["claims"] == []


def test_one_marker_without_the_other_is_an_error(checkout):
    (checkout / "docs" / "page.md").write_text(f"{BEGIN}\n")
    with pytest.raises(ValueError, match=r"page.md must hold .* once"):
        update_documents(checkout)


def test_elsewhere_there_is_nothing_to_update(tmp_path):
    with pytest.raises(ValueError, match="is not a checkout of lodim"):
        update_documents(tmp_path)


def test_bars_in_cells_do_not_break_the_table():
    import dataclasses

    odd = dataclasses.replace(load_cards()[0], one_line="a | b")
    assert "a \\| b" in methods_table([odd])
