"""What a report says about data of known truth: where each rule of advice fires, where it must not, and that its
sentences agree with one another.
"""

import dataclasses
import re
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lodim
from lodim.datasets import read_table
from lodim.profiling import data_rules, wording
from lodim.profiling.data_part import measure_data
from lodim.profiling.parts import DimensionAtScale, MeasuredDimension
from lodim.profiling.pictures import pictures
from lodim.profiling.result import Profile


def measured(X, labels=None, seed=0, **fields):
    """A profile of the data part alone."""
    names = [str(j) for j in range(X.shape[1])]
    labels = None if labels is None else np.asarray(labels).astype(str)
    part, notes = measure_data(
        X, labels, names, seed=seed, deadline=time.monotonic() + 1e6, seconds=1e6, **fields
    )
    return Profile("a", len(X), X.shape[1], part, None, (), 0.0, seed, {}, notes=tuple(notes))


def roll(rng, n):
    t = rng.uniform(4.7, 14, n)
    return np.c_[t * np.cos(t), rng.uniform(0, 21, n), t * np.sin(t)]


def circle(rng, n):
    angle = rng.uniform(0, 2 * np.pi, n)
    return np.c_[np.cos(angle), np.sin(angle)] @ rng.normal(size=(2, 6))


def waves(rng, n):
    return np.sin(3 * rng.uniform(size=(n, 2)) @ rng.normal(size=(2, 12)))


def plane(rng, n):
    return rng.normal(size=(n, 2)) @ rng.normal(size=(2, 20))


def noisy_plane(rng, n):
    """Two wide directions and eighteen of a hundredth of the variance in all."""
    return np.c_[rng.normal(size=(n, 2)), rng.normal(size=(n, 18)) / 30]


def full_rank(rng, n):
    return rng.normal(size=(n, 8))


def decaying(rng, n):
    return rng.normal(size=(n, 15)) / np.arange(1, 16)


def mixed_uniform(rng, n):
    return rng.uniform(size=(n, 6)) @ rng.normal(size=(6, 10))


SHAPES = [
    (roll, {"curved"}),
    (circle, {"curved"}),
    (waves, {"curved"}),
    (plane, {"pca_suffices"}),
    (noisy_plane, {"pca_coarse"}),
    (full_rank, {None}),
    (decaying, {None, "pca_suffices", "pca_coarse"}),  # flat, whatever its neighbours see of it
    (mixed_uniform, {None, "pca_suffices"}),
]


@pytest.mark.parametrize(("shape", "may"), SHAPES, ids=[shape.__name__ for shape, _ in SHAPES])
def test_bent_and_flat_clouds_are_told_apart(shape, may):
    found = data_rules.linear_or_curved(measured(shape(np.random.default_rng(1), 400)))
    assert (found and found.rule) in may
    assert (found is not None and "bent" in found.text) == ("curved" in may)


@pytest.mark.slow
def test_flat_clouds_are_seldom_called_bent():
    """Two intervals of nominal 95 % that do not meet: by chance in less than 1 %. Of 240 flat tables (normal, uniform
    and Student's law, equal and decaying spectra, with noise) 0 were called bent; P(more than 7 of 240 at 1 %) < 0.005.
    """
    rng, fired = np.random.default_rng(0), 0
    for i in range(240):
        D, n = int(rng.integers(5, 25)), 250
        decay = np.arange(1, D + 1) ** -rng.uniform(0, 1.5)
        X = (
            rng.normal(size=(n, D)) * decay,
            rng.uniform(size=(n, D)) * decay,
            rng.normal(size=(n, 3)) @ rng.normal(size=(3, D)) + 0.2 * rng.normal(size=(n, D)),
            rng.standard_t(5, size=(n, D)) @ rng.normal(size=(D, D)),
        )[i % 4]
        fired += measured(X, seed=i).data.independent is not None
    assert fired <= 7


def test_alike_classes_have_no_closest_pair():
    """Three alike classes: the nearest pair is the same in four parts by chance once in 27, at most. Of 40 tables 1.5
    are expected; more than 6 have a probability below 0.002.
    """
    rng, fired = np.random.default_rng(0), 0
    for seed in range(40):
        fired += measured_pair(rng.normal(size=(160, 4)), rng.integers(0, 3, 160), seed)
    assert fired <= 6


def measured_pair(X, y, seed=0):
    from lodim.profiling.data_part import _sharpness

    return _sharpness(X, y.astype(str), seed)[2]


