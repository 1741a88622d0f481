"""Many runs as one: each must be the run it would have been alone."""

import math
import time

import pytest
import torch
from torch import nn

from lodim.nets import flat_spec, lenet, linear, mlp
from lodim.randomness import build_seeded
from lodim.sketch import make_projection
from lodim.training import Recipe, Replica, Task, fit, fit_replicas
from lodim.training.replicas import replicas_at_once
from lodim.validation import ConvergenceWarning

pytestmark = pytest.mark.trains


class Produced(nn.Module):
    """theta0 + P v by the plainest means, as the oracle."""

    def __init__(self, model, P, d):
        super().__init__()
        self.spec, self.model, self.P = flat_spec(model), model, P
        self.theta0 = self.spec.flatten(model)
        model.requires_grad_(False)
        self.v = nn.Parameter(torch.zeros(d, dtype=self.theta0.dtype))

    def forward(self, x):
        return self.spec.call(self.model, self.theta0 + self.P(self.v), (x,))

    def l2_penalty(self, on):
        return (self.v if on == "v" else self.theta0 + self.P(self.v)).square().sum()


def make_model():
    return mlp([5, 9, 3]).double()


def sweep(kinds=("cyclic",), dims=(4, 11, 4), factory=make_model):
    """Replicas of different dimensions, rates and seeds, and the same runs as modules of their own."""
    replicas, modules = [], []
    for kind in kinds:
        for seed, d in enumerate(dims):
            model = build_seeded(factory, seed)
            spec = flat_spec(model)
            theta0 = spec.flatten(model)
            P = make_projection(kind, spec.numel, d, seed=seed, dtype=theta0.dtype)
            replicas.append(Replica(theta0, P, torch.zeros(d, dtype=theta0.dtype), 0.02 * (seed + 1), seed))
            modules.append(Produced(model, P, d))
    return spec, replicas, modules


def direct(seed, lr, factory=make_model):
    model = build_seeded(factory, seed)
    spec = flat_spec(model)
    theta0 = spec.flatten(model)
    return model, Replica(theta0, None, torch.zeros_like(theta0), lr, seed)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(epochs=2, batch_size=32),
        Recipe(epochs=2, batch_size=32, optimizer="sgd", schedule="cosine", weight_decay=0.01, grad_clip=0.3),
        Recipe(epochs=2, batch_size=90, schedule="constant", weight_decay=0.1, penalty="v", grad_clip=0.2),
        Recipe(epochs=6, batch_size=32, patience=2),
    ],
)
def test_every_replica_equals_its_own_fit(blobs64, recipe):
    spec, replicas, modules = sweep(("cyclic", "fastfood"), dims=(4, 11, 4))
    model, baseline = direct(7, 0.01)
    together = fit_replicas(make_model(), spec, [*replicas, baseline], blobs64, recipe, record_scores=True)
    for (result, v), module, replica in zip(together, modules, replicas, strict=False):
        alone = fit(module, blobs64, recipe, lr=replica.lr, random_state=replica.seed, record_scores=True)
        torch.testing.assert_close(v, module.v.detach(), rtol=1e-9, atol=1e-11)
        assert (result.score, result.train_score) == (alone.score, alone.train_score)
        assert (result.steps, result.stopped, result.lr) == (alone.steps, alone.stopped, alone.lr)
        assert result.loss == pytest.approx(alone.loss, rel=1e-9)
        assert [r.score for r in result.history] == [r.score for r in alone.history]
    alone = fit(model, blobs64, recipe, lr=0.01, random_state=7)
    torch.testing.assert_close(baseline.theta0 + together[-1][1], spec.flatten(model), rtol=1e-9, atol=1e-11)
    assert together[-1][0].score == alone.score


