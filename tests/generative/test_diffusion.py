"""The model in one object: what it takes and gives, units, conditions, resumed and shared training, known answers."""

import math
import os
import pickle
import signal
import socket
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lodim.generative import (
    EDM,
    VP,
    ClassifierFree,
    Diffusion,
    GaussianDenoiser,
    edm_loss,
    flow_matching_loss,
    heun,
    vp_loss,
)
from lodim.generative.samplers import ancestral, exponential_integrator
from lodim.nets import SmallUNet, TimeMLP
from lodim.randomness import build_seeded, torch_generator
from lodim.training import DescentRecipe


def cloud(n=64, d=2, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)) * np.arange(1, d + 1) + 3


def small(**options):
    d = options.get("shape", 2)
    net = build_seeded(
        lambda: TimeMLP(d, 16, 1, n_classes=options.get("n_classes", 0), cond_dim=options.get("cond_dim", 0)),
        0,
    )
    return Diffusion(net, **({"shape": d} | options))


def awake(model):
    """With a network whose last layer is not zero."""
    nn.init.normal_(model.denoiser.net.last.weight, std=0.1, generator=torch_generator(5))
    return model


def exact(mean, C):
    """A model that has learnt N(mean, C) perfectly."""
    model = Diffusion(nn.Identity(), len(C), sigma_data=1.0)
    denoiser = GaussianDenoiser(mean, C)
    denoiser.register_buffer("center", torch.zeros(len(C)))
    denoiser.register_buffer("scale", torch.ones(()))
    model.denoiser = denoiser
    return model


# ------------------------------------------------------------------------------------------------ in and out


