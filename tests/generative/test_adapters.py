"""Networks of diffusers as denoisers: by a stand-in always, by the library itself where it is installed."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lodim.generative import (
    ClassifierFree,
    DiscreteVP,
    GaussianDenoiser,
    ancestral,
    ddim,
    from_diffusers,
    heun,
)
from lodim.randomness import build_seeded, torch_generator

EXACT = GaussianDenoiser(torch.ones(1, 2, 2), torch.diag(torch.tensor([2.0, 1.0, 0.1, 0.0])))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed), dtype=torch.float64)


class Stub(nn.Module):
    """What a perfectly trained network of N(m, C) says, in the coordinates of diffusers."""

    def __init__(self, schedule, kind="epsilon", channels=1):
        super().__init__()
        self.schedule, self.kind, self.channels, self.seen = schedule, kind, channels, []

    def forward(self, sample, timestep, class_labels=None, encoder_hidden_states=None):
        self.seen.append((timestep, class_labels, encoder_hidden_states))
        t = timestep.double().reshape(-1).expand(len(sample))
        alpha, sigma = (v.reshape(-1, 1, 1, 1) for v in (self.schedule.alpha(t), self.schedule.sigma(t)))
        x0 = EXACT(sample.double() / alpha, sigma / alpha)
        n = (sample - alpha * x0) / sigma
        out = {"epsilon": n, "sample": x0, "v_prediction": alpha * n - sigma * x0}[self.kind]
        return SimpleNamespace(sample=torch.cat([out.to(sample.dtype)] * self.channels, 1))


def scheduler(schedule, kind="epsilon"):
    return SimpleNamespace(betas=schedule.betas.float(), config=SimpleNamespace(prediction_type=kind))


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("channels", [1, 2])
def test_each_prediction_gives_the_same_denoiser(kind, channels):
    schedule = DiscreteVP(200)
    denoiser = from_diffusers(Stub(schedule, kind, channels), scheduler(schedule, kind))
    sigma = schedule.sigma_tilde(torch.tensor([3.0, 50.0, 120.5, 199.0]))
    x = normal(4, 1, 2, 2) * (1 + sigma.reshape(-1, 1, 1, 1))
    torch.testing.assert_close(denoiser(x, sigma), EXACT(x, sigma), rtol=1e-3, atol=1e-3)  # steps are float32
    torch.testing.assert_close(
        denoiser.net.unet.seen[0][0].double(), torch.tensor([3.0, 50.0, 120.5, 199.0]).double()
    )


def test_schedules_are_taken_from_betas_or_their_products():
    schedule = DiscreteVP(50)
    bars = SimpleNamespace(alphas_cumprod=(1 - schedule.betas).cumprod(0), config=SimpleNamespace())
    found = from_diffusers(Stub(schedule), bars).schedule
    torch.testing.assert_close(found.betas, schedule.betas)
    assert from_diffusers(Stub(schedule)).schedule.sigma_max == DiscreteVP().sigma_max


def test_conditions_are_handed_on():
    schedule, context = DiscreteVP(50), normal(3, 4, 5)
    stub = Stub(schedule)
    denoiser = from_diffusers(stub, scheduler(schedule), null_label=7, null_context=torch.ones(4, 5))
    x = normal(3, 1, 2, 2).float()
    denoiser(x, 1.0, {"label": torch.tensor([0, -1, 2]), "context": context})
    _, label, seen = stub.seen[-1]
    assert label.tolist() == [0, 7, 2]
    torch.testing.assert_close(seen.double(), context)
    ClassifierFree(3)(denoiser, x, 1.0, {"context": context})
    assert [bool((asked[2] == 1).all()) for asked in stub.seen[-2:]] == [True, False]
    with pytest.raises(ValueError, match="cond's part"):
        denoiser(x, 1.0, {"vector": torch.ones(3, 1)})


class Text(nn.Module):
    def forward(self, sample, timestep, encoder_hidden_states, class_labels=None):
        return (0 * sample,)


def test_what_a_network_needs_is_asked_for():
    x = torch.zeros(2, 1, 2, 2)
    with pytest.raises(ValueError, match="needs a context"):
        from_diffusers(Text())(x, 1.0)
    assert not from_diffusers(Text(), null_context=torch.zeros(1, 3))(x, 1e-3).any()
    with pytest.raises(ValueError, match="give null_label"):
        from_diffusers(Stub(DiscreteVP()))(x, 1.0, {"label": torch.tensor([-1, 0])})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sigmas": torch.ones(3)}, "neither betas nor alphas_cumprod"),
        (
            {"betas": torch.ones(3) / 2, "config": SimpleNamespace(prediction_type="flow_prediction")},
            "prediction_type",
        ),
        (
            {"betas": torch.tensor([0.5, 1.0]), "config": SimpleNamespace()},
            "between 0 and 1",
        ),  # no signal at the end
    ],
)
def test_other_schedulers_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        from_diffusers(Stub(DiscreteVP()), SimpleNamespace(**options))


# ------------------------------------------------------------------------------------------------ the library itself


def stepped(scheduler, unet, x, generator=None):
    """What diffusers' own loop makes of noise."""
    for t in scheduler.timesteps:
        there = scheduler.scale_model_input(x, t)
        out = unet(there, torch.as_tensor(t)).sample
        options = {} if generator is None else {"generator": generator}
        x = scheduler.step(out, t, x, **options).prev_sample
    return x


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_ddim_of_the_library(kind, eta):
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDIMScheduler(
        1000, clip_sample=False, timestep_spacing="trailing", prediction_type=kind
    )
    theirs.set_timesteps(20)
    ours = from_diffusers(Stub(DiscreteVP(), kind), theirs)
    start = normal(4, 1, 2, 2)
    if eta:  # its loop draws the same noise, in this precision
        expected, generator = start, torch_generator(1)
        for t in theirs.timesteps:
            out = ours.net.unet(expected, t).sample
            expected = theirs.step(out, t, expected, eta=eta, generator=generator).prev_sample
    else:
        expected = stepped(theirs, ours.net.unet, start)
    t = theirs.timesteps.double()
    sigmas = torch.cat([ours.schedule.sigma_tilde(t), torch.zeros(1)])
    x = start / ours.schedule.alpha(t[0])
    got = ddim(ours, x, sigmas, eta=eta, generator=torch_generator(1))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm_of_the_library(variance):
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDPMScheduler(100, clip_sample=False, variance_type=f"fixed_{variance}")
    theirs.set_timesteps(100)
    ours = from_diffusers(Stub(DiscreteVP(100)), theirs)
    start = normal(4, 1, 2, 2)
    expected = stepped(theirs, ours.net.unet, start, torch_generator(1))
    x = start / ours.schedule.alpha(torch.tensor(99.0))
    got = ancestral(ours, x, ours.schedule.sigmas(100), variance=variance, generator=torch_generator(1))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_heun_of_the_library():
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.HeunDiscreteScheduler(1000, beta_schedule="linear", beta_start=1e-4, beta_end=0.02)
    theirs.set_timesteps(20)
    ours = from_diffusers(Stub(DiscreteVP()), theirs)
    sigmas = torch.cat([theirs.sigmas[:1], theirs.sigmas[1::2]]).double()
    x = normal(4, 1, 2, 2) * sigmas[0]
    expected = stepped(theirs, ours.net.unet, x)
    torch.testing.assert_close(heun(ours, x, sigmas), expected, rtol=1e-4, atol=1e-4)


