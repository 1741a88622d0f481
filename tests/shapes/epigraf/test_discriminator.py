"""The discriminator: what its modulation does, and its parts against direct computations."""

import math

import pytest
import torch

from lodim.randomness import torch_generator
from lodim.shapes.epigraf.discriminator import PatchDiscriminator, minibatch_std, r1_penalty
from lodim.shapes.epigraf.patches import Patch, PatchSampler
from lodim.shapes.rendering import camera_to_world


def small(**options):
    return PatchDiscriminator(8, 16, channels=4, max_channels=8, random_state=0, **options)


def inputs(n=8, side=8):
    g = torch_generator(0)
    return torch.rand(n, 3, side, side, generator=g), PatchSampler(0.5)(n, 1.0, g)


def test_without_its_matrices_the_hyper_modulated_network_is_the_unmodulated_one():
    net, plain = small(), small(modulation=None)
    own = net.state_dict()
    plain.load_state_dict({name: own[name] for name in plain.state_dict()})
    images, patch = inputs()
    assert not torch.allclose(net(images, patch), plain(images, patch))
    with torch.no_grad():
        for layer in [*(block.affine for block in net.blocks), net.projection]:
            layer.weight.zero_()
    assert torch.equal(net(images, patch), plain(images, patch))


@pytest.mark.parametrize("modulation", ["hyper", "concat", None])
def test_the_score_depends_on_the_patch_unless_it_is_not_told(modulation):
    net, (images, patch) = small(modulation=modulation).eval(), inputs()
    moved = Patch(patch.scales, 1 - patch.scales[:, None] - patch.offsets)
    assert torch.equal(net(images, patch), net(images, moved)) == (modulation is None)


def test_depth_is_that_of_the_network_for_whole_images():
    patchwise, whole = PatchDiscriminator(16, 64), PatchDiscriminator(64, 64)
    assert len(patchwise.blocks) == len(whole.blocks) == 4
    assert sum(block.down for block in patchwise.blocks) == 2


def test_poses_are_told_and_left_out_at_random_in_training():
    net, (images, patch) = small(with_poses=True, pose_dropout=1.0), inputs()
    poses = camera_to_world(torch.randn(8, 2, generator=torch_generator(1)) * 0.3)
    assert torch.equal(net(images, patch, poses), net(images, patch))
    net.eval()
    assert not torch.allclose(net(images, patch, poses), net(images, patch))


def test_r1_is_that_of_a_function_whose_gradient_is_known_and_of_finite_differences():
    images = torch.rand(3, 3, 8, 8, dtype=torch.float64, generator=torch_generator(0)).requires_grad_()
    scores = (images**2).flatten(1).sum(1)
    # by colours in [-1, 1] the gradient is half of 2 x
    assert float(r1_penalty(scores, images).detach()) == pytest.approx(
        float((images.detach() ** 2).flatten(1).sum(1).mean()) / 2, rel=1e-12
    )
    net, (images, patch) = small().double(), inputs(4)
    images = images.double().requires_grad_()
    penalty = r1_penalty(net(images, patch), images)
    total, h = 0.0, 1e-6
    with torch.no_grad():
        for at in range(images[0].numel()):
            step = torch.zeros(images[0].numel(), dtype=torch.float64)
            step[at] = h
            step = step.reshape(images[0].shape)
            # one image moves at a time: the group's deviation couples them
            for i in range(4):
                moved = [images.clone() for _ in range(2)]
                moved[0][i] += step
                moved[1][i] -= step
                slope = (net(moved[0], patch) - net(moved[1], patch)).sum() / (2 * h)
                total += float(slope / 2) ** 2
    assert float(penalty.detach()) == pytest.approx(total / 4 / 2, rel=1e-5)
    penalty.backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in net.parameters())
    assert float(net.blocks[0].affine.weight.grad.abs().sum()) > 0


def test_the_deviation_of_a_group_is_the_mean_of_its_features():
    x = torch.rand(10, 5, 4, 4, dtype=torch.float64, generator=torch_generator(0))
    found = minibatch_std(x, 4)
    assert found.shape == (10, 1, 4, 4)
    for first, last in ((0, 4), (4, 8), (8, 10)):
        by_hand = torch.stack(
            [
                (x[first:last, c, i, j].var(unbiased=False) + 1e-8).sqrt()
                for c in range(5)
                for i in range(4)
                for j in range(4)
            ]
        )
        torch.testing.assert_close(
            found[first:last], by_hand.mean().expand(last - first, 1, 4, 4), rtol=1e-12, atol=0
        )
    one = x[:1].clone().requires_grad_()
    alone = minibatch_std(one, 4)
    (gradient,) = torch.autograd.grad(alone.sum(), one)
    assert math.isclose(float(alone.detach()[0, 0, 0, 0]), 1e-4)
    assert bool(gradient.isfinite().all())


def test_mistakes_are_named():
    net, (images, patch) = small(), inputs()
    with pytest.raises(ValueError, match=r"\(n, 3, 8, 8\)"):
        net(images[..., :4], patch)
    with pytest.raises(ValueError, match="one an image"):
        net(images[:4], patch)
    with pytest.raises(ValueError, match="64 > 32"):
        PatchDiscriminator(64, 32)
    with pytest.raises(ValueError, match="power of two"):
        PatchDiscriminator(24, 48)
    with pytest.raises(ValueError, match="hyper"):
        PatchDiscriminator(8, 16, modulation=None, with_poses=True)
    with pytest.raises(ValueError, match="modulation"):
        PatchDiscriminator(8, 16, modulation="film")