def test_arrays_give_arrays_and_tensors_tensors():
    X = cloud()
    arrays = small().fit(X, steps=3)
    tensors = small().fit(torch.from_numpy(X), steps=3)
    one, other = (model.sample(5, generator=1) for model in (arrays, tensors))
    assert isinstance(one, np.ndarray)
    assert isinstance(other, torch.Tensor)
    assert (one.shape, one.dtype, other.dtype) == ((5, 2), np.float32, torch.float32)
    np.testing.assert_array_equal(one, other)
    x0 = arrays.denoise(X[:3], 0.5)
    np.testing.assert_allclose(arrays.score(X[:3], 0.5), (x0 - X[:3]) / 0.25, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(tensors.denoise(torch.from_numpy(X[:3]).float(), 0.5).detach(), x0, rtol=1e-6)
    np.testing.assert_allclose(arrays.denoise(X[:3], np.full(3, 0.5)), x0, rtol=1e-6)


@pytest.mark.parametrize("kind", ["float16", "uint8", "frame", "read-only", "list", "backwards", "masked"])
def test_the_same_numbers_are_the_same_data(kind):
    X = np.random.default_rng(0).integers(0, 200, (40, 2)).astype(float)
    fixed = X.copy()
    fixed.setflags(write=False)
    given = {
        "float16": X.astype(np.float16),
        "uint8": X.astype(np.uint8),
        "frame": pd.DataFrame(X, columns=["a", "b"]),
        "read-only": fixed,
        "list": X.tolist(),
        "backwards": X[::-1].copy()[::-1],
        "masked": np.ma.masked_array(X),
    }[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = small().fit(given, steps=2).sample(3, generator=0)
    np.testing.assert_array_equal(found, small().fit(X, steps=2).sample(3, generator=0))


def test_double_precision_stays_so():
    X = cloud()
    wide = awake(small()).double().fit(X, steps=2)
    out = wide.sample(4, generator=0)
    assert out.dtype == np.float64
    np.testing.assert_allclose(float(wide.denoiser.center[0]), X[:, 0].mean(), rtol=1e-12)
    narrow = awake(small()).fit(X, steps=2)
    assert np.isfinite(out).all()
    np.testing.assert_allclose(float(narrow.denoiser.scale), float(wide.denoiser.scale), rtol=1e-6)


def test_sampling_alters_no_mode_and_no_generator():
    model = awake(small()).train()
    state = torch.get_rng_state()
    one, again = model.sample(4, generator=torch_generator(3)), model.sample(4, generator=3)
    assert torch.equal(one, again)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert model.sample(0).shape == (0, 2)
    assert small().fit(cloud(), steps=1).sample(0).shape == (0, 2)
    batches = model.sample(6, sampler="heun", start=torch.ones(6, 2), batch_size=4)
    torch.testing.assert_close(batches, model.sample(6, start=torch.ones(6, 2)))


@pytest.mark.parametrize("schedule", ["edm", "vp", "ve", "ddpm", "flow"])
def test_the_unit_of_the_data_does_not_matter(schedule):
    """Four times the data: four times the samples."""
    X = np.round(cloud() * 64) / 64
    plain, large = (awake(small(schedule=schedule)).fit(factor * X, steps=3) for factor in (1, 4))
    assert float(large.denoiser.scale) == pytest.approx(8 * X.var(0).mean() ** 0.5)
    for sampler in ("heun", "exponential_integrator"):
        one, other = (m.sample(5, sampler=sampler, steps=6, generator=0) for m in (plain, large))
        np.testing.assert_allclose(other, 4 * one, rtol=1e-5, atol=1e-5)


def test_losses_are_the_schedules():
    x = torch.from_numpy(cloud(8)).float()
    losses = {"edm": edm_loss, "vp": vp_loss, "ve": vp_loss, "ddpm": vp_loss, "flow": flow_matching_loss}
    for schedule, loss in losses.items():
        model = awake(small(schedule=schedule))
        expected = loss(model.denoiser, x, schedule=model.schedule, generator=torch_generator(1))
        assert torch.equal(model.loss(x, generator=torch_generator(1)), expected)
        assert model.loss(x, generator=torch_generator(1), reduction="none").shape == (8,)


def test_defaults_fit_the_shape():
    assert isinstance(Diffusion(shape=3).denoiser.net, TimeMLP)
    assert isinstance(Diffusion(shape=(3, 8, 8)).denoiser.net, SmallUNet)
    assert Diffusion(shape=(3, 8, 8), random_state=0).sample(2, steps=2, generator=0).shape == (2, 3, 8, 8)
    assert [Diffusion(schedule=s).denoiser.precond for s in ("edm", "vp", "ve", "ddpm", "flow")] == [
        "edm",
        "eps",
        "ve",
        "eps",
        "flow",
    ]
    one, again = (Diffusion(random_state=4).state_dict() for _ in range(2))
    torch.testing.assert_close(one, again, rtol=0, atol=0)


def test_samples_are_clipped_to_a_declared_range():
    X = np.random.default_rng(0).uniform(size=(30, 2))
    out = small(data_range=(0, 1)).fit(X, steps=1).sample(50, steps=2, generator=0)
    assert 0 <= out.min() <= out.max() <= 1


def test_its_state_and_pickle_travel():
    model = small().fit(cloud(), steps=2)
    fresh = small()
    fresh.load_state_dict(model.state_dict())
    expected = model.sample(3, generator=0)
    np.testing.assert_array_equal(fresh.sample(3, generator=0), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).sample(3, generator=0), expected)


# ------------------------------------------------------------------------------------------------ conditions


def test_classes_and_numbers_reach_the_network():
    seen = []

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(1, 1)

        def forward(self, x, c_noise, cond=None):
            seen.append(cond)
            return self.last(x[..., :1]).expand(x.shape)

    X, y = cloud(30), np.arange(30) % 3
    model = Diffusion(Net(), 2, n_classes=3, p_uncond=0.0).fit(X, y, steps=2, batch_size=30)
    assert sorted(seen[-1]["label"].tolist()) == sorted(y.tolist())
    model.sample(4, cond=2)
    assert seen[-1]["label"].tolist() == [2] * 4
    model.sample(3, cond=[0, -1, 2])
    assert seen[-1]["label"].tolist() == [0, -1, 2]
    model = Diffusion(Net(), 2, cond_dim=2, p_uncond=1.0).fit(X, cloud(30, seed=1), steps=1)
    assert bool(seen[-1]["vector"].isnan().all())
    model.sample(3, cond=[0.5, 1.0])
    assert seen[-1]["vector"].tolist() == [[0.5, 1.0]] * 3
    Diffusion(Net(), 2, cond_dim=1).sample(2, cond=0.25)
    assert seen[-1]["vector"].tolist() == [[0.25]] * 2


def test_conditions_are_left_out_as_often_as_said():
    seen = []
    model = small(n_classes=3, p_uncond=0.3)
    model.denoiser.net.register_forward_pre_hook(lambda net, args: seen.append(args[2]["label"]))
    model.loss(torch.zeros(4000, 2), torch.ones(4000).long(), generator=torch_generator(0))
    share = float((seen[0] == -1).double().mean())
    assert abs(share - 0.3) < 5 * math.sqrt(0.3 * 0.7 / 4000)


def test_guidance_by_number_is_classifier_free():
    model = awake(small(n_classes=3))
    cond = torch.tensor([0, 1, 2, 1])
    found = model.sample(4, cond=cond, guidance=2.5, generator=0)
    assert torch.equal(found, model.sample(4, cond=cond, guidance=ClassifierFree(2.5), generator=0))
    plain = model.sample(4, cond=cond, generator=0)
    assert torch.equal(model.sample(4, cond=cond, guidance=1, generator=0), plain)
    assert not torch.equal(found, plain)
    assert torch.equal(
        model.sample(4, cond=cond, guidance=0, generator=0), model.sample(4, cond=-1, generator=0)
    )


# ------------------------------------------------------------------------------------------------ known answers


def test_a_model_is_its_sampler():
    C = torch.diag(torch.tensor([1.0, 0.3]))
    model = exact(torch.tensor([1.0, 2.0]), C)
    start = 80 * torch.randn(5, 2, generator=torch_generator(0))
    torch.testing.assert_close(model.sample(5, start=start), heun(model.denoiser, start, model.sigmas(18)))
    prior = model.prior(4000, 80.0, torch_generator(0))
    assert float(prior.std()) == pytest.approx(80, rel=5 / math.sqrt(2 * 8000))


def test_levels_of_ones_own():
    model = awake(small())
    levels = model.sigmas(9)
    whole = model.sample(5, sampler="euler", sigmas=levels, generator=0)
    np.testing.assert_array_equal(whole, model.sample(5, sampler="euler", steps=9, generator=0))
    half = model.sample(5, sampler="euler", sigmas=levels[:6].numpy(), generator=0)  # left with noise
    torch.testing.assert_close(model.sample(5, sampler="euler", sigmas=levels[5:], start=half), whole)
    bounded = awake(small(data_range=(0, 1)))
    noisy = bounded.sample(50, sigmas=(80.0, 20.0), generator=0)
    assert float(noisy.min()) < 0  # a range is the data's, not the noise's
    assert float(noisy.max()) > 1
    with pytest.raises(ValueError, match="fall"):
        model.sample(5, sigmas=[1.0, 2.0])


def test_a_loss_may_know_more_of_each_sample():
    class Weighed(Diffusion):
        def loss(self, x, cond=None, *, weight, **options):
            assert bool((weight == x[:, 0]).all())  # each sample keeps its own
            seen.append(len(weight))
            return (weight * super().loss(x, cond, reduction="none", **options)).mean()

    seen, X = [], torch.from_numpy(cloud()).float()
    model = Weighed(TimeMLP(2, 16, 1), 2)
    model.fit(X, steps=3, batch_size=10, each={"weight": X[:, 0]})
    assert seen == [10, 10, 10]
    with pytest.raises(ValueError, match=r"64 rows.*\(3,\)"):
        model.fit(X, steps=3, each={"weight": X[:3, 0]})


def test_unknown_entries_are_drawn_given_the_known_ones():
    """Of a correlated normal pair: the conditional mean and variance, within what inpainting promises.

    It replaces what is known by noisy copies: with 200 levels and two corrections each the means are within a tenth
    of the marginal deviation and the deviations within a tenth.
    """
    rho, n = 0.8, 1000
    model = exact(torch.zeros(2), torch.tensor([[1.0, rho], [rho, 1.0]]))
    X = np.full((n, 2), np.nan, np.float64)
    X[: n // 2, 0], X[n // 2 :, 1] = 1.5, -1.0  # either may be known
    out = model.inpaint(X, steps=200, generator=0)
    assert (out[~np.isnan(X)] == X[~np.isnan(X)]).all()
    sd = math.sqrt(1 - rho**2)
    for drawn, known in ((out[: n // 2, 1], 1.5), (out[n // 2 :, 0], -1.0)):
        assert abs(drawn.mean() - rho * known) < 0.1 + 5 * sd / math.sqrt(n / 2)
        assert abs(drawn.std() / sd - 1) < 0.1 + 5 / math.sqrt(n)
    one, other = (
        model.inpaint(given, mask, steps=3, generator=0)
        for given, mask in ((X, None), (np.nan_to_num(X), ~np.isnan(X)))
    )
    np.testing.assert_array_equal(one, other)


def test_inpainting_by_a_mask_of_one_sample():
    model = awake(small())
    X = torch.ones(3, 2, dtype=torch.float32)
    out = model.inpaint(X, torch.tensor([True, False]), steps=3, generator=0)
    assert torch.equal(out[:, 0], X[:, 0])
    assert not torch.equal(out[:, 1], X[:, 1])
    assert torch.equal(model.inpaint(X, torch.tensor([True, True]), steps=2, generator=0), X)


@pytest.mark.trains
def test_it_learns_a_normal_distribution():
    """Trained on N(m, diag), its denoiser is nearer to the exact one than that of isotropic data is."""
    X = np.random.default_rng(0).normal(size=(2000, 2)) * [2.0, 0.2] + [5.0, -1.0]
    net = build_seeded(lambda: TimeMLP(2, 64, 2), 0)
    model = Diffusion(net, 2).fit(X, steps=250, batch_size=128, lr=3e-3)
    truth = GaussianDenoiser.fit(torch.from_numpy(X))
    x = torch.from_numpy(X[:200] + np.random.default_rng(1).normal(size=(200, 2)))
    wrong = np.square(model.denoise(x.numpy(), 1.0) - truth(x, 1.0).numpy()).mean()
    isotropic = GaussianDenoiser(torch.from_numpy(X.mean(0)), X.var(0).mean() * torch.eye(2))
    assert wrong < 0.2 * float((isotropic(x, 1.0) - truth(x, 1.0)).square().mean())
    out = model.sample(1000, generator=0)
    assert np.abs(out.mean(0) - [5.0, -1.0]).max() < 0.5
    assert out.std(0)[0] > 4 * out.std(0)[1]


# ------------------------------------------------------------------------------------------------ training


def weights(model):
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.trains
def test_an_interrupted_run_ends_with_the_same_bits(tmp_path, request):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    X, recipe = cloud(), DescentRecipe(steps=24, batch_size=16, epoch_steps=4)
    whole = awake(small()).fit(X, recipe=recipe)
    assert whole.training_.stopped == "budget"
    for fresh in (False, True):
        model, path = awake(small()), tmp_path / f"{fresh}.pt"
        stop = lambda done, text: signal.raise_signal(signal.SIGINT) if done == 0.5 else None  # noqa: E731
        model.fit(X, recipe=recipe, checkpoint=path, progress=stop)
        assert model.training_.stopped == "interrupted"
        assert model.training_.steps == 12
        first = weights(model)
        if fresh:
            model = awake(small())
        model.fit(X, recipe=recipe, checkpoint=path)
        assert model.training_.steps == 24
        assert all(torch.equal(a, b) for a, b in zip(weights(model), weights(whole), strict=True))
        assert not all(torch.equal(a, b) for a, b in zip(weights(model), first, strict=True))
    with pytest.raises(ValueError, match=r"belongs to another run: .*data"):
        awake(small()).fit(X + 1e-3, recipe=recipe, checkpoint=path)


@pytest.mark.trains
def test_the_average_is_kept_and_the_seed_decides():
    X = cloud()
    one, again = (awake(small()).fit(X, steps=4, random_state=7) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(weights(one), weights(again), strict=True))
    other = awake(small()).fit(X, steps=4, random_state=8)
    assert not all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))
    slow = awake(small()).fit(X, steps=4, random_state=7, half_life=1e9)
    assert all(
        torch.equal(a, b) for a, b in zip(weights(one), weights(slow), strict=True)
    )  # shorter at the start


def shared(accelerator):
    """Each process draws noise of its own, so here a sample's noise follows from the sample, at one level."""
    model = awake(
        small(shape=3, schedule=EDM(P_std=0.0), kernel=lambda x, levels, _: levels * (99 * x).sin())
    )
    model.fit(cloud(45, 3), recipe=DescentRecipe(steps=12, batch_size=16, lr=0.01), accelerator=accelerator)
    return {"weights": weights(model), "losses": torch.tensor(model.training_.losses)}


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path):
    pytest.importorskip("accelerate", reason="needs the extra accelerate")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {
        "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(tmp_path)],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    assert [p.wait(timeout=240) for p in processes] == [0, 0]
    found = [torch.load(tmp_path / f"result{rank}.pt") for rank in range(2)]
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    torch.testing.assert_close(found[0], shared(None), rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------------------------------------ bad input

PLAIN, CLASSES, NUMBERS = {}, {"n_classes": 3}, {"cond_dim": 2}


@pytest.mark.parametrize(
    ("options", "X", "cond", "said"),
    [
        (PLAIN, np.zeros((5, 3)), None, r"shape \(n, 2\), got \(5, 3\)"),
        (PLAIN, np.zeros((5, 2, 1)), None, "reshape it"),
        (PLAIN, np.zeros((0, 2)), None, "0 sample"),
        (PLAIN, np.zeros((1, 2)), None, "1 sample"),
        (PLAIN, np.ones((40, 2)), None, "all samples of X are equal"),
        (
            PLAIN,
            np.where(np.arange(80).reshape(40, 2) == 7, np.nan, cloud(40)),
            None,
            "in 1 of 40 samples, .* sample 3",
        ),
        (PLAIN, cloud(40) * 1j, None, "real numbers"),
        (PLAIN, torch.zeros(40, 2, dtype=torch.complex64), None, "real numbers"),
        (PLAIN, np.ma.masked_less(cloud(40), 3), None, "masked"),
        ({"data_range": (0, 1)}, cloud(40), None, "outside data_range"),
        (PLAIN, cloud(40), np.zeros(40), "takes no condition"),
        (CLASSES, cloud(40), None, "give cond"),
        (CLASSES, cloud(40), np.zeros(39), "40 classes"),
        (CLASSES, cloud(40), np.full(40, 3), "from 0 to 2"),
        (CLASSES, cloud(40), np.full(40, -2), "from 0 to 2"),
        (CLASSES, cloud(40), np.full(40, 0.5), "whole numbers"),
        (CLASSES, cloud(40), {"label": torch.zeros(39)}, "40 rows"),
        (NUMBERS, cloud(40), np.zeros((40, 3)), r"shape \(40, 2\)"),
        (NUMBERS, cloud(40), np.zeros((39, 2)), r"shape \(40, 2\)"),
        (NUMBERS, cloud(40), [[1.0], [1.0, 2.0]], "cond must be an array, its entries of one length"),
    ],
)
def test_data_that_cannot_be_learnt_are_refused(options, X, cond, said):
    before = small(**options)
    with pytest.raises(ValueError, match=said):
        before.fit(X, cond, steps=1)


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda m: m.sample(-1), "n must be"),
        (lambda m: m.sample(2, steps=1), "number of steps"),
        (lambda m: m.sample(2, sampler="hen"), "Did you mean 'heun'"),
        (lambda m: m.sample(2, cond=1), "takes no condition"),
        (lambda m: m.sample(2, guidance=2), "needs a condition"),
        (lambda m: m.sample(2, start=np.zeros((3, 2))), r"shape \(2, 2\)"),
        (lambda m: m.sample(2, batch_size=0), "batch_size"),
        (lambda m: m.denoise(np.zeros((3, 3)), 1.0), r"shape \(n, \*\(2,\)\)"),
        (lambda m: m.denoise(np.zeros((3, 2)), 0.0), "sigma must be positive"),
        (lambda m: m.denoise(np.zeros((3, 2)), np.ones(2)), "one a sample"),
        (lambda m: m.loss(torch.zeros(0, 2)), "n at least 1"),
        (lambda m: m.loss(torch.zeros(3, 3)), "x must have shape"),
        (lambda m: m.inpaint(np.zeros((3, 3))), "X must have shape"),
        (lambda m: m.inpaint(np.zeros((3, 2)), np.ones((2, 2), bool)), "mask must be booleans"),
        (lambda m: m.inpaint(np.zeros((3, 2)), np.ones((3, 2))), "mask must be booleans"),
        (lambda m: m.inpaint(np.full((3, 2), np.nan), np.ones(2, bool)), "among its known entries"),
        (lambda m: small(n_classes=2, p_uncond=0).sample(2, cond=1, guidance=3), "p_uncond above 0"),
    ],
)
def test_what_cannot_be_sampled_is_refused(use, said):
    with pytest.raises(ValueError, match=said):
        use(small())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shape": ()}, "shape must be positive"),
        ({"shape": (0,)}, "shape must be positive"),
        ({"schedule": "edn"}, "Did you mean 'edm'"),
        ({"sigma_data": "half"}, "sigma_data"),
        ({"sigma_data": -1.0}, "sigma_data must be positive"),
        ({"p_uncond": 1.5}, "p_uncond"),
        ({"data_range": (1, 0)}, "data_range"),
        ({"n_classes": -1}, "n_classes"),
    ],
)
def test_models_that_cannot_be_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        Diffusion(**options)