def test_touching_classes_are_the_closest_pair():
    rng = np.random.default_rng(0)
    y = np.arange(400) % 4
    X = rng.normal(size=(400, 3)) + np.array([[0, 0, 0], [20, 0, 0], [0, 20, 0], [2.0, 20, 0]])[y]
    assert measured_pair(X, y)
    assert not measured_pair(X[y < 2], y[y < 2])  # two classes have one pair only
    assert data_rules.sharpest_pair(measured(X, y)).because["pair"] == ["2", "3"]


def test_a_flat_class_among_full_ones_stands_apart():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(5), 150)
    X = rng.normal(size=(750, 6))
    X[y == 3, 1:] = 0.5 * X[y == 3, :1] ** np.arange(2, 7)  # a curve
    found = data_rules.class_outlier(measured(X, y))
    assert found.because["class"] == "3"
    assert "fewer directions" in found.text


def alike_classes(n_tables, seed=0):
    rng, fired = np.random.default_rng(seed), 0
    for i in range(n_tables):
        d, n_classes = int(rng.integers(2, 12)), int(rng.integers(3, 9))
        y = np.arange(60 * n_classes) % n_classes
        X = rng.normal(size=(len(y), d))
        fired += (
            data_rules.class_outlier(measured(np.c_[X, X @ rng.normal(size=(d, 2))], y, seed=i)) is not None
        )
    return fired


@pytest.mark.slow
def test_alike_classes_seldom_stand_apart():
    """Bonferroni over the classes: 5 % of the tables, were the intervals exact; more than 20 of 200 has p < 0.002."""
    assert alike_classes(200) <= 20


def test_alike_classes_do_not_stand_apart_in_a_few_tables():
    assert alike_classes(2) <= 1  # p < 0.003 at 5 %


def thick_line(n, thickness):
    """A line with noise of this size in all of five directions; neighbours are 1/n apart along the line."""
    rng = np.random.default_rng(0)
    return np.c_[rng.uniform(size=n), np.zeros((n, 4))] + thickness * rng.normal(size=(n, 5))


def test_a_thick_line_has_a_dimension_at_every_scale():
    """Neighbours are as far apart as the noise is wide: five dimensions there, one among the farther."""
    p = measured(thick_line(500, 0.003))
    found = data_rules.scale_dependence(p)
    assert "falls" in found.text
    assert found.because["first"] > 3 > 1.5 > found.because["last"]
    apart = data_rules.estimators_disagree(p)
    assert apart.because["low"] < 2 < 3 < apart.because["high"]


def one_scale(n_tables, seed=0):
    """How many of so many normal and uniform clouds of 1 to 14 dimensions are said to change with the scale, and how
    many to make estimators disagree: neighbours of all have one dimension, edges and few rows apart.
    """
    rng, changes, disagree = np.random.default_rng(seed), 0, 0
    for i in range(n_tables):
        d, n = int(rng.integers(1, 15)), int(rng.integers(100, 500))
        Z = (rng.normal, rng.uniform)[i % 2](size=(n, d))
        p = measured(np.c_[Z, Z @ rng.normal(size=(d, 2))], seed=i)
        changes += data_rules.scale_dependence(p) is not None
        disagree += data_rules.estimators_disagree(p) is not None
    return changes, disagree


@pytest.mark.slow
def test_clouds_of_one_scale_seldom_change_with_it():
    """4 and 0 of 150 when it was measured (seed 0); at 5 % more than 16 of 150 have a probability below 0.002."""
    changes, disagree = one_scale(150)
    assert changes <= 16
    assert disagree <= 16


def test_a_few_clouds_of_one_scale_do_not_change_with_it():
    changes, disagree = one_scale(4)
    assert changes <= 2  # more: p < 0.001 at 5 %
    assert disagree <= 2


@pytest.mark.parametrize("d", [2, 5])
def test_one_cloud_is_one_component_and_two_are_two(d):
    """Normal, uniform and Student's t_3 clouds: 0 of 600 in 2 to 20 dimensions fell apart when it was measured."""
    from scipy.spatial.distance import cdist

    from lodim.geometry.multiparameter_persistence.summary import _components

    rng = np.random.default_rng(d)

    def count(X):
        distance = cdist(X, X)
        return _components(distance, np.sort(distance, axis=1)[:, 10])[0]

    clouds = [rng.normal(size=(200, d)), rng.uniform(size=(200, d)), rng.standard_t(3, size=(200, d))]
    assert [count(X) for X in clouds] == [1, 1, 1]
    assert count(np.r_[clouds[0], clouds[0] + 4 * d]) == 2


def scales_of_unequal_columns(ratio):
    return np.random.default_rng(0).normal(size=(60, 4)) * [1, 1, 1, ratio]


