"""The answers beside the dimension: what they say on data whose answer is known, and what the clock does to them."""

import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import lodim
from lodim.datasets import read_table
from lodim.geometry import generalization_difficulty
from lodim.profiling.beside_dimension import (
    Clock,
    density_rows,
    difficulty_rows,
    group_rows,
    measure_density,
    measure_difficulty,
    measure_groups,
    measure_topology,
    with_model,
)
from lodim.profiling.inputs import as_dataset
from lodim.profiling.layers_part import measure_layers, plan_points
from lodim.profiling.parts import DataPart, LandscapePart


def problem_of(X, y=None):
    fields = dict.fromkeys(("feature_names", "target_name", "classes", "image_shape"))
    return as_dataset(X, y, source="a", kind="auto", notes=(), **fields)


def open_clock():
    return Clock(5.0, time.monotonic() + 600)


def measured(n_conflicts, dimension=3.0, interval=(2.6, 3.5)):
    return DataPart(dimension, interval, {}, n_conflicts=n_conflicts)


def test_many_columns_condense_a_density():
    rng = np.random.default_rng(0)
    few, notes = measure_density(problem_of(rng.normal(size=(1500, 1))), 0, open_clock())
    many, _ = measure_density(problem_of(rng.normal(size=(1500, 40))), 0, open_clock())
    assert (few.regime, many.regime) == ("clt", "condensed")
    assert few.bandwidth > few.h_clt > few.h_g
    assert many.bandwidth < many.h_g < many.h_clt
    assert few.n_eff > 50 > 5 > many.n_eff
    assert notes == []


def test_a_lattice_has_a_regime_and_no_threshold_to_draw():
    X = np.stack(np.meshgrid(*[np.arange(4.0)] * 4), -1).reshape(-1, 4)
    found, notes = measure_density(problem_of(X), 0, open_clock())
    assert (found.regime, found.h_g, found.h_clt) == ("clt", None, None)
    assert notes == []


def test_groups_are_found_where_there_are_some_and_not_in_one_ball():
    rng = np.random.default_rng(0)
    ball = rng.normal(size=(600, 3))
    one, _ = measure_groups(problem_of(ball), 0, open_clock())
    three, notes = measure_groups(problem_of(ball + 8 * np.repeat(np.eye(3), 200, axis=0)), 0, open_clock())
    assert (one.n_groups, one.sizes, one.clear) == (1, (600,), False)
    assert (three.n_groups, three.sizes, three.clear) == (3, (200, 200, 200), True)
    assert three.n_separable > 500
    assert three.sentence.startswith("Three groups that repeat on 100 % of resamples")
    assert notes == []


def test_the_values_of_a_column_are_no_discovery():
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(600, 2)), columns=["a", "b"])
    frame["kind"] = np.where(np.arange(600) % 2, "x", "y")
    found, _ = measure_groups(replace(read_table(frame), y=None), 0, open_clock())
    assert (found.n_groups, found.told_by, found.clear) == (2, "kind", False)


def test_rows_follow_the_time():
    assert group_rows(1797, 64, 1.2) == 1797
    assert group_rows(10**6, 10, 10.0) == 5000
    assert group_rows(10**6, 784, 0.3) < group_rows(10**6, 784, 0.6) < 5000
    assert group_rows(5000, 64, 0.01) == 0
    assert density_rows(1797, 64, 1.0) == 1797
    assert density_rows(10**6, 10, 10.0) == 20_000
    assert density_rows(10**6, 784, 1.0) < density_rows(10**6, 784, 2.0)
    assert density_rows(5000, 20_000, 1.0) == 0  # the covariance alone would take hours
    assert difficulty_rows(1797, 64, 2.0) == 1797
    assert difficulty_rows(10**6, 784, 1.0) < 10**6
    assert plan_points((64, 64, 10), 2.0, 1797) == 1797
    assert plan_points((64,) * 50, 0.3, 1797) < 1797
    assert plan_points((10**6,), 0.1, 1797) == 0


def test_what_comes_too_late_is_left_out_and_said():
    X, y = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 2
    late = Clock(5.0, time.monotonic() - 1)
    density, notes = measure_density(problem_of(X), 0, late)
    assert density is None
    assert "want of time" in notes[0]
    assert measure_groups(problem_of(X), 0, late)[0] is None
    difficulty, task, notes = measure_difficulty(problem_of(X, y), measured(0), 0, late)
    assert difficulty is None
    assert task is None
    assert "want of time" in notes[0]