def test_networks_of_the_library():
    diffusers = pytest.importorskip("diffusers")
    common = {
        "sample_size": 8, "in_channels": 1, "out_channels": 1, "layers_per_block": 1, "block_out_channels": (8,),
        "norm_num_groups": 4,
    }  # fmt: skip
    plain = build_seeded(
        lambda: diffusers.UNet2DModel(
            down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), num_class_embeds=4, **common
        ),
        0,
    )
    text = build_seeded(
        lambda: diffusers.UNet2DConditionModel(
            down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",), cross_attention_dim=6,
            attention_head_dim=2, **common,
        ),
        0,
    )  # fmt: skip
    x, schedule = normal(2, 1, 8, 8).float(), DiscreteVP()
    for net, cond, given in (
        (plain, {"label": torch.tensor([0, 3])}, {"class_labels": torch.tensor([0, 3])}),
        (text, {"context": torch.ones(2, 3, 6)}, {"encoder_hidden_states": torch.ones(2, 3, 6)}),
    ):
        denoiser = from_diffusers(net.eval(), diffusers.DDPMScheduler(1000))
        sigma = schedule.sigma_tilde(torch.tensor(400.0))
        with torch.no_grad():
            n = net(schedule.alpha(torch.tensor(400.0)).float() * x, 400, **given).sample
            torch.testing.assert_close(denoiser.eps(x, float(sigma), cond), n, rtol=1e-3, atol=1e-4)
        out = heun(denoiser, 100 * x, schedule.sigmas(3), cond=cond)
        assert out.shape == x.shape
        assert bool(out.isfinite().all())
    with pytest.raises(ValueError, match="needs a context"):
        denoiser(x, 1.0)


def test_a_scheduler_s_settings_may_be_a_mapping_or_none():
    betas = torch.linspace(1e-4, 0.02, 50)
    told = SimpleNamespace(betas=betas, config={"prediction_type": "v_prediction"})
    assert from_diffusers(nn.Identity(), told).precond == "v"
    assert from_diffusers(nn.Identity(), SimpleNamespace(betas=betas)).precond == "eps"


def test_a_last_step_of_pure_noise_is_left_out():
    betas = torch.linspace(1e-4, 0.02, 50, dtype=torch.float64)
    plain = from_diffusers(nn.Identity(), SimpleNamespace(betas=betas[:-1])).schedule.sigmas(7)
    betas[-1] = 1
    for given in ({"betas": betas}, {"alphas_cumprod": (1 - betas).cumprod(0)}):
        found = from_diffusers(nn.Identity(), SimpleNamespace(**given)).schedule.sigmas(7)
        torch.testing.assert_close(found, plain, rtol=1e-10, atol=0)


def test_a_network_s_answer_may_be_a_mapping_and_must_be_a_tensor():
    class Answers(nn.Module):
        def __init__(self, out):
            super().__init__()
            self.out = out

        def forward(self, sample, timestep):
            return self.out(sample)

    x = normal(2, 1, 4, 4)
    as_mapping, plain = (
        from_diffusers(Answers(out))(x, 1.0) for out in (lambda x: {"sample": x}, lambda x: x)
    )
    torch.testing.assert_close(as_mapping, plain)
    for out in (lambda x: None, lambda x: {"pixels": x}):
        with pytest.raises(TypeError, match=r"tensor as \.sample"):
            from_diffusers(Answers(out))(x, 1.0)