def test_few_samples_are_warned_of():
    with pytest.warns(UserWarning, match="3 samples"):
        small().fit(cloud(3), steps=1)


def test_a_net_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="the net must return the shape"):
        Diffusion(Wider(), 2, schedule=VP()).fit(cloud(), steps=1)


class Wider(nn.Linear):
    def __init__(self):
        super().__init__(2, 3)

    def forward(self, x, c_noise):
        return super().forward(x)


if __name__ == "__main__":
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    torch.save(shared(accelerator), Path(sys.argv[1]) / f"result{accelerator.process_index}.pt")
    accelerator.wait_for_everyone()
    accelerator.end_training()  # a group left to the interpreter's end now and then aborts there


@pytest.mark.parametrize(
    ("shift", "change", "said"),
    [
        (1, {}, "cond"),
        (0, {"p_uncond": 0.5}, "p_uncond"),
        (0, {"kernel": lambda like, s, _: s + 0 * like}, "kernel"),
    ],
)
def test_a_checkpoint_of_other_conditions_or_noise_is_refused(tmp_path, shift, change, said):
    X, y = cloud(), np.arange(64) % 3
    small(n_classes=3).fit(X, y, steps=2, checkpoint=tmp_path / "run")
    with pytest.raises(ValueError, match=f"another run: {said}"):
        small(n_classes=3, **change).fit(X, (y + shift) % 3, steps=2, checkpoint=tmp_path / "run")


