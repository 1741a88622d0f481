import dataclasses

import pytest

from lodim.profiling import advice, data_rules, model_rules
from lodim.profiling.advice import RULES, advise
from lodim.profiling.data_rules import points_for_density
from lodim.profiling.parts import (
    CurvePoint,
    Density,
    DimensionAtScale,
    Layer,
    MeasuredDimension,
    Steps,
    Topology,
)

BY_NAME = {rule.__name__: rule for rule in RULES}


def scales(*dimensions, se=0.05):
    return tuple(
        DimensionAtScale("gride", 2 ** (i + 1), 1.0 + i, 500, d, se) for i, d in enumerate(dimensions)
    )


def classes(*dimensions, width=1.06, **named):
    """Classes with intervals from d over ``width`` to d times ``width``."""
    both = {str(i): d for i, d in enumerate(dimensions)} | named
    return {name: MeasuredDimension(d, (d / width, d * width)) for name, d in both.items()}


STEPS = Steps(476, 6, 6, 6, 18, components95=17)


CASES = [
    ("unsolved", {"landscape": {"baseline_score": 0.16}}, ("0.160", "0.100")),
    (
        "weak_regression",
        {
            "kind": "regression",
            "landscape": {
                "baseline_score": 0.27,
                "chance_score": 0.0,
                "linear_score": 0.42,
                "score_name": "R²",
            },
        },
        ("27 %", "a linear model 42 %", "not known"),
    ),
    (
        "not_reached",
        {"landscape": {"status": "not_reached", "threshold_score": 0.96, "d_int90": None}},
        ("320", "0.942"),
    ),
    (
        "not_reached",
        {"landscape": {"status": "not_reached", "d_int90": None}},
        ("Some subspaces reach accuracy 0.874",),
    ),
    (
        "not_reached",
        {
            "landscape": {
                "status": "not_reached",
                "threshold_score": 0.96,
                "d_int90": None,
                "n_parameters": 320,
            }
        },
        ("as many as there are weights",),
    ),
    (
        "column_scales",
        {"image_shape": None, "data": {"scale_ratio": 3100.0, "widest_column": "area"}},
        ("'area'", "3,100"),
    ),
    ("linear_suffices", {"landscape": {"linear_score": 0.968}}, ("650", "0.968", "0.971")),
    ("adapter_size", {}, ("160", "8,970", "rank 1", "330")),
    ("compression", {}, ("420", "35,880", "0.879")),
    (
        "probabilities",
        {"landscape": {"baseline_score": 0.88, "n_told": 360}},
        ("12 % of 360", "lodim.trust.report("),
    ),
    ("probabilities", {"landscape": {"score_name": "AUC", "baseline_score": 0.97}}, ("AUC 0.970",)),
    (
        "direct_falls_short",
        {
            "landscape": {
                "baseline_runs": (0.7, 0.8, 0.82),
                "baseline_score": 0.773,
                "curve": tuple(CurvePoint(20, s, 0.83 + 0.01 * s, 0.9) for s in range(3)),
            }
        },
        ("20 trained numbers", "0.840 against 0.773"),
    ),
    (
        "memorising",
        {"landscape": {"curve": (CurvePoint(50, 0, 0.7, 0.99), CurvePoint(10, 0, 0.5, 0.5))}},
        ("50", "0.990"),
    ),
    # 7.8 is the least dimension of the interval: 10,700 and 43,700 rows are wanted at 7 and 8
    ("sample_size", {"data": {"density": None}}, ("1,797", "7.8", "33,000")),
    ("sample_size", {}, ("1.2 of 1,797 rows", "no average")),
    ("separate_parts", {}, ("2 parts", "4.1")),
    ("loops", {}, ("1 loop.", "one coordinate more")),
    # the upper end 10.4 of the data, times 8.4 of the layer by 8.9 of the input
    ("narrow_layers", {}, ("64 numbers", "9.8", "21 numbers")),
    (
        "estimators_disagree",
        {
            "data": {
                "estimators": {
                    "twonn": MeasuredDimension(13.0, (12.0, 17.0), 14.0),
                    "mom": MeasuredDimension(6.0, (6.0, 8.0), 7.0),
                }
            }
        },
        ("14.0 (12.0–17.0)", "7.0 (6.0–8.0)", "TwoNN"),
    ),
    (
        "scale_dependence",
        {"data": {"scale_dependent": True, "scale_profile": scales(12.0, 10.0, 8.0)}},
        ("falls", "12.0", "8.0", "8 nearest"),
    ),
    (
        "scale_dependence",
        {"data": {"scale_dependent": True, "scale_profile": scales(8.0, 10.0, 12.0)}},
        ("rises", "12.0", "8.0", "8 nearest"),
    ),
    ("linear_or_curved", {}, ("27", "9.2 (7.8–10.4)", "23.7 dimensions (22.8–26.5)", "bent")),
    ("linear_or_curved", {"data": {"pca95": 9, "independent": None}}, ("9", "PCA is enough", "little left")),
    (
        "linear_or_curved",
        {"data": {"pca95": 10, "interval": (6.0, 10.4), "independent": None}},
        ("10 ", "PCA may be enough", "leaves open"),
    ),
    ("linear_or_curved", {"data": {"pca95": 2, "independent": None}}, ("2 components", "fewer than the 9.2")),
    (
        "class_outlier",
        {
            "data": {
                "per_class": classes(9.0, 9.1, 9.2, 9.3, 9.4, 9.5, 9.6, 9.7, 9.8, odd=4.0),
            }
        },
        ("'odd'", "fewer", "4.0 dimensions (3.8–4.2)", "9.4"),
    ),
    (
        "class_outlier",
        {"data": {"per_class": classes(5.0, 5.1, 5.2, odd=9.0)}},
        ("'odd'", "more", "9.0 dimensions (8.5–9.5)", "5.1"),
    ),
    ("duplicates", {"data": {"n_duplicates": 180}}, ("180", "10 %")),
    (
        "constant_columns",
        {"image_shape": None, "data": {"constant_columns": ("a", "b")}},
        ("2 columns", "'a', 'b'"),
    ),
    (
        "label_conflicts",
        {"data": {"n_conflicts": 3, "best_score": 0.98}},
        ("3 pairs", "36 rows of 1,797", "label errors"),
    ),
    (
        "label_conflicts",
        {"data": {"n_conflicts": 3000, "best_score": 0.72, "steps": STEPS, "tied": True}},
        ("503 rows of 1,797", "do not settle"),
    ),
    ("sharpest_pair", {}, ("'3'", "'8'", "3.45")),
    (
        "missing_values",
        {"notes": ("ATTENTION, 12 missing values ('age' 12, of 90 rows) were filled in (median).",)},
        ("12", "'age'", "on the complete rows alone"),
    ),
]