def test_chunks_and_order_do_not_matter(blobs64):
    spec, replicas, _ = sweep(dims=(11, 4, 20, 4, 11))
    recipe = Recipe(epochs=2, batch_size=32)
    whole = fit_replicas(make_model(), spec, replicas, blobs64, recipe)
    for size in (1, 2, 3):
        parts = fit_replicas(make_model(), spec, replicas[::-1], blobs64, recipe, chunk_size=size)[::-1]
        for (a, v), (b, w) in zip(whole, parts, strict=True):
            torch.testing.assert_close(v, w, rtol=1e-9, atol=1e-11)
            assert a.score == b.score


def test_a_regression_of_replicas(curve):
    def factory():
        return mlp([2, 6, 1]).double()

    spec, replicas, modules = sweep(dims=(3, 8), factory=factory)
    recipe = Recipe(epochs=4, batch_size=20)
    for (result, v), module, replica in zip(
        fit_replicas(factory(), spec, replicas, curve, recipe), modules, replicas
    ):
        alone = fit(module, curve, recipe, lr=replica.lr, random_state=replica.seed)
        torch.testing.assert_close(v, module.v.detach(), rtol=1e-9, atol=1e-11)
        assert result.score == pytest.approx(alone.score, rel=1e-9)


def test_convolutions_of_replicas():
    X = torch.randn(40, 1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = (X.mean((1, 2, 3)) > 0).long()
    task = Task(X[:30], y[:30], X[30:], y[30:], "classification", 2)

    def factory():
        return lenet((1, 16, 16), 2).double()

    spec, replicas, modules = sweep(dims=(10, 25), factory=factory)
    recipe = Recipe(epochs=2, batch_size=16)
    together = fit_replicas(factory(), spec, replicas, task, recipe, chunk_size=2)
    for (result, v), module, replica in zip(together, modules, replicas, strict=True):
        alone = fit(module, task, recipe, lr=replica.lr, random_state=replica.seed)
        torch.testing.assert_close(v, module.v.detach(), rtol=1e-8, atol=1e-10)
        assert result.score == alone.score


def test_early_stops_leave_the_others_undisturbed(blobs64):
    spec, replicas, modules = sweep(dims=(30, 2, 20, 1))
    recipe, finished = Recipe(epochs=12, batch_size=32), []
    whole = [
        result
        for result, _ in fit_replicas(make_model(), spec, replicas, blobs64, recipe, record_scores=True)
    ]
    best = [max(record.score for record in result.history) for result in whole]
    reach = (min(best) + max(best)) / 2  # some get there and some do not, by several rows
    assert max(best) - min(best) > 4 / len(blobs64.y_val)
    together = fit_replicas(
        make_model(),
        spec,
        replicas,
        blobs64,
        recipe,
        early_stop_score=reach,
        on_done=lambda *a: finished.append(a[0]),
    )
    reasons = [result.stopped for result, _ in together]
    assert {"early_stop", "budget"} == set(reasons)
    assert sorted(finished) == [0, 1, 2, 3]
    for (result, v), module, replica in zip(together, modules, replicas, strict=True):
        alone = fit(module, blobs64, recipe, lr=replica.lr, random_state=replica.seed, early_stop_score=reach)
        assert (result.stopped, result.steps, result.score) == (alone.stopped, alone.steps, alone.score)
        torch.testing.assert_close(v, module.v.detach(), rtol=1e-8, atol=1e-10)


def test_one_replica_may_diverge_alone(curve):
    def factory():
        return linear(2, 1).double()

    spec = flat_spec(factory())
    _, wild = direct(0, 1e6, factory)
    _, tame = direct(1, 0.01, factory)
    recipe = Recipe(epochs=100, optimizer="sgd", schedule="constant")
    with pytest.warns(ConvergenceWarning, match="replica 0 diverged"):
        (first, _), (second, v) = fit_replicas(factory(), spec, [wild, tame], curve, recipe)
    assert first.stopped == "diverged"
    assert math.isnan(first.score)
    assert second.stopped == "budget"
    alone, module = direct(1, 0.01, factory)[1], direct(1, 0.01, factory)[0]
    fit(module, curve, recipe, lr=0.01, random_state=1)
    torch.testing.assert_close(alone.theta0 + v, spec.flatten(module), rtol=1e-9, atol=1e-11)


def test_a_deadline_returns_what_there_is(blobs64):
    spec, replicas, _ = sweep()
    results = fit_replicas(
        make_model(), spec, replicas, blobs64, Recipe(epochs=3), deadline=time.monotonic() - 1, chunk_size=2
    )
    assert [r.stopped for r, _ in results] == ["deadline"] * 3
    assert [float(v.abs().sum()) for _, v in results] == [0.0] * 3
    assert all(0 <= r.score <= 1 for r, _ in results)


def test_v_need_not_start_at_zero_and_nothing_given_is_changed(blobs64):
    spec, (replica, *_), (module, *_) = sweep()
    start = torch.linspace(-1, 1, 4, dtype=torch.float64)
    moved = Replica(replica.theta0, replica.map, start.clone(), replica.lr, replica.seed)
    base = make_model()
    before = spec.flatten(base)
    ((_, v),) = fit_replicas(base, spec, [moved], blobs64, Recipe(epochs=2, batch_size=32))
    with torch.no_grad():
        module.v.copy_(start)
    fit(module, blobs64, Recipe(epochs=2, batch_size=32), lr=replica.lr, random_state=replica.seed)
    torch.testing.assert_close(v, module.v.detach(), rtol=1e-9, atol=1e-11)
    assert torch.equal(moved.v0, start)
    assert torch.equal(spec.flatten(base), before)


def test_what_the_on_done_keeps_survives_an_interrupt(blobs64):
    spec, replicas, _ = sweep()
    kept = []

    def interrupt(done, text):
        if kept:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_replicas(
            make_model(), spec, replicas, blobs64, Recipe(epochs=1), chunk_size=1, progress=interrupt,
            on_done=lambda *a: kept.append(a),
        )  # fmt: skip
    assert len(kept) == 1


def test_progress_rises_to_one_over_all_chunks(blobs64):
    spec, replicas, _ = sweep()
    seen = []
    fit_replicas(
        make_model(),
        spec,
        replicas,
        blobs64,
        Recipe(epochs=2),
        chunk_size=2,
        progress=lambda done, _: seen.append(done),
    )
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1.0)


