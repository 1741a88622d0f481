"""What is generated of the cards and records: the table of methods, the digest of claims."""

import json

import pytest

from lodim.catalog import load_cards, methods_table, update_documents


@pytest.fixture
def checkout(tmp_path):
    """Return a folder laid out like the project, with a stale digest."""
    (tmp_path / "evidence" / "claims").mkdir(parents=True)
    digest = tmp_path / "src" / "lodim" / "catalog" / "claims_baseline.json"
    digest.parent.mkdir(parents=True)
    digest.write_text("{}")
    return tmp_path


def test_the_table_has_a_row_for_every_method():
    table = methods_table()
    for card in load_cards():
        (row,) = [line for line in table.splitlines() if line.startswith(f"| `{card.slug}` ")]
        assert card.paper in row
        assert f"| {card.status} |" in row
    assert len([line for line in table.splitlines() if line.startswith("| `")]) == 56


def test_the_digest_is_written_once(checkout):
    digest = checkout / "src" / "lodim" / "catalog" / "claims_baseline.json"
    assert update_documents(checkout, check=True) == [digest]
    assert digest.read_text() == "{}"
    assert update_documents(checkout) == [digest]
    assert json.loads(digest.read_text())["claims"] == []
    assert update_documents(checkout) == []


def test_elsewhere_there_is_nothing_to_update(tmp_path):
    with pytest.raises(ValueError, match="is not a checkout of lodim"):
        update_documents(tmp_path)


def test_bars_in_cells_do_not_break_the_table():
    import dataclasses

    odd = dataclasses.replace(load_cards()[0], one_line="a | b")
    assert "a \\| b" in methods_table([odd])
