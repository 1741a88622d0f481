"""Recommendations: conditions exclude with a reason, figures and words rank, everything is said."""

import pytest

from lodim.catalog import find_card, load_cards, recommend
from lodim.catalog.recommend import Problem
from lodim.profiling.result import Advice, DataPart, Estimate, FoundGroups, LandscapePart, Profile


def profile(**changes):
    """Return a profile of 1,797 digits with a model, as `lodim.profile` makes it, with some figures changed."""
    bent = Estimate(23.7, (22.8, 26.5))
    data = {"dimension": 7.8, "interval": (7.7, 9.2), "estimators": {}, "pca95": 29, "independent": bent}
    landscape = {
        "n_parameters": 8970,
        "baseline_score": 0.98,
        "threshold_score": 0.88,
        "d_int90": 140.0,
        "interval": (116.0, 189.0),
        "status": "found",
    }
    whole = {"n_samples": 1797, "n_features": 64, "kind": "classification", "image_shape": (8, 8)}
    for name, value in changes.items():
        next(part for part in (data, landscape, whole) if name in part or part is whole)[name] = value
    model = landscape if changes.get("landscape", True) else None
    whole.pop("landscape", None)
    return Profile(
        source="digits",
        data=DataPart(**data),
        landscape=LandscapePart(**model) if model else None,
        advice=(),
        seconds=1.0,
        seed=0,
        versions={},
        **whole,
    )


def slugs(found):
    return [method.slug for method in found.recommended]


def test_a_problem_in_words():
    found = recommend("groups of similar customers, no labels", mode="lexical")
    assert found.mode == "lexical"
    assert "partition" in [m.area for m in found.recommended]
    assert len(found.recommended) == 5
    assert all(m.reasons for m in found.recommended)
    assert found.excluded == ()


def test_every_method_is_recommended_excluded_or_fitting():
    found = recommend(
        {"text": "clusters", "data_kinds": "tabular", "n_rows": 100, "gpu": False}, 56, mode="lexical"
    )
    out = {e.slug for e in found.excluded}
    assert not out & set(slugs(found))
    assert len(out) + found.n_fitting == len(load_cards())


def test_each_condition_excludes_what_does_not_meet_it_and_says_which():
    found = recommend({"data_kinds": ["image"], "n_rows": 300, "gpu": False}, 56)
    by_condition = {e.slug: e.condition for e in found.excluded}
    for card in load_cards():
        if not card.handles(["image"]):
            assert by_condition[card.slug] == "data_kinds"
        elif card.needs.min_rows > 300:
            assert by_condition[card.slug] == "n_rows"
        elif card.needs.gpu == "yes":
            assert by_condition[card.slug] == "gpu"
        else:
            assert card.slug not in by_condition
    reasons = {e.slug: e.reason for e in found.excluded}
    assert "at least 1,000 rows" in reasons["harmonic-denoisers"]


def test_available_only_and_areas():
    found = recommend("intrinsic dimension", status="available", mode="lexical")
    assert set(slugs(found)) >= {"objective-landscapes", "dataset-properties"}
    assert {m.status for m in found.recommended} == {"available"}
    assert all(e.reason == "it is planned" for e in found.excluded if e.condition == "status")
    found = recommend("noise", areas="privacy", mode="lexical")
    assert {m.area for m in found.recommended} == {"privacy"}


def test_filters_in_the_text_count_as_conditions():
    found = recommend("noise -federated area:privacy", 56, mode="lexical")
    assert {m.area for m in found.recommended} == {"privacy"}
    assert {e.condition for e in found.excluded} == {"text"}
    assert recommend("noise area:nowhere", mode="lexical").notes


def test_tags_rank_without_words():
    found = recommend({"tags": ["topology"]})
    assert slugs(found)[:2] == ["differentiable-persistence", "multiparameter-persistence"]
    assert found.mode == "figures"
    assert found.recommended[0].reasons == ("asked for (topology)",)