def test_answers_know_no_dropout_and_each_part_keeps_its_mode():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.norm, self.drop = nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.5)

        def forward(self, x, c_noise, cond=None):
            return self.drop(self.norm(self.one(x)))

    model = Diffusion(Net(), 2)
    model.denoiser.net.norm.eval()
    model.fit(cloud(), steps=2)
    model.sample(2, steps=2)
    assert model.training
    assert not model.denoiser.net.norm.training
    held = model.denoiser.net.norm.running_mean.clone()
    np.testing.assert_array_equal(model.denoise(cloud(), 1.0), model.denoise(cloud(), 1.0))
    assert torch.equal(held, model.denoiser.net.norm.running_mean)


def test_conditions_by_name_may_be_of_any_number_type():
    X, y = cloud(), np.arange(64) % 3
    model = small(n_classes=3, p_uncond=0.5)
    losses = [
        model.loss(torch.from_numpy(X).float(), {"label": y.astype(kind)}, generator=torch_generator(0))
        for kind in ("i8", "u1", "f8")
    ]
    assert losses[0] == losses[1] == losses[2]
    numbers = small(cond_dim=1, p_uncond=0.5)
    assert numbers.loss(torch.from_numpy(X).float(), {"vector": y[:, None]}).isfinite()
    for cond in (y + np.inf, {"vector": y[:, None] + np.inf}):
        with pytest.raises(ValueError, match="infinity"):
            numbers.fit(X, cond, steps=2)
    with pytest.raises(ValueError, match="from 0 to 2"):
        model.fit(X, {"label": y + 5}, steps=2)