@pytest.mark.parametrize(("rule", "fields", "words"), CASES, ids=[c[0] for c in CASES])
def test_rule_fires_and_cites_its_numbers(change, rule, fields, words):
    found = BY_NAME[rule](change(**fields))
    assert found is not None
    for word in words:
        assert word in found.text
    assert found.because
    assert 0 < found.importance <= 1


SILENT = [
    ("unsolved", {}),
    ("weak_regression", {}),
    ("weak_regression", {"kind": "regression", "landscape": {"baseline_score": 0.4, "linear_score": 0.9}}),
    (
        "linear_suffices",
        {"landscape": {"linear_score": 0.965, "linear_gain": -0.05, "linear_p": 1e-6, "n_direct": 9}},
    ),
    ("not_reached", {}),
    ("probabilities", {}),
    # 0.12 less two standard errors of 30 rows is below zero
    ("probabilities", {"landscape": {"baseline_score": 0.88, "n_told": 30}}),
    ("probabilities", {"kind": "regression", "landscape": {"baseline_score": 0.6, "score_name": "R²"}}),
    ("column_scales", {"data": {"scale_ratio": 3100.0}}),  # pixels share one scale
    ("linear_suffices", {}),
    ("adapter_size", {"landscape": {"baseline_score": 0.15}}),
    ("adapter_size", {"landscape": {"status": "not_reached", "threshold_score": 0.96, "d_int90": None}}),
    ("compression", {"landscape": {"message_bytes": None}}),
    ("memorising", {}),
    (  # three of thirty rows: two standard errors are 0.11
        "memorising",
        {"landscape": {"n_told": 30, "n_val": 30, "n_train": 1767, "curve": (CurvePoint(50, 0, 0.9, 1.0),)}},
    ),
    ("direct_falls_short", {"landscape": {"baseline_runs": (0.9, 0.93, 0.97)}}),
    ("narrow_layers", {"data": {"steps": STEPS, "tied": True}}),
    # the upper end is what has to fit: 2 * 20 + 1 numbers are no half of 64
    ("narrow_layers", {"data": {"interval": (7.8, 20.4)}}),
    ("sample_size", {"data": {"density": Density("clt", 140.0, 1.0, 0.2, 0.3, 1797)}}),  # as measured
    ("sample_size", {"data": {"density": Density("stable", 9.0, 1.0, 0.8, 1.1, 1797)}}),
    ("sample_size", {"data": {"density": None, "dimension": 6.0, "interval": (4.0, 9.0)}}),  # 223 do for 4
    ("sample_size", {"data": {"density": None, "tied": True}}),
    ("estimators_disagree", {}),
    (
        "estimators_disagree",  # figures far apart, intervals that meet
        {
            "data": {
                "estimators": {
                    "twonn": MeasuredDimension(13.0, (7.5, 17.0), 14.0),
                    "mom": MeasuredDimension(6.0, (5.0, 9.0), 7.0),
                }
            }
        },
    ),
    ("scale_dependence", {"data": {"scale_profile": scales(12.0, 10.0, 8.0)}}),  # no more than its interval
    ("scale_dependence", {"data": {"scale_profile": (), "scale_dependent": True}}),
    ("linear_or_curved", {"data": {"pca95": 60, "dimension": 55.0, "independent": None}}),
    ("linear_or_curved", {"data": {"pca95": 27, "independent": None}}),  # 27 > 10.4, and no bend was shown
    (  # 12 components are more than the interval holds
        "linear_or_curved",
        {"data": {"pca95": 12, "dimension": 8.2, "interval": (5.2, 11.8), "independent": None}},
    ),
    ("linear_or_curved", {"data": {"tied": True}}),
    ("class_outlier", {}),  # a row of classes, none of which stands apart
    ("class_outlier", {"data": {"per_class": classes(5.0, 5.1, 5.2, odd=9.0, width=2.0)}}),
    ("class_outlier", {"data": {"per_class": classes(5.0, odd=9.0)}}),
    ("duplicates", {}),
    ("duplicates", {"data": {"n_duplicates": 24, "steps": STEPS}}),  # categories repeat
    ("constant_columns", {}),
    ("constant_columns", {"data": {"constant_columns": ("0", "16")}}),  # the border of an image
    ("label_conflicts", {}),
    ("sharpest_pair", {"data": {"k_f_pair_holds": False}}),
    ("missing_values", {}),
    ("missing_values", {"notes": ("Column 'age': 3 entries 'n/a' mean missing.",)}),
    ("separate_parts", {"data": {"topology": None}}),
    ("separate_parts", {"data": {"topology": Topology(1, 0, (), (1.1,), (1.0,), 200)}}),
    ("loops", {"data": {"topology": None}}),
    ("loops", {"data": {"topology": Topology(1, 0, (), (1.1,), (1.0,), 200)}}),
    ("narrow_layers", {"landscape": {"layers": ()}}),
    ("narrow_layers", {"landscape": {"layers": tuple(Layer(n, "Linear", 20, 9.0) for n in "abc")}}),
    ("narrow_layers", {"landscape": {"layers": tuple(Layer(n, "Conv2d", 4000, 9.0) for n in "abc")}}),
]