def test_conditions_alone_list_what_meets_them():
    found = recommend({"data_kinds": ["pde"]}, 56)
    assert set(slugs(found)) == {card.slug for card in load_cards() if card.handles(["pde"])}
    assert found.recommended[0].reasons == ("meets the conditions",)


def test_a_profile_leads_to_what_its_figures_say():
    found = recommend(profile(), 8)
    assert found.problem == Problem(data_kinds=("image", "model"), n_rows=1797)
    assert "objective-landscapes" in slugs(found)[:3]
    text = str(found)
    assert "about 8 of 64 directions" in text
    assert "about 140 of its 8,970 weights" in text
    assert "the 8 dimensions would be 24: a curved set" in text
    measured = [e for e in found.excluded if e.condition == "measured"]
    assert [e.slug for e in measured] == ["dataset-properties"]


def test_a_profile_as_json_says_the_same():
    one = profile()
    assert recommend(one.to_dict()) == recommend(one)


def test_groups_that_do_not_repeat_say_nothing():
    import dataclasses

    from lodim.catalog.facts import facts_of

    base = profile()
    shy = FoundGroups(3, (90, 60, 50), 0.6, 180, "", "Three groups.", 200)
    changed = dataclasses.replace(base, data=dataclasses.replace(base.data, groups=shy))
    assert facts_of(changed) == facts_of(base)


def test_conditions_add_to_a_profile():
    found = recommend(profile(), 56, gpu=False, data_kinds=["tabular"])
    assert found.problem.data_kinds == ("tabular",)
    assert found.problem.n_rows == 1797
    assert all(find_card(slug).handles(["tabular"]) for slug in slugs(found))


@pytest.mark.parametrize(
    ("changes", "tag", "said"),
    [
        ({"n_samples": 200}, "few-labels", "only 200 rows"),
        ({"n_samples": 250_000}, "matrix-sketching", "250,000 rows"),
        ({"kind": None}, "clustering", "there are no labels"),
        (
            {"groups": FoundGroups(3, (90, 60, 50), 0.95, 180, "", "Three groups.", 200)},
            "clustering",
            "3 groups, as many in 95%",
        ),
        ({"kind": "regression"}, "regression", "the target is a number"),
        ({"n_conflicts": 3}, "calibration", "3 pairs of equal rows"),
        ({"pca95": 9, "independent": None}, "low-rank", "9 principal components hold 95 %"),
        (
            {"per_class": {"a": Estimate(5.0, n=900), "b": Estimate(5.0, n=90)}},
            "class-imbalance",
            "the largest class has 900 rows, the smallest 90",
        ),
        ({"dimension": 7.0, "n_samples": 1000}, "data-difficulty", "1,000 rows are few for 7 dimensions"),
        (
            {"advice": (Advice("", {"score": "accuracy", "baseline_score": 0.8}, "probabilities"),)},
            "calibration",
            "reaches accuracy 0.80",
        ),
        ({"n_table_columns": 20, "n_features": 64}, "any-order", "the 20 columns of the table became 64"),
        ({"advice": (Advice("", {}, "missing_values"),)}, "any-order", "cells of the table are missing"),
    ],
)
def test_each_figure_speaks_for_its_tag(changes, tag, said):
    data_fields = {"n_conflicts", "per_class"}
    base = profile()
    import dataclasses

    data = {k: v for k, v in changes.items() if k in data_fields or hasattr(base.data, k)}
    rest = {k: v for k, v in changes.items() if k not in data}
    changed = dataclasses.replace(base, data=dataclasses.replace(base.data, **data), **rest)
    from lodim.catalog.facts import facts_of

    before, after = facts_of(base), facts_of(changed)
    assert tag not in {f.tag for f in before} or said not in str(before)
    assert any(f.tag == tag and said in f.reason for f in after)