def test_small_things_that_were_silent():
    class Own(EDM):
        pass

    assert small(schedule=Own()).denoiser.precond == "edm"
    with pytest.raises(ValueError, match="half_life"):
        small().fit(cloud(), steps=2, half_life=0)
    far = np.random.default_rng(0).normal(size=(40, 2)) + 1e8
    with pytest.raises(ValueError, match="float64"):
        small().fit(far, steps=2)
    assert abs(small().double().fit(far, steps=2).sample(5, steps=4) - 1e8).max() < 100
    model = small(n_classes=2).fit(cloud(), np.arange(64) % 2, steps=2)
    one, listed = (model.sample(3, steps=2, cond=1, guidance=g, generator=0) for g in (2.0, [2.0]))
    np.testing.assert_array_equal(one, listed)
    X = cloud(4)
    X[:, 1] = np.nan
    np.testing.assert_array_equal(model.inpaint(X, steps=2)[:, 0], X[:, 0])


def test_a_partial_of_a_sampler_knows_the_data_s_unit():
    model = awake(small(schedule="vp")).fit(30 * cloud(), steps=1)
    options = {"steps": 6, "generator": 0}
    for sampler, own in ((ancestral, {"variance": "large"}), (exponential_integrator, {})):
        named = model.sample(5, sampler=sampler.__name__, **own, **options)
        np.testing.assert_array_equal(model.sample(5, sampler=partial(sampler, **own), **options), named)
        other = model.sample(5, sampler=partial(sampler, unit=1.0, **own), **options)
        assert not np.allclose(other, named)  # one's own unit is kept


def test_samples_that_are_not_finite_are_warned_of_and_not_of_another_shape():
    model = small()
    with pytest.warns(UserWarning, match="2 of 3 samples have NaN or infinity"):
        model.sample(
            3, on_step=lambda state: state.x.masked_fill(torch.tensor([[True], [False], [True]]), math.nan)
        )
    with pytest.raises(ValueError, match="sampler must return the shape"):
        model.sample(3, sampler=lambda denoiser, x, sigmas, **options: x[:1])


def test_a_class_without_samples_is_warned_of():
    X, signs = cloud(), np.repeat([-1, 1], 32)
    with pytest.warns(UserWarning, match=r"no sample is of class \[0\]; .* -1 means not known"):
        small(n_classes=2).fit(X, signs, steps=1)
    with pytest.warns(UserWarning, match=r"no sample is of class \[0\]"):
        small(n_classes=4).fit(X, np.arange(64) % 3 + 1, steps=1)  # numbered from 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small(n_classes=2).fit(X, np.arange(64) % 2, steps=1)
