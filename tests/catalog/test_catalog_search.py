"""Search by words: titles, problems in plain words, filters, fusion."""

import dataclasses

import pytest

from lodim.catalog import find_card, load_cards, search
from lodim.catalog.search import MODES, SearchIndex, fuse, shared_index


def test_every_title_finds_its_method_first():
    for card in load_cards():
        assert search(card.title, 1, mode="lexical").hits[0].slug == card.slug


def test_the_fourteen_paraphrases_by_words_alone(queries, places):
    """Over abstracts, full-text search puts 71 % of these first; over the cards' plainer words it does better."""
    found = places(queries["paraphrases"], "lexical")
    assert len(found.places) == 14
    assert found.first >= 0.71 * 14
    assert found.reciprocal >= 0.95
    assert found.in_three == 14


def test_problems_in_plain_words_by_words_alone(queries, places):
    """Measured: 51 of 56 first, mean reciprocal rank 0.94."""
    assert sorted(queries["plain"].values()) == [card.slug for card in load_cards()]
    found = places(queries["plain"], "lexical")
    assert found.first >= 50
    assert found.reciprocal >= 0.92


def test_terms_of_the_trade_by_words_alone(queries, places):
    """Measured when they were written: 40 of 44 first."""
    found = places(queries["terms"], "lexical")
    assert found.first >= 40
    assert found.reciprocal >= 0.90


def test_the_checks_above_can_fail(queries, places):
    wrong = dict(zip(queries["plain"], reversed(queries["plain"].values()), strict=True))
    assert places(wrong, "lexical").reciprocal < 0.3


def test_word_endings_and_accents_do_not_matter():
    one = [hit.slug for hit in search("clustering", mode="lexical").hits]
    assert [hit.slug for hit in search("clusters", mode="lexical").hits] == one
    assert [hit.slug for hit in search("clustéring", mode="lexical").hits] == one


def test_phrases_must_occur_and_exclusions_must_not():
    index = shared_index()
    with_phrase = {hit.slug for hit in search('network "random subspace"', 56, mode="lexical").hits}
    assert with_phrase == index.matching("random subspace")
    assert "objective-landscapes" in with_phrase
    without = {hit.slug for hit in search("network -image", 56, mode="lexical").hits}
    assert without
    assert not without & index.matching("image")


def test_filters_hold():
    found = search("noise area:privacy year:2023-2025", 56, mode="lexical").hits
    assert found
    for hit in found:
        assert hit.area == "privacy"
        assert 2023 <= find_card(hit.slug).year <= 2025
    assert all(hit.area != "privacy" for hit in search("noise -area:privacy", 56, mode="lexical").hits)
    with_claim = {hit.slug for hit in search("has:claim", 56, mode="lexical").hits}
    assert {"objective-landscapes", "dataset-properties"} <= with_claim
    assert all(find_card(slug).claims for slug in with_claim)
    assert {h.slug for h in search("tag:topology", 56, mode="lexical").hits} == {
        "multiparameter-persistence",
        "differentiable-persistence",
    }
    assert all(h.status == "available" for h in search("status:available", 56, mode="lexical").hits)


def test_a_query_without_filters_and_words_finds_nothing():
    assert search("", mode="lexical").hits == ()
    assert search("-image", 56, mode="lexical").n_found == len(load_cards()) - len(
        shared_index().matching("image")
    )


def test_results_are_ordered_counted_and_travel():
    found = search("differential privacy", 3, mode="lexical")
    assert found.mode == "lexical"
    assert len(found.hits) == 3 < found.n_found
    assert [hit.score for hit in found.hits] == sorted((hit.score for hit in found.hits), reverse=True)
    assert [hit.lexical_rank for hit in found.hits] == [1, 2, 3]
    assert type(found).from_json(found.to_json()) == found
    assert list(found.to_frame()["slug"]) == [hit.slug for hit in found.hits]
    assert "lexical search" in str(found)


def test_fusion_is_the_sum_of_reciprocal_ranks():
    fused = dict(fuse([["a", "b", "c"], ["b", "d"]]))
    assert fused["b"] == pytest.approx(1 / 62 + 1 / 61)
    assert fused["a"] == pytest.approx(1 / 61)
    assert fused["d"] == pytest.approx(1 / 62)
    assert [slug for slug, _ in fuse([["a", "b", "c"], ["b", "d"]])] == ["b", "a", "d", "c"]
    assert fuse([]) == []


def test_ties_go_to_the_first_ranking_then_to_the_slug():
    assert [slug for slug, _ in fuse([["z", "a"], ["a", "z"]])] == ["z", "a"]
    assert [slug for slug, _ in fuse([[], ["z"], ["a"]])] == ["a", "z"]


def test_equal_cards_are_ordered_by_slug():
    card = find_card("flora")
    twins = [dataclasses.replace(card, slug=slug) for slug in ("zebra", "ant", "mole")]
    assert [slug for slug, _ in SearchIndex(twins).ranked('"tucker"')] == ["ant", "mole", "zebra"]


def test_a_title_counts_more_than_a_mention():
    slugs = [hit.slug for hit in search("hypercomplex", mode="lexical").hits]
    assert slugs[0] == "hypercomplex"


def test_bad_arguments():
    with pytest.raises(ValueError, match="k must be at least 1"):
        search("x", 0)
    with pytest.raises(ValueError, match="mode must be one of"):
        search("x", mode="fuzzy")
    assert set(MODES) == {"auto", "hybrid", "lexical", "semantic"}


def test_without_the_extra_search_is_lexical_and_says_so(monkeypatch):
    import lodim.catalog.semantic

    monkeypatch.setattr(lodim.catalog.semantic, "semantic_available", lambda: False)
    assert search("clusters").mode == "lexical"


def test_long_texts_are_searched_by_their_rarest_words():
    """A whole page of text, with one card's summary in it, finds that card."""
    page = " ".join(card.summary for card in load_cards()[:4]) + " " + find_card("koopman").body * 3
    hits = search(page[:10_000], 5, mode="lexical").hits
    assert len(hits) == 5
    index = shared_index()
    rare = index.rarest(["koopman", "zzzz", "the", "network"], 2)
    assert rare[0] == "koopman"
    assert "zzzz" not in rare