@pytest.mark.parametrize(("ratio", "fires"), [(1, False), (20, False), (1000, True)])
def test_unequal_columns_are_named(ratio, fires):
    found = data_rules.column_scales(measured(scales_of_unequal_columns(ratio)))
    assert (found is not None) == fires
    assert not fires or "Column '3'" in found.text


def test_gaps_are_advised_on_and_words_for_them_are_not():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(60, 3)), columns=list("abc"))
    whole = lodim.profile(read_table(frame.assign(k=rng.choice(["u", "v"], 60))), model="none", budget=600)
    assert data_rules.missing_values(whole) is None
    frame.loc[:4, "b"] = np.nan
    p = lodim.profile(read_table(frame), model="none", budget=600)
    assert "5 missing values" in data_rules.missing_values(p).text


def test_copies_and_their_labels():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(80, 3)), np.arange(80) % 2
    clean = measured(X, y)
    assert data_rules.duplicates(clean) is None
    assert data_rules.label_conflicts(clean) is None
    twice = measured(np.r_[X, X[:20]], np.r_[y, 1 - y[:5], y[5:20]])
    assert "20 rows repeat" in data_rules.duplicates(twice).text
    assert twice.data.best_score == pytest.approx(95 / 100)
    assert "5 pairs" in data_rules.label_conflicts(twice).text
    assert "at least 5 rows of 100 wrong" in data_rules.label_conflicts(twice).text


def test_constant_columns_of_a_table_and_of_images():
    X = np.random.default_rng(0).normal(size=(60, 4))
    X[:, 2] = 1.0
    p = measured(X)
    assert "'2'" in data_rules.constant_columns(p).text
    assert data_rules.constant_columns(dataclasses.replace(p, image_shape=(1, 2, 2))) is None


def test_density_advice_follows_the_measured_regime():
    rng = np.random.default_rng(0)
    low = lodim.profile(rng.normal(size=(400, 1)), budget=600)
    high = lodim.profile(rng.normal(size=(400, 40)), budget=600)
    assert data_rules.sample_size(low) is None
    assert "no average" in data_rules.sample_size(high).text
    assert "rows are enough" not in str(low) + str(high)


@given(st.floats(0.3, 3000), st.floats(0, 1), st.floats(0, 1))
def test_no_printed_dimension_is_outside_its_printed_interval(value, below, above):
    ends = value * (1 - 0.5 * below**3), value * (1 + above**3)
    low, high = (float(e.replace(",", "")) for e in wording.interval(ends).split("–"))
    for said in (wording.whole_dimension(value, ends), wording.dimension(value)):
        assert low <= float(said.replace(",", "")) <= high


@pytest.mark.parametrize(
    ("value", "ends", "said"),
    [
        (9.2, (7.6, 10.9), "9"),
        (8.62, (8.3, 8.8), "8.6"),  # 9 would be outside
        (9.0, (8.7, 9.1), "9"),
        (3.1, (2.9, 3.4), "3.1"),
        (1.0, (1.0, 1.1), "1.0"),
        (123.4, (101.2, 150.0), "123"),
    ],
)
def test_a_dimension_is_said_within_its_interval(value, ends, said):
    assert wording.whole_dimension(value, ends) == said


def test_what_is_known_of_an_interval_is_said(change):
    assert "(7.8–10.4, nominal 95 % for shapes like those simulated)" in change().verdict
    assert "(7.8–10.4)." in change(data={"level": None}).verdict  # a document of version 0.1
    assert (
        "unlike the shapes that this interval was calibrated on" in change(data={"unfamiliar": True}).verdict
    )
    assert "many distances between rows are equal" in change(data={"tied": True}).verdict
    bounded = {"dimension": 8.0, "interval": (7.2, 8.0), "bounded_by": "columns"}
    assert ", 8 dimensions (7.2–8.0, nominal" in change(data=bounded).verdict
    assert "the most that its columns allow" in change(data=bounded).verdict


def test_a_whole_below_all_its_classes_is_spoken_of(change):
    part = change().data
    apart = {str(i): MeasuredDimension(11.0 + i, (10.5 + i, 11.5 + i)) for i in range(3)}
    said = wording.beside_whole(dataclasses.replace(part, per_class=apart))
    assert "fewer dimensions (9.2) than each of them" in said
    assert "nearer neighbours" in said
    close = {str(i): MeasuredDimension(9.5, (8.0, 11.0)) for i in range(3)}
    p = change(data={"per_class": close})
    assert "intervals overlap" in wording.beside_whole(p.data)
    assert "intervals overlap, so the rows cannot tell" in " ".join(str(p).split())
    assert wording.beside_whole(part) == ""  # some classes lie below