def test_modules_that_cannot_be_batched_are_refused_with_the_reason(blobs64):
    model = nn.Sequential(nn.BatchNorm1d(5), make_model())
    spec = flat_spec(model)
    with pytest.raises(ValueError, match="running statistics"):
        fit_replicas(model, spec, [], blobs64)


def test_wrong_shapes_are_refused(blobs64):
    spec, (replica, *_), _ = sweep()
    with pytest.raises(ValueError, match="theta0"):
        fit_replicas(make_model(), spec, [Replica(torch.zeros(3), None, torch.zeros(3), 0.1, 0)], blobs64)
    with pytest.raises(ValueError, match="since there is no map"):
        fit_replicas(make_model(), spec, [Replica(replica.theta0, None, torch.zeros(3), 0.1, 0)], blobs64)
    with pytest.raises(ValueError, match="positive and finite"):
        fit_replicas(
            make_model(), spec, [Replica(replica.theta0, replica.map, replica.v0, math.nan, 0)], blobs64
        )
    assert fit_replicas(make_model(), spec, [], blobs64) == []


def test_chunks_are_small_for_large_or_convolutional_networks_on_a_cpu():
    cpu = torch.device("cpu")
    assert replicas_at_once(mlp([64, 64, 10]), 9_000, cpu) == 64
    assert 2 <= replicas_at_once(mlp([64, 10]), 199_210, cpu) <= 12
    assert replicas_at_once(lenet(), 44_426, cpu) == 1
    assert replicas_at_once(lenet(), 44_426, torch.device("cuda")) > 24
