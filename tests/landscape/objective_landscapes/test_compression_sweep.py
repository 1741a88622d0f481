"""The trade of message length against accuracy, on a small separable problem."""

import math

import numpy as np
import pytest
import torch

from lodim.landscape.objective_landscapes.bounds import BOUND_KINDS, compression_bound
from lodim.landscape.objective_landscapes.compression import CompressedModel
from lodim.landscape.objective_landscapes.compression_sweep import (
    CompressionSweep,
    compress_sweep,
    full_score,
)
from lodim.landscape.objective_landscapes.module import SubspaceModule
from lodim.nets import mlp
from lodim.randomness import build_seeded
from lodim.training import Task

pytestmark = pytest.mark.trains


def make_model():
    return mlp([5, 24, 2])


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1500, 5)).astype(np.float32)
    y = (X[:, 0] + X[:, 1] * X[:, 2] > 0).astype(int)
    task = Task.from_arrays(X[:1000], y[:1000], X[1000:], y[1000:])
    subspace = SubspaceModule(build_seeded(make_model, 1), d=60, seed=2)
    optimizer = torch.optim.Adam(subspace.parameters(), lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        task.loss(subspace(task.X), task.y).backward()
        optimizer.step()
    return subspace, task


@pytest.fixture(scope="module")
def sweep(problem):
    return compress_sweep(problem[0], make_model, 1, problem[1], levels=(16, 3, 7))


def test_points_measure_the_compressed_models(problem, sweep):
    subspace, task = problem
    assert [p.levels for p in sweep.points] == [3, 7, 16]
    for point in sweep.points:
        model = CompressedModel.from_subspace(subspace, make_model, 1, n_levels=point.levels)
        hits = (model.to_module()(task.X_val).argmax(1) == task.y_val).double().mean().item()
        assert point.score == pytest.approx(hits)
        assert point.message_bits == model.message_bits
        assert point.n_bytes == model.n_bytes
    assert sweep.score > 0.85
    assert sweep.points[-1].score > sweep.score - 0.05


def test_length_grows_with_levels(sweep):
    bits = [p.message_bits for p in sweep.points]
    assert bits == sorted(bits)
    for point in sweep.points:
        assert 0 < point.entropy_bits <= math.log2(point.levels)


def test_bounds_pay_for_the_choice_of_levels(sweep):
    point = sweep.points[0]
    bits = point.message_bits + 2 * math.log2(point.message_bits)
    for kind in BOUND_KINDS:
        expected = compression_bound(
            1 - point.train_score, bits, 1000, kind=kind, selection_bits=math.log2(3)
        )
        assert point.bounds[kind] == pytest.approx(expected)
        assert point.bounds[kind] > 1 - point.score
    assert sweep.best.bounds["best"] == min(p.bounds["best"] for p in sweep.points)


def test_the_sweep_reports_itself(sweep):
    back = CompressionSweep.from_json(sweep.to_json())
    assert back == sweep
    assert list(sweep.to_frame().levels) == [3, 7, 16]
    assert "bound_catoni" in sweep.to_frame()
    assert "194 weights from 60 numbers" in str(sweep)
    assert "error on new data below" in str(sweep)
    assert sweep.plot().get_ylabel() == "score"


def test_fine_tuning_runs_for_each_size(problem):
    seen = []
    compress_sweep(*problem[:1], make_model, 1, problem[1], levels=(2, 4), finetune=seen.append)
    assert [len(module.codebook) for module in seen] == [2, 4]


def test_regression_has_scores_but_no_bounds():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 5)).astype(np.float32)
    task = Task.from_arrays(X[:40], X[:40, 0] * 2.0, X[40:], X[40:, 0] * 2.0, kind="regression")

    def make_line():
        return mlp([5, 8, 1])

    subspace = SubspaceModule(build_seeded(make_line, 0), d=10, seed=0)
    with torch.no_grad():
        subspace.theta_d.copy_(torch.linspace(-1, 1, 10))
    sweep = compress_sweep(subspace, make_line, 0, task, levels=(2, 4))
    assert all(point.bounds == {} for point in sweep.points)
    assert sweep.best.score == max(p.score for p in sweep.points)
    assert sweep.plot().get_ylabel() == "score"


def test_bad_input(problem):
    with pytest.raises(ValueError, match="levels"):
        compress_sweep(problem[0], make_model, 1, problem[1], levels=())
    with pytest.raises(TypeError, match="levels"):
        compress_sweep(problem[0], make_model, 1, problem[1], levels=(2.7,))


def test_scores_leave_every_parts_mode(problem):
    _, task = problem
    net = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 2)).train()
    net[1].eval()
    full_score(net, task, task.X, task.y)
    assert [part.training for part in net] == [True, False, True]