def test_noisy_samples_of_one_cloud_are_not_told_apart():
    """Every class is a sample of the same normal law, so the whole's dimension is each class's."""
    rng = np.random.default_rng(3)
    p = measured(rng.normal(size=(240, 6)), np.arange(240) % 4)
    assert "Compare classes with one another" not in wording.beside_whole(p.data)
    (shown,) = [q.shows for q in pictures(p) if q.key == "classes"]
    assert "the two intervals overlap" in shown


WITH_ENDS = re.compile(
    r"(?<![\d.^])(\d[\d,]*(?:\.\d+)?)(?: dimensions?)? \((\d[\d,]*(?:\.\d+)?)–(\d[\d,]*(?:\.\d+)?)"
)
AGAINST = [
    ("PCA is enough", "it is bent"),
    ("PCA is enough", "the other directions are small"),
    ("it is no average", "is an average"),
    ("no average", "rows are enough"),
    ("decided by the few nearest", "rows are enough"),
    ("No dimension can be read", "about"),
    ("No dimension can be read", "local dimension"),
    ("do not settle the label", "label errors"),
    ("the dimension hangs on the scale", "alone can bend"),
    ("for shapes like those simulated", "unlike the shapes"),
    ("for shapes like those simulated", "this interval says nothing"),
]


def contradictions(p):
    """Pairs of sentences of a report that cannot both be true."""
    words = " ".join([str(p), *(q.shows for q in pictures(p))]).split()
    text = " ".join(words)
    found = [(a, b) for a, b in AGAINST if a in text and b in text]
    for match in WITH_ENDS.finditer(text):
        value, low, high = (float(part.replace(",", "")) for part in match.groups())
        if not low <= value <= high:
            found.append((match.group(), "outside its interval"))
    for said in re.findall(r"(\d[\d.]*) dimensions?\b", p.verdict):
        if float(said) > p.n_columns:
            found.append((said, f"{p.n_columns} columns"))
    if "lower bound" in p.verdict or any("lower bound" in a.text for a in p.advice):
        found.append(("lower bound", "an interval"))
    coarse = re.search(r"PCA is enough: (\d+) components?.*?(\d[\d.]*) \((\d[\d.]*)–(\d[\d.]*)\)", text)
    if coarse and not float(coarse[3]) - 0.2 <= int(coarse[1]) <= np.ceil(float(coarse[4])):
        found.append((coarse.group(), "components outside the interval"))
    if p.image_shape is not None and "never change" in text:
        found.append(("pixels", "drop them"))
    return found


def labelled(X, y, **fields):
    return lodim.profile(X, y, model="none", budget=600, **fields)


def synthetic(name):
    rng = np.random.default_rng(5)
    if name == "images":
        X = np.zeros((150, 8, 8), dtype=np.uint8)
        X[:, 2:6, 2:6] = rng.integers(0, 250, (150, 4, 4))
        return labelled(X, np.arange(150) % 3)
    if name == "categories":
        frame = pd.DataFrame({c: rng.choice(list("abc"), 150) for c in "uvw"}).assign(
            t=rng.choice(["n", "y"], 150)
        )
        return lodim.profile(read_table(frame, target="t"), model="none", budget=600)
    if name == "mixed":
        frame = pd.DataFrame(rng.normal(size=(150, 2)), columns=["a", "b"]).assign(
            k=rng.choice(["p", "q"], 150)
        )
        return lodim.profile(read_table(frame), model="none", budget=600)
    X = {"roll": roll, "plane": plane, "noisy plane": noisy_plane, "full rank": full_rank}[name](rng, 150)
    return labelled(X, np.arange(150) % 3)


@pytest.mark.parametrize(
    "name", ["roll", "plane", "noisy plane", "full rank", "images", "categories", "mixed"]
)
def test_no_two_sentences_contradict_each_other(name):
    assert contradictions(synthetic(name)) == []


def test_contradictions_are_seen(change):
    """As the reports of version 0.1 had them."""
    from lodim.profiling.parts import Advice

    def says(*texts, **fields):
        p = change(**fields)
        return contradictions(dataclasses.replace(p, advice=tuple(Advice(text, {}) for text in texts)))

    plain = {"data": {"independent": None}}
    assert says(**plain) == []
    assert says(
        "PCA is enough: 2 components of 9 hold 95 %, close to the 3.1 (2.8–3.4) dimensions found.", **plain
    )
    assert says("It rests on 1.4 of 3,000 rows: it is no average. 3,000 rows are enough.", **plain)
    assert says("Take the dimension itself as a lower bound.", **plain)
    assert says("2 columns of 64 never change ('0', '16'); drop them.", **plain)
    assert says("Class 'a' has 9.0 dimensions (8.1–8.8).", **plain)
    assert says(**plain, n_features=4)


