import dataclasses
import json
import math
import pickle
import sys

import pytest

from lodim.profiling.advice import advise
from lodim.profiling.parts import MeasuredDimension, scores_by_d
from lodim.profiling.result import Profile


def test_json_follows_the_schema(digits_profile, schema_problems):
    p = dataclasses.replace(digits_profile, advice=advise(digits_profile))
    assert p.advice
    assert schema_problems(p.to_json()) == []


def test_the_schema_check_can_fail(digits_profile, schema_problems):
    plain = digits_profile.to_dict()
    del plain["landscape"]["d_int90"]
    plain["data"]["k_f"] = "sharp"
    plain["schema"] = 2
    found = schema_problems(json.dumps(plain))
    assert any("landscape" in f for f in found)
    assert any("schema" in f for f in found)
    assert any("data" in f for f in found)


def test_json_without_parts(digits_profile, schema_problems):
    p = dataclasses.replace(
        digits_profile, data=None, landscape=None, kind=None, n_classes=None, complete=False
    )
    assert schema_problems(p.to_json()) == []
    assert Profile.from_json(p.to_json()) == p
    assert "interrupted" in p.verdict


def test_json_round_trip_is_equal(digits_profile, tmp_path):
    p = dataclasses.replace(digits_profile, advice=advise(digits_profile))
    again = Profile.from_json(p.to_json())
    assert again == p
    assert again.to_html() == p.to_html()
    assert str(again) == str(p)
    p.save_json(tmp_path / "p.json")
    assert Profile.load_json(tmp_path / "p.json") == p


def test_pickles_of_the_first_version_load(digits_profile, monkeypatch):
    monkeypatch.delitem(sys.modules, "lodim.profiling.extras", raising=False)
    old_names = {
        "parts\nMeasuredDimension": "result\nEstimate",
        "parts\nDimensionAtScale": "result\nScalePoint",
        "parts\nAssumptionBits": "extras\nDifficulty",
        "parts\nDensity": "extras\nDensity",
        "parts\nTopology": "extras\nTopology",
        "parts\nLayer": "extras\nLayer",
        "parts\n": "result\n",
    }
    text = pickle.dumps(digits_profile, protocol=0)
    for name, old in old_names.items():
        assert f"lodim.profiling.{name}".encode() in text
        text = text.replace(f"lodim.profiling.{name}".encode(), f"lodim.profiling.{old}".encode())
    with pytest.warns(DeprecationWarning, match=r"lodim\.profiling\.extras is now"):
        assert pickle.loads(text) == digits_profile


def test_nan_and_infinity_become_null(change):
    p = change(
        data={"dimension": math.nan, "estimators": {"mle": MeasuredDimension(math.inf, (1.0, math.inf))}}
    )
    text = p.to_json()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert json.loads(text)["data"]["dimension"] is None


def test_documents_without_the_later_keys_are_read(digits_profile, schema_problems):
    plain = digits_profile.to_dict()
    del plain["difficulty"], plain["landscape"]["layers"]
    for later in ("density", "groups", "topology"):
        del plain["data"][later]
    text = json.dumps(plain)
    assert schema_problems(text) == []
    old = Profile.from_json(text)
    assert old.difficulty is None
    assert old.data.density is None
    assert old.landscape.layers == ()
    assert old.data.dimension == digits_profile.data.dimension


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("density.regime", "foggy"),
        ("topology.n_loops", "one"),
        ("groups.sizes", "many"),
        ("topology.component_gaps", [None]),
    ],
)
def test_the_schema_knows_the_later_parts(digits_profile, schema_problems, path, value):
    plain = digits_profile.to_dict()
    part, key = path.split(".")
    plain["data"][part][key] = value
    assert schema_problems(json.dumps(plain))


def test_another_schema_is_refused(digits_profile):
    plain = digits_profile.to_dict() | {"schema": 7}
    with pytest.raises(ValueError, match="schema 7"):
        Profile.from_dict(plain)


def test_verdict_names_the_figures(digits_profile):
    verdict = digits_profile.verdict
    for words in (
        "64 columns",
        "about 9 dimensions (7.8–10.4, nominal 95 % for shapes like those simulated)",
        "8,970",
        "160",
        "56 times",
        "420 bytes",
        "MLP",
    ):
        assert words in verdict


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"status": "not_reached", "threshold_score": 0.96, "d_int90": None, "message_bytes": None},
            "With 320 trained numbers or fewer it does not keep 90 %",
        ),
        ({"status": "below_d_min", "d_int90": None, "message_bytes": None}, "10 trained numbers already"),
        ({"baseline_score": 0.15}, "barely does better than a constant answer"),
        ({"status": "not_measured", "d_int90": None, "message_bytes": None}, "not known"),
        ({"model": "pkg:net"}, "The model pkg:net with"),
        ({"model": "linear"}, "A linear model with"),
    ],
)
def test_verdict_of_every_outcome(change, fields, words):
    assert words in change(landscape=fields).verdict


def test_verdict_of_one_dimension(change):
    assert "about 1.0 dimension" in change(data={"dimension": 1.0, "interval": None}, n_features=1).verdict
    assert change(n_features=1).verdict.startswith("1 column,")


def test_scores_by_d_leaves_out_failed_runs(change, digits_profile):
    curve = digits_profile.landscape.curve
    failed = dataclasses.replace(curve[0], score=None)
    part = change(landscape={"curve": (failed, *curve[1:])}).landscape
    assert list(scores_by_d(part)) == sorted({r.d for r in curve})
    assert len(scores_by_d(part)[curve[0].d]) == 2


def test_text_shows_verdict_tables_and_advice(digits_profile):
    p = dataclasses.replace(digits_profile, advice=advise(digits_profile))
    text = str(p)
    assert text.startswith(p.verdict)
    assert "Levina-Bickel" in text
    assert "What to do next" in text
    assert "Pixels were divided" in text
    assert "  320  " in text
    for line in (
        "Density: condensed.",
        "Difficulty, an order of magnitude",
        "Topology: 2 components",
        "of rows as the model is given them: input 8.9",
    ):
        assert line in text


def test_plot_draws_without_a_display(digits_profile):
    import matplotlib as mpl

    mpl.use("Agg")
    figure = digits_profile.plot()
    assert len(figure.axes) == 11
    assert all(ax.get_title(loc="left") for ax in figure.axes)
