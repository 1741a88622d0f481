"""EpiGRAF's losses, schedules and training."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn.functional import softplus

from lodim.randomness import forked_torch_rng, torch_generator
from lodim.shapes.epigraf import (
    CameraDistribution,
    EpiGRAF,
    PatchDiscriminator,
    PatchSampler,
    TriplaneGenerator,
    extract_patches,
)
from lodim.shapes.epigraf.training import blurred
from lodim.shapes.rendering import camera_to_world


def small(**options):
    generator = TriplaneGenerator(4, 4, 8, 4, base_channels=4, hidden=8, n_coarse=4, n_fine=4, random_state=0)
    discriminator = PatchDiscriminator(
        8, 16, channels=4, embedding=8, table=4, with_poses=options.pop("with_poses", False), random_state=1
    )
    return EpiGRAF(generator, discriminator, options.pop("cameras", CameraDistribution()), **options)


def pictures(n=8):
    return torch.rand(n, 3, 16, 16, generator=torch_generator(2))


def standing(n=8):
    return camera_to_world(torch.stack([torch.arange(n) * 0.3, torch.full((n,), 0.4)], 1))


def test_blur_is_that_of_scipy():
    image = np.random.default_rng(0).random((9, 12))
    found = blurred(torch.from_numpy(image)[None, None], 1.3)[0, 0].numpy()
    np.testing.assert_allclose(found, gaussian_filter(image, 1.3, mode="nearest", radius=4), atol=1e-12)


def test_schedules_end_when_told():
    model = small(density_noise=2.0, noise_share=0.5, blur=3.0, blur_share=0.0)
    for share, noise in {0.0: 2.0, 0.25: 1.0, 0.5: 0.0, 1.0: 0.0}.items():
        model.update(share)
        assert model._left(model.density_noise, model.noise_share) == noise
        assert model._left(model.blur, model.blur_share) == 0
    with pytest.raises(ValueError, match="share"):
        model.update(1.5)


@pytest.mark.parametrize("step", [0, 1, 4])
def test_the_discriminators_loss_is_the_formula(step):
    """Against the terms by hand, at the same draws; R1 by a gradient of its own, in steps 0, 4, 8 ... alone."""
    model, images = small(r1=0.3, r1_every=4, blur=0), pictures()
    model._clock.step = step
    with forked_torch_rng(5):
        found = model._judged(images)
    with forked_torch_rng(5):
        patch = model.sampler(8, 0.0)
        real = extract_patches(images, patch, 8).requires_grad_()
        drawn = model._drawn(8)
    scores = model.discriminator(real, patch)
    wanted = softplus(-scores).mean() + softplus(model.discriminator(*drawn[:2])).mean()
    if step % 4 == 0:
        (slope,) = torch.autograd.grad(scores.sum(), real)
        # colours count from -1 to 1
        wanted = wanted + 0.3 * 4 / 2 * (slope / 2).square().sum((1, 2, 3)).mean()
    torch.testing.assert_close(found, wanted)
    found.backward()
    assert all(p.grad is None for p in model.generator.parameters())
    # by hand, with the penalty in every step; without gradients it is left out
    with forked_torch_rng(5):
        alone = model.discriminator_loss(images)
    with forked_torch_rng(5):
        without = model.discriminator_loss(images, penalty=0)
    with forked_torch_rng(5), torch.no_grad():
        seen = model.discriminator_loss(images)
    assert float(alone.detach()) > float(without.detach()) == float(seen)


def test_colours_as_whole_numbers_are_the_same_pictures():
    model = small()
    whole = (pictures() * 255).round().to(torch.uint8)
    values = []
    for images in (whole, whole.float() / 255):
        with forked_torch_rng(3):
            values.append(float(model.discriminator_loss(images).detach()))
    assert values[0] == values[1]


@pytest.mark.trains
def test_training_moves_both_and_averages_the_generator():
    model, seen = small(), []
    before = copy.deepcopy(model.state_dict())
    result = model.fit(
        pictures(), steps=12, batch_size=4, half_life=1e9, random_state=0,
        on_step=lambda run: seen.append(model.share),
    )  # fmt: skip
    assert result.steps == 12
    assert result.losses.shape == (12, 2)
    assert np.isfinite(result.losses).all()
    assert seen == pytest.approx(np.arange(1, 13) / 12)
    for part in ("generator", "discriminator"):
        moved = [not torch.equal(v, before[k]) for k, v in model.state_dict().items() if k.startswith(part)]
        assert any(moved)
    # the ramp alone: a twentieth of the pictures seen is the half-life, so the average is near but behind
    apart = [
        float((a - g).detach().abs().max())
        for a, g in zip(model.average.parameters(), model.generator.parameters(), strict=True)
    ]
    assert 0 < max(apart) < 0.1


@pytest.mark.trains
def test_an_interrupted_training_ends_with_the_same_bits(tmp_path):
    whole, halves = small(), small()
    whole.fit(pictures(), steps=10, batch_size=4, random_state=0)

    def stop(run):
        if run.step == 5:
            run.stop()

    options = {"steps": 10, "batch_size": 4, "random_state": 0, "checkpoint": tmp_path / "run.pt"}
    halves.fit(pictures(), on_step=stop, **options)
    with pytest.raises(ValueError, match="cameras"):
        small(cameras=CameraDistribution(radius=3.0)).fit(pictures(), **options)
    again = small()
    again.fit(pictures(), **options)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_no_global_draws_are_disturbed_and_samples_come_again():
    model = small()
    state = torch.get_rng_state()
    first, again = (model.sample(3, generator=torch_generator(1)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.shape == (3, 3, 16, 16)
    one = standing(1)
    assert model.sample(2, one, 5).shape == (2, 3, 5, 5)
    loaded = pickle.loads(pickle.dumps(model))
    assert torch.equal(loaded.sample(3, generator=torch_generator(1)), first)


def test_the_average_is_drawn_from_without_noise_and_callbacks_are_let_go():
    model = small()
    with torch.no_grad():
        for layer in model.generator.layers:
            layer.strength.fill_(1.0)
    model.fit(pictures(), steps=1, batch_size=4, on_step=lambda run: None)
    z, poses = torch.zeros(2, 4), standing(1).expand(2, 4, 4)
    for again in (model, model.train(), pickle.loads(pickle.dumps(model))):
        first, second = again.average(z, poses, None, 8).images
        assert torch.equal(first, second)
    first, second = model.generator(z, poses, None, 8).images
    assert not torch.equal(first, second)


def test_patches_that_show_nothing_end_no_training():
    """Patches beside the object: losses depend on no weight of the generator, whose gradient is 0."""
    far = CameraDistribution(radius=40.0)
    model = small(cameras=far, sampler=PatchSampler(0.5, "discrete"), blur=0)
    with forked_torch_rng(1):
        losses = [model.generator_loss(1) for _ in range(6)]
    for loss in losses:
        loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.generator.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions(dtype):
    model = small().to(dtype)
    model._derived = True
    result = model.fit(pictures().double().numpy(), standing().tolist(), steps=2, batch_size=4)
    assert np.isfinite(result.losses).all()
    assert {p.dtype for p in model.generator.parameters()} == {dtype}
    drawn = model.sample(2, standing(1).numpy())
    assert drawn.dtype == torch.promote_types(dtype, torch.float32)
    assert drawn.isfinite().all()


@pytest.mark.trains
def test_a_planted_object_is_found_from_one_view():
    model = small()
    with torch.no_grad():
        # an untrained mapping tells objects hardly apart
        for p in model.average.outputs.parameters():
            p.mul_(4)
        pose, z = standing(1), torch.randn(1, 4, generator=torch_generator(9))
        target = model.average.eval()(z, pose, None, 16).images[0]
        others = torch.randn(8, 4, generator=torch_generator(10))
        nearest = (model.average(others, pose.expand(8, 4, 4), None, 16).images - target).square()
    found, error = model.invert(target, pose[0], steps=200, n_restarts=4, random_state=0)
    assert found.shape == (4,)
    assert error < 0.1 * float(nearest.mean((1, 2, 3)).min())


def test_poses_of_the_pictures_are_used():
    model = small(cameras=None, with_poses=True)
    model.fit(pictures(), standing(), steps=1, batch_size=4, random_state=0)
    assert model.cameras.kind == "poses"
    # poses of another set take their place, unless that fit cannot begin
    with pytest.raises(ValueError, match="steps"):
        model.fit(pictures(), standing().flip(0)[:1].expand(8, 4, 4), steps=-1)
    told = model.cameras.sample(20, torch_generator(0))
    assert all(any(torch.equal(one, pose) for pose in standing()) for one in told)
    patch = model.sampler(8)
    patches, net = extract_patches(pictures(), patch, 8), model.discriminator.eval()
    assert not torch.allclose(net(patches, patch, standing()), net(patches, patch, standing().flip(0)))


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.rand(4, 3, 16, 12), "square"),
        (torch.rand(4, 3, 8, 8), "image_resolution=16"),
        (torch.rand(4, 16, 16, 3), "colours before rows"),
        (torch.rand(0, 3, 16, 16), r"\(n, 3, R, R\)"),
        (2 * torch.ones(4, 3, 16, 16), r"\[0, 1\]"),
        (torch.full((4, 3, 16, 16), math.nan), "NaN"),
        (torch.ones(4, 3, 16, 16, dtype=torch.int64), "uint8"),
    ],
)
def test_pictures_that_do_not_fit_are_refused(images, said):
    with pytest.raises((ValueError, TypeError), match=said):
        small().fit(images, steps=1)


def test_other_bad_input():
    with pytest.raises(ValueError, match="fov"):
        small(cameras=CameraDistribution(fov=0.2))
    with pytest.raises(ValueError, match="would not be used"):
        small().fit(pictures(), standing(), steps=1)
    with pytest.raises(ValueError, match="images must have shape"):
        small().discriminator_loss(torch.rand(4, 3, 32, 32, generator=torch_generator(0)))
    with pytest.raises(ValueError, match="no more pixels"):
        small(sampler=PatchSampler(0.25))
    with pytest.raises(ValueError, match="of one picture"):
        small().invert(pictures(2), standing(1)[0])
    with pytest.raises(ValueError, match="one object"):
        small().extract_mesh(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="one a picture"):
        small().fit(pictures(), standing(3), steps=1)
    with pytest.raises(ValueError, match="poses="):
        small(with_poses=True).fit(pictures(), steps=1)
    with pytest.raises(ValueError, match="poses="):
        small(with_poses=True).discriminator_loss(pictures())
    with pytest.raises(ValueError, match="inside the cube"):
        small(cameras=CameraDistribution(radius=0.3)).fit(pictures(), steps=1)


def test_a_field_that_is_not_finite_says_when():
    model = small()
    model.update(0.25)
    with torch.no_grad():
        model.generator.second.bias.fill_(math.nan)
    with pytest.raises(RuntimeError, match="diverged") as caught:
        model.generator_loss(4)
    assert "25.0% done" in caught.value.__notes__[0]


def test_patches_of_the_sampler_reach_the_loss():
    """Whole images throughout: the loss is that of pictures halved in size, and does not depend on where they are."""
    model = small(sampler=PatchSampler(1.0), r1=0)
    with forked_torch_rng(0):
        found = float(model.discriminator_loss(pictures()))
    with forked_torch_rng(0):
        shrunk = torch.nn.functional.avg_pool2d(pictures(), 2)
        patch = model.sampler(8)
        scores = model.discriminator(blurred(shrunk, model.blur), patch)
        drawn = model._scores(*model._drawn(8))
    assert found == pytest.approx(
        float((softplus(-scores).mean() + softplus(drawn).mean()).detach()), rel=1e-5
    )