@pytest.mark.parametrize("unit", [1e-100, 1e-14, 1e100])
def test_a_unit_makes_no_column_constant(unit):
    rng = np.random.default_rng(0)
    part = measured(unit * rng.normal(size=(200, 3))).data
    assert part.constant_columns == ()
    assert part.interval[0] <= 3 <= part.interval[1]


def test_narrow_columns_beside_time_stamps_are_not_constant():
    rng = np.random.default_rng(0)
    X = np.c_[1.7e18 + 1e14 * rng.random(200), rng.normal(size=(200, 2)), np.full(200, 0.1)]
    p = measured(X)
    assert p.data.constant_columns == ("3",)
    assert data_rules.column_scales(p) is not None


def test_the_rank_of_values_in_steps_does_not_hang_on_units():
    rng = np.random.default_rng(0)
    X = np.c_[rng.integers(1, 6, (300, 3)), 1e7 * rng.integers(0, 2, 300)]
    assert measured(X).data.steps.rank == 4


def test_a_small_class_makes_the_others_no_closest_pair():
    """Three classes equally far from one another, two of 200 rows and one of 5."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        y = np.repeat([0, 1, 2], [200, 195, 5])
        assert not measured_pair(rng.normal(size=(400, 8)) + 3 * np.eye(8)[y], y)


def test_what_prints_alike_is_not_said_to_be_fewer(change):
    alike = {str(i): MeasuredDimension(8.0, (7.0, 8.0)) for i in range(3)}
    assert wording.beside_whole(change(data={"dimension": 7.98, "per_class": alike}).data) == ""


def test_copies_are_no_rows_for_a_density():
    X = np.random.default_rng(0).normal(size=(150, 6))
    once, twice = data_rules.sample_size(measured(X)), data_rules.sample_size(measured(np.r_[X, X]))
    assert once.because == twice.because
    assert "there are 150 different ones" in twice.text


def test_few_rows_do_not_make_pca_enough():
    """Any 40 rows lie in 39 components."""
    p = measured(np.random.default_rng(0).normal(size=(40, 200)))
    assert p.data.bounded_by == "rows"
    assert data_rules.linear_or_curved(p) is None


def test_a_change_with_scale_is_told_by_numbers_outside_the_interval(change):
    def at(*dimensions):
        points = tuple(
            DimensionAtScale("gride", 2**i, 1.0 + i, 100, d, 0.1) for i, d in enumerate(dimensions, 1)
        )
        fields = {"scale_dependent": True, "dimension": 2.0, "interval": (1.6, 2.2), "scale_profile": points}
        return data_rules.scale_dependence(change(data=fields))

    assert at(1.8, 2.0) is None
    assert at(203.0, 2.1, 1.9) is None  # of 64 columns
    assert "from 1.8" in at(1.8, 2.4, 3.0).text


def test_rows_in_a_sequence_have_no_hundred_dimensions():
    t = np.arange(300)
    p = measured(np.c_[t, np.sin(t / 10)])
    assert p.data.unfamiliar
    advice = data_rules.scale_dependence(p)
    assert advice is None or max(advice.because["first"], advice.because["last"]) <= 3


def test_intervals_beside_an_unfamiliar_dimension_are_not_called_nominal(change):
    for unfamiliar in (True, False):
        head = next(
            line
            for line in str(change(data={"unfamiliar": unfamiliar})).splitlines()
            if "as published" in line
        )
        assert ("may miss" in head) == unfamiliar
        assert ("nominal" in head) != unfamiliar


def test_a_class_keeps_what_its_dimension_was_flagged_with():
    """Powers of one number lie unlike any simulated shape; the other class is a cube."""
    rng = np.random.default_rng(0)
    odd = np.c_[1.5 ** np.arange(100.0), np.zeros(100), np.zeros(100)]
    p = measured(np.r_[rng.random((100, 3)), odd], np.repeat(["cube", "odd"], 100))
    assert p.data.per_class["cube"].remark == ""
    assert "unfamiliar" in p.data.per_class["odd"].remark
    row = next(line for line in str(p).splitlines() if line.strip().startswith("odd "))
    assert "unfamiliar" in row
    assert "(unfamiliar: other than the shapes of the calibration; the interval may miss)" in str(p)
