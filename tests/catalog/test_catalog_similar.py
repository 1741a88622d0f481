"""Methods like a given one."""

import pytest

from lodim.catalog import find_card, load_cards, semantic_available, similar
from lodim.catalog.similar import order_by_similarity

MODES = [
    "lexical",
    pytest.param(
        "semantic", marks=pytest.mark.skipif(not semantic_available(), reason="needs the extra `semantic`")
    ),
]
SISTERS = [
    ("multiparameter-persistence", "differentiable-persistence"),
    ("s4d", "perturb-then-diagonalize"),
    ("neural-collapse", "near-collapse"),
    ("private-similarities", "private-gsd"),
    ("objective-landscapes", "finetuning"),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("one", "other"), SISTERS)
def test_sister_papers_find_each_other(one, other, mode):
    assert similar(one, mode=mode).methods[0].slug == other
    assert similar(other, mode=mode).methods[0].slug == one


@pytest.mark.parametrize("mode", MODES)
def test_a_method_is_never_similar_to_itself(mode):
    for card in load_cards():
        found = similar(card.slug, mode=mode)
        assert card.slug not in [m.slug for m in found.methods]
        assert 0 < len(found.methods) <= 6
        scores = [m.score for m in found.methods]
        assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("mode", MODES)
def test_likeness_is_said_in_words(mode):
    found = similar("neural-collapse", 55, mode=mode)
    words = [m.likeness for m in found.methods]
    order = ["very close", "close", "related", "loosely related"]
    assert words == sorted(words, key=order.index)
    assert words[0] in order[:2]
    assert words[-1] == "loosely related"
    assert type(found).from_json(found.to_json()) == found
    assert "near-collapse" in str(found)


@pytest.mark.parametrize("mode", MODES)
def test_the_whole_list_in_order_of_likeness(mode):
    ordered = order_by_similarity("s4d", mode=mode)
    assert sorted(card.slug for card in ordered) == [card.slug for card in load_cards()]
    assert [card.slug for card in ordered[:2]] == ["s4d", "perturb-then-diagonalize"]
    by_text = order_by_similarity("eigenvalues of a nonlinear system from snapshots", mode=mode)
    assert by_text[0].slug == "koopman"
    assert len(by_text) == 56


def test_an_identifier_or_title_will_do():
    card = find_card("s4d")
    assert similar(card.arxiv_id, mode="lexical") == similar(card.title, mode="lexical")


def test_bad_arguments():
    with pytest.raises(ValueError, match="k must be at least 1"):
        similar("s4d", 0)
    with pytest.raises(ValueError, match="no method is called"):
        similar("nothing like this at all", mode="lexical")
    with pytest.raises(ValueError, match="mode must be one of"):
        similar("s4d", mode="x")