@pytest.mark.parametrize(("rule", "fields"), SILENT, ids=[c[0] for c in SILENT])
def test_rule_is_silent_when_nothing_calls_for_it(change, rule, fields):
    assert BY_NAME[rule](change(**fields)) is None


def test_every_rule_is_listed_and_bears_empty_profiles(digits_profile):
    defined = {*data_rules.__all__, *model_rules.__all__} - {"points_for_density"}
    assert set(BY_NAME) == defined
    assert {c[0] for c in CASES} == defined
    bare = dataclasses.replace(digits_profile, data=None, landscape=None, difficulty=None)
    assert advise(bare) == ()


def test_advice_is_ordered_and_limited(change):
    p = change(
        data={"n_duplicates": 200, "n_conflicts": 3, "scale_ratio": 500.0},
        landscape={"linear_score": 0.99},
        notes=("3 missing values were filled in.",),
        image_shape=None,
    )
    found = advise(p)
    assert len(found) == advice.MOST
    assert [a.importance for a in found] == sorted((a.importance for a in found), reverse=True)
    assert advise(p, most=2) == found[:2]


def test_points_for_density_meets_the_published_table():
    assert points_for_density(1) == pytest.approx(4)
    assert points_for_density(5) == pytest.approx(768)
    assert points_for_density(10) == pytest.approx(842_000)
    assert 67 < points_for_density(3.5) < 223
    assert points_for_density(12) > 1e7
    assert points_for_density(1e6) < float("inf")