def test_a_model_that_was_not_solved_is_not_called_too_large():
    import dataclasses

    base = profile()
    for status in ("not_reached", "below_d_min", "not_measured"):
        landscape = dataclasses.replace(base.landscape, status=status, d_int90=None)
        found = recommend(dataclasses.replace(base, landscape=landscape), 56)
        assert "weights (model-compression)" not in str(found)


@pytest.mark.parametrize(
    "text",
    ["tabular data", "is my data set hard to learn", "compress a neural network", "differential privacy"],
)
def test_what_can_be_used_leads_where_it_fits_comparably(text):
    """The rule itself, by the scores of the words: half of the best one's is comparable."""
    from lodim.catalog.query import parse_query
    from lodim.catalog.search import shared_index

    scores = shared_index().lexical(parse_query(text))
    found = recommend(text, 56, mode="lexical")
    close = {m.slug for m in found.recommended if scores[m.slug] >= 0.5 * max(scores.values())}
    lead = [m.slug for m in found.recommended if m.status == "available" and m.slug in close]
    assert slugs(found)[: len(lead)] == lead
    rest = [m.score for m in found.recommended[len(lead) :]]
    assert rest == sorted(rest, reverse=True)


def test_a_vague_problem_is_answered_with_what_can_be_used():
    found = recommend({"text": "tabular data", "n_rows": 20_000}, 8, mode="lexical")
    statuses = [m.status for m in found.recommended]
    assert statuses[0] == "available"
    assert statuses == sorted(statuses)
    assert statuses.count("available") >= 3


def test_a_planned_method_that_fits_much_better_stays_first():
    found = recommend("differential privacy", 8, mode="lexical")
    assert [m.status for m in found.recommended[:4]] == ["planned"] * 4
    assert {m.area for m in found.recommended[:4]} == {"privacy"}


def test_of_equal_fit_what_can_be_used_is_first():
    statuses = [m.status for m in recommend({"data_kinds": ["image"]}, 56).recommended]
    assert {"available", "planned"} == set(statuses)
    assert statuses == sorted(statuses)


def test_answers_travel_and_are_the_same_every_time():
    found = recommend("clusters", mode="lexical")
    assert type(found).from_json(found.to_json()) == found
    assert recommend("clusters", mode="lexical") == found
    assert list(found.to_frame()["slug"]) == slugs(found)


@pytest.mark.parametrize(
    ("problem", "conditions", "said"),
    [
        ({"rows": 3}, {}, "a problem has no 'rows'"),
        ({"data_kinds": ["tables"]}, {}, "'tables' is unknown"),
        ({"areas": "privcy"}, {}, "Did you mean 'privacy'"),
        ({"n_rows": 0}, {}, "n_rows must be a whole number"),
        ({"n_rows": 2.5}, {}, "n_rows must be a whole number"),
        ({"gpu": "no"}, {}, "gpu must be True or False"),
        ({"text": 3}, {}, "text must be text"),
        ({"status": "done"}, {}, "status must be"),
        ({}, {}, "nothing to go by"),
        ("", {}, "nothing to go by"),
        (3, {}, "a problem is text, a dictionary or a profile"),
        ("x", {"color": "red"}, "a problem has no 'color'"),
    ],
)
def test_bad_problems_are_explained(problem, conditions, said):
    with pytest.raises((ValueError, TypeError), match=said):
        recommend(problem, **conditions)


def test_k_is_at_least_one():
    with pytest.raises(ValueError, match="k must be at least 1"):
        recommend("x", 0)


@pytest.mark.parametrize("text", ["'; drop table card; --", "x" * 10_000, "C++ -", "3D: what?"])
def test_nasty_texts_raise_nothing(text):
    assert len(recommend(text, mode="lexical").recommended) <= 5


@pytest.mark.parametrize("text", ['"', "😀", "- -", "   "])
def test_texts_without_a_word_are_nothing_to_go_by(text):
    with pytest.raises(ValueError, match="nothing to go by"):
        recommend(text, mode="lexical")
