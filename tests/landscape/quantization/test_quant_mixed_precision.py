"""Bits for layers: sensitivities mean what they say, and the assignment is the best there is."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from lodim.landscape.quantization import (
    BitAssignment,
    QuantRecipe,
    QuantSpec,
    Sensitivity,
    assign_bits,
    hessian_trace,
    prepare,
    quant_layers,
    sensitivity,
)
from lodim.landscape.quantization.model.mixed_precision import default_loss
from lodim.nets import mlp
from lodim.randomness import build_seeded
from lodim.training import Recipe, Task, fit

pytestmark = pytest.mark.trains


def table(omega, sizes=None, bits=(2, 4, 8)):
    omega = np.asarray(omega, dtype=float)
    names = tuple(f"layer{i}" for i in range(len(omega)))
    return Sensitivity(
        names, tuple(sizes or [1] * len(omega)), bits, tuple(map(tuple, omega.tolist())), "loss"
    )


def random_table(seed, layers=8):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(10, 1000, layers).tolist()
    omega = np.exp(rng.normal(0, 2, (layers, 1))) * np.exp(-rng.uniform(0.5, 2, (layers, 1)) * [2, 4, 8])
    return table(omega * rng.uniform(0.7, 1.3, omega.shape), sizes)


def brute_force(found, budget, costs=None):
    sizes = np.array(found.sizes) / sum(found.sizes)
    cost = sizes[:, None] * found.bits if costs is None else costs
    omega, rows = np.array(found.omega), np.arange(len(found.sizes))
    feasible = (
        omega[rows, list(pick)].sum()
        for pick in itertools.product(range(len(found.bits)), repeat=len(rows))
        if cost[rows, list(pick)].sum() <= budget + 1e-12
    )
    return min(feasible)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("budget", [2.0, 3.0, 4.7])
def test_programme_equals_brute_force_for_eight_layers_and_three_choices(seed, budget):
    found = random_table(seed)
    answer = assign_bits(found, budget)
    assert answer.omega == pytest.approx(brute_force(found, budget), rel=1e-9)
    assert answer.cost <= budget * (1 + 1e-9)


def test_costs_from_a_table_of_latencies():
    found = table([[4, 2, 1], [4, 2, 1]])
    latency = {"layer0": {2: 1.0, 4: 1.0, 8: 9.0}, "layer1": {2: 1.0, 4: 5.0, 8: 5.0}}
    assert assign_bits(found, 6, costs=latency).bits == {"layer0": 4, "layer1": 8}
    assert assign_bits(found, 2, costs=latency).bits == {"layer0": 4, "layer1": 2}
    with pytest.raises(ValueError, match="is missing"):
        assign_bits(found, 6, costs={"layer0": latency["layer0"]})


def test_a_budget_below_the_cheapest_and_unknown_choices():
    found = random_table(0)
    with pytest.raises(ValueError, match="cheapest choices cost 2"):
        assign_bits(found, 1.9)
    with pytest.raises(ValueError, match="measured bits"):
        assign_bits(found, 4, choices=(3, 4))
    assert set(assign_bits(found, 4, choices=(2, 8)).bits.values()) <= {2, 8}


def test_an_exact_budget_is_met_whatever_the_sizes_round_to():
    found = random_table(3, layers=7)
    assert set(assign_bits(found, 4.0, choices=(4,)).bits.values()) == {4}


@pytest.fixture(scope="module")
def trained():
    rng = np.random.default_rng(0)
    centres = 2 * rng.normal(size=(3, 6))
    y = np.arange(300) % 3
    X = centres[y] + rng.normal(size=(300, 6))
    task = Task.from_arrays(X[:200], y[:200], X[200:], y[200:])
    model = build_seeded(lambda: mlp([6, 16, 16, 3]), 0)
    fit(model, task, Recipe(epochs=20), lr=1e-2)
    return model, task


def test_hessian_sensitivity_is_its_formula(trained):
    model, task = trained
    spec = QuantSpec(granularity="tensor")
    curvature = hessian_trace(model, None, task, n_probes=100).mean
    found = sensitivity(model, task, bits=(8, 2), spec=spec, n_probes=100)
    assert found.bits == (2, 8)
    for j, b in enumerate(found.bits):
        model_q = prepare(model, QuantRecipe(replace(spec, bits=b)))
        for name, row in zip(found.layers, found.omega, strict=True):
            q = model_q.get_submodule(name)
            error = (q.quantized_weight() - q.layer.weight).square().sum()
            assert row[j] == pytest.approx(curvature[name] * error.item(), rel=1e-3)


def test_measured_sensitivity_is_the_change_of_the_loss(trained):
    model, task = trained
    found = sensitivity(model, task, bits=(3,), method="loss")
    for i, name in enumerate(found.layers):
        others = tuple(f"^{n}$" for n in found.layers if n != name)
        model_q = prepare(model, QuantRecipe(QuantSpec(3), skip=others)).eval()
        with torch.no_grad():
            change = default_loss(model_q(task.X), task.y) - default_loss(model(task.X), task.y)
        assert found.omega[i][0] == pytest.approx(float(change), abs=1e-6)


def test_divergences_are_positive_fall_with_bits_and_need_no_labels(trained):
    model, task = trained
    found = sensitivity(model, task.X, method="kl")
    omega = np.array(found.omega)
    assert (omega > 0).all()
    assert (np.diff(omega, axis=1) < 0).all()
    assert np.allclose(sensitivity(model, (task.X, task.y), method="kl").omega, omega, rtol=1e-4)


def test_second_order_sensitivity_ranks_like_the_measured_loss(trained):
    model, task = trained
    half = [w / 2 for row in sensitivity(model, task, bits=(5, 6), n_probes=100).omega for w in row]
    loss = [w for row in sensitivity(model, task, bits=(5, 6), method="loss").omega for w in row]
    assert np.corrcoef(np.argsort(np.argsort(half)), np.argsort(np.argsort(np.abs(loss))))[0, 1] > 0


def test_a_recipe_from_an_assignment_names_layers_exactly():
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)))
    assignment = BitAssignment({"0": 2, "1.0": 8, "1.1": 4}, 0.0, 4.0, 4.0)
    layers = quant_layers(prepare(model, assignment.recipe(QuantRecipe())))
    assert {name: layer.weight_spec.bits for name, layer in layers.items()} == assignment.bits


def test_results_print_and_travel():
    found = random_table(0)
    assert Sensitivity.from_json(found.to_json()) == found
    assert "layer3" in str(found)
    answer = assign_bits(found, 4)
    assert BitAssignment.from_json(answer.to_json()) == answer
    assert "of 4, sensitivity" in str(answer)


def test_a_shared_weight_counts_once():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    net[2].weight = net[0].weight
    found = sensitivity(net, torch.randn(9, 4), bits=(2,), method="kl")
    assert found.layers == ("0",)


def small_problem():
    rng = np.random.default_rng(0)
    return build_seeded(lambda: mlp([6, 8, 3]), 0), rng.normal(size=(30, 6)), rng.integers(0, 3, 30)


@pytest.mark.parametrize("method", ["hessian", "loss", "kl"])
def test_arrays_are_data_too(method):
    model, X, y = small_problem()
    tensors = torch.tensor(X, dtype=torch.float32), torch.tensor(y)
    found, same = (sensitivity(model, data, method=method, n_probes=3) for data in ((X, y), tensors))
    assert found.omega == same.omega
    assert method != "kl" or sensitivity(model, X, method="kl").omega == found.omega


@pytest.mark.parametrize("method", ["hessian", "loss"])
def test_what_is_no_loss_is_refused(method):
    model, X, y = small_problem()
    for loss, message in (
        (lambda output, target: None, "got None"),
        (nn.CrossEntropyLoss(reduction="none"), r"one number.*\(30,\)"),
        (lambda output, target: output.sum() * torch.nan, "not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            sensitivity(model, (X, y), method=method, loss=loss)
    for rows in (0, 5):
        with pytest.raises(ValueError, match="a target for each input"):
            sensitivity(model, (X[:rows], y[: rows // 2]), method=method)


def test_costs_without_a_number_are_refused():
    found = random_table(0)
    costs = {name: dict.fromkeys(found.bits, float("nan")) for name in found.layers}
    with pytest.raises(ValueError, match="finite"):
        assign_bits(found, 4, costs=costs)
    with pytest.raises(ValueError, match="time_limit"):
        assign_bits(found, 8, time_limit=0)