def rule(change, name, **fields):
    """The text of one rule's advice."""
    return BY_NAME[name](change(**fields)).text


def test_no_adapter_where_a_linear_model_does_as_well(change):
    assert "adapters" not in rule(change, "adapter_size", landscape={"linear_score": 0.968})


@pytest.mark.parametrize(("small", "said"), [(0.5, False), (0.72, True)])
def test_fewer_numbers_are_advised_only_where_they_did_as_well(change, small, said):
    curve = (CurvePoint(50, 0, 0.7, 0.99), CurvePoint(10, 0, small, 0.8))
    assert ("fewer trained numbers" in rule(change, "memorising", landscape={"curve": curve})) == said


def test_repeated_categories_are_not_called_silent_columns(change):
    fields = {"baseline_score": 0.16, "guess_p": 1.0, "n_told": 5, "n_val": 263}
    text = rule(change, "unsolved", landscape=fields, data={"steps": STEPS, "tied": True})
    assert "columns say little" not in text
    assert "between the 476 different rows" in text
    assert "5 different rows of 263 held out" in change(landscape=fields).verdict


@pytest.mark.parametrize(
    ("auc", "auc_p", "orders"), [(0.88, 0.001, True), (0.88, 0.2, False), (0.2, 0.001, False)]
)
def test_columns_that_order_the_rows_are_not_said_to_say_little(change, auc, auc_p, orders):
    fields = {"baseline_score": 0.79, "chance_score": 0.63, "guess_p": 0.015, "n_told": 60, "n_val": 60}
    p = change(landscape=fields | {"auc": auc, "auc_p": auc_p})
    text = BY_NAME["unsolved"](p).text
    assert ("columns say little" in text) != orders
    assert ("columns say something" in text) == ("columns say something" in p.verdict) == orders


def test_adapters_save_where_they_hold_fewer_numbers_than_the_layers(change):
    """One output alone has rank 1, but the layers before it hold 64 * 64 numbers."""
    text = BY_NAME["adapter_size"](change(landscape={"layer_shapes": ((64, 8), (64, 64), (1, 64))})).text
    assert "(265 numbers)" in text
    assert "saves nothing" not in text
    text = BY_NAME["adapter_size"](change(landscape={"layer_shapes": ((2, 2), (1, 2))})).text
    assert "saves nothing" in text


@pytest.mark.parametrize(("linear", "said"), [(0.99999, True), (0.98, False)])
def test_a_target_that_is_a_sum_of_columns_is_asked_about(change, linear, said):
    fields = {"linear_score": linear, "score_name": "R²", "chance_score": 0.0}
    text = rule(change, "linear_suffices", landscape=fields, kind="regression", target_name="testscr")
    assert ("see whether 'testscr' is computed from columns" in text) == said