def test_bits_are_those_of_the_formula_over_the_dimensions_interval():
    rng = np.random.default_rng(0)
    y = np.arange(600) % 3
    X = rng.normal(size=(600, 3)) + 6 * np.eye(3)[y]
    found, task, notes = measure_difficulty(problem_of(X, y), measured(0), 0, open_clock())

    def bits(m, margin):
        return generalization_difficulty(
            0.01, 600, m, found.radius, margin, n_outputs=2, n_combinations=3
        ).log10_bits

    assert found.dimension == 3.0
    assert found.log10_bits == pytest.approx(bits(3.0, found.margin))
    ends = bits(2.6, found.margin), bits(3.5, found.margin)  # M >> m: the bits grow with the dimension
    assert found.interval[0] <= ends[0] < found.log10_bits < ends[1] <= found.interval[1]
    known, _, _ = measure_difficulty(problem_of(X, y), measured(0, 3.0, (3.0, 3.0)), 0, open_clock())
    assert known.interval[1] - known.interval[0] < found.interval[1] - found.interval[0]
    assert found.doubled_log10_bits < found.log10_bits
    assert found.radius == pytest.approx(np.linalg.norm(X, axis=1).max())
    assert notes == []
    scored = LandscapePart(10, 0.9, 0.8, None, None, "not_reached", linear_score=0.95)
    supplied = with_model(found, task, scored)
    assert (supplied.supplied_by, supplied.supplied_error) == ("linear", pytest.approx(0.05))
    assert supplied.supplied_log10_bits == pytest.approx(task.at(0.05).log10_bits)
    assert 0 < supplied.supplied_share < 1
    perfect = with_model(found, task, LandscapePart(10, 1.0, 0.9, None, None, "not_reached"))
    assert perfect.supplied_error == 0
    assert perfect.supplied_log10_bits is None


def test_equal_rows_of_different_classes_have_no_bits():
    X, y = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 2
    found, _, notes = measure_difficulty(problem_of(X, y), measured(1), 0, open_clock())
    assert found is None
    assert "equal rows carry different labels" in notes[0]
    found, _, notes = measure_difficulty(problem_of(X.round(), y), measured(0), 0, open_clock())
    assert found is None  # the pairs drawn show it, too
    assert "different labels" in notes[0]


def test_without_a_dimension_there_are_neither_bits_nor_a_density():
    X, y = np.eye(4)[np.arange(60) % 4], np.arange(60) % 2
    steps = DataPart(None, (None, 3.0), {}, n_conflicts=0, tied=True)
    found, _, notes = measure_difficulty(problem_of(X, y), steps, 0, open_clock())
    assert found is None
    assert "dimension, which is not known" in notes[0]
    assert measure_density(problem_of(X), 0, open_clock(), steps) == (None, [])


def test_a_regression_has_no_bits_and_no_note():
    X = np.random.default_rng(0).normal(size=(60, 3))
    found, _, notes = measure_difficulty(problem_of(X, X[:, 0] * 1.5), measured(None), 0, open_clock())
    assert found is None
    assert notes == []


def test_a_layer_of_two_numbers_has_two_dimensions():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 2), nn.Linear(2, 30))
    X = np.random.default_rng(0).random((600, 8)).astype(np.float32)
    layers, n, notes = measure_layers(model, X, seed=0, seconds=5, deadline=time.monotonic() + 600)
    assert [(e.name, e.kind, e.width) for e in layers] == [
        ("input", "data", 8),
        ("0", "Linear", 2),
        ("1", "Linear", 30),
    ]
    assert [round(e.dimension) for e in layers[1:]] == [2, 2]
    assert layers[0].dimension > 4
    assert all(e.interval[0] < e.dimension < e.interval[1] for e in layers)
    assert n == 600
    assert notes == []
    assert measure_layers(nn.Linear(8, 2), X, seed=0, seconds=5, deadline=time.monotonic() + 600) == (
        (),
        0,
        [],
    )
    _, _, notes = measure_layers(model, X, seed=0, seconds=5, deadline=time.monotonic() - 1)
    assert "want of time" in notes[0]


class Twice(nn.Module):
    """Runs one of its layers twice."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.two(self.one(self.one(x)))


def test_layers_that_cannot_be_told_apart_are_noted():
    X = np.random.default_rng(0).random((60, 4)).astype(np.float32)
    layers, _, notes = measure_layers(Twice(), X, seed=0, seconds=5, deadline=time.monotonic() + 600)
    assert [e.name for e in layers] == ["input", "two"]
    assert all(e.dimension > 0 for e in layers)
    assert len(notes) == 1
    assert "'one' is run twice" in notes[0]


def test_a_profile_on_request_counts_a_circle(schema_problems):
    pytest.importorskip("gudhi", reason="counting loops needs the extra 'topology'")
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 300)
    X = np.c_[np.cos(angle), np.sin(angle)] + 0.03 * rng.normal(size=(300, 2))
    p = lodim.profile(X, budget=300, topology=True)
    assert (p.data.topology.n_components, p.data.topology.n_loops) == (1, 1)
    assert "1 loop beyond noise" in str(p)
    assert "loops" in {a.rule for a in p.advice}
    assert schema_problems(p.to_json()) == []
    assert lodim.Profile.from_json(p.to_json()) == p
    few, notes = measure_topology(problem_of(X[:12]), 0)
    assert few is None
    assert "not counted" in notes[0]


def test_topology_without_its_library_is_refused_at_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "gudhi", None)
    told = []
    with pytest.raises(ImportError, match=r"lodim\[topology\]"):
        lodim.profile(np.eye(30), topology=True, progress=lambda done, text: told.append(text))
    assert told == []


def test_copies_hold_no_bits():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    y = (X[:, 0] > 0).astype(int)
    once, _, _ = measure_difficulty(problem_of(X, y), measured(0), 0, open_clock())
    part = DataPart(3.0, (2.6, 3.5), {}, n_conflicts=0, n_duplicates=200)
    twice, _, notes = measure_difficulty(problem_of(np.r_[X, X], np.r_[y, y]), part, 0, open_clock())
    assert twice == once
    assert "200 of 400 rows" in notes[0]
