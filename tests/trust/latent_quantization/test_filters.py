"""The filter: its code, what its losses touch, the penalty, and how far a code is from another."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from lodim.nets import mlp
from lodim.randomness import build_seeded
from lodim.trust import LQVAE, code_stability
from lodim.trust.latent_quantization.filters import _circular_norm

SHAPE = (1, 8, 8)


def dense(seed=0, latent=5, **options):
    """A filter of dense nets in double precision, whose latents are near their thresholds."""

    def make():
        encoder = nn.Sequential(nn.Flatten(), mlp([64, 12, 2 * latent]))
        decoder = nn.Sequential(mlp([latent, 12, 64]), nn.Tanh(), nn.Unflatten(1, SHAPE))
        return LQVAE(encoder, decoder, latent, image_shape=SHAPE, **options)

    return build_seeded(make, seed).double()


def images(n=6, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).random((n, *SHAPE)))


def touched(value, parts):
    """Which parts a loss has a gradient in."""
    found = set()
    for name, part in parts.items():
        grads = torch.autograd.grad(value, list(part.parameters()), retain_graph=True, allow_unused=True)
        found |= {name} if any(g is not None and bool(g.abs().sum() > 0) for g in grads) else set()
    return found


def test_one_bit_is_the_side_of_the_slab():
    model = dense(tau=0.5)
    z = torch.tensor([[-2.0, -0.5, 0.0, 0.5, 0.5000001]], dtype=torch.float64)
    assert model.hard_code(z).tolist() == [[-1, 1, 1, 1, -1]]
    soft = model.soft_code(z)
    assert torch.equal(soft.sign()[:, [0, 2, 4]], model.hard_code(z)[:, [0, 2, 4]])
    assert soft.abs().max() < 1
    torch.testing.assert_close(soft[0, 0], torch.tensor(-1875 / 1876, dtype=torch.float64))  # 500 (.25 - 4)


@pytest.mark.parametrize("bits", [2, 3])
def test_more_bits_round_uniformly_and_digits_give_the_level_back(bits):
    model, levels = dense(n_bits=bits, tau=0.1), 2**bits
    z = 0.1 * (torch.arange(levels, dtype=torch.float64) - (levels - 1) / 2)[:, None]  # middles of the cells
    torch.testing.assert_close(model.hard_code(z)[:, 0], torch.linspace(-1, 1, levels, dtype=torch.float64))
    digits = model.encode_bits(images())
    assert set(digits.unique().tolist()) <= {-1, 1}
    read = ((digits.view(6, 5, bits).long() + 1) // 2 * 2 ** torch.arange(bits - 1, -1, -1)).sum(-1)
    assert torch.equal(read, model._levels(model.hard_code(model.encode(images())[0])))


@pytest.mark.parametrize("bits", [1, 2])
def test_straight_through_changes_no_bit_and_brings_a_gradient(bits):
    model, x = dense(n_bits=bits), images()
    assert torch.equal(model.filter(x, straight_through=True), model.filter(x))
    assert torch.equal(model(x), model.filter(x))
    grads = []
    for through in (False, True):
        seen = x.clone().requires_grad_()
        out = model.filter(seen, straight_through=through).square().sum()
        grads.append(torch.autograd.grad(out, seen, allow_unused=True)[0])
    assert grads[0] is None
    assert grads[1].abs().amax((1, 2, 3)).min() > 0


def test_its_gradient_is_that_of_the_soft_code():
    model, x = dense(), images().requires_grad_()
    (found,) = torch.autograd.grad(model.filter(x, straight_through=True).sum(), x)
    mean, _ = model.encode(x)
    code = model.hard_code(mean).detach().requires_grad_()
    (below,) = torch.autograd.grad(((model.hard_decoder(code) + 1) / 2).sum(), code)
    (expected,) = torch.autograd.grad(model.soft_code(mean), x, below)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("mode", ["sum", "max_row", "spectral"])
def test_the_penalty_is_that_of_finite_differences(mode):
    model, h = dense(lipschitz_mode=mode, lipschitz_target=0.3), 1e-6
    scaled = 2 * images(3) - 1
    steps = h * torch.eye(64, dtype=torch.float64).view(64, *SHAPE)
    means = [(model.encoder(scaled + s)[:, :5], model.encoder(scaled - s)[:, :5]) for s in steps]
    rows = torch.stack([(up - down) / (2 * h) for up, down in means], dim=2)  # images, latents, pixels
    norm = {
        "sum": rows.sum(1).norm(dim=1),
        "max_row": rows.norm(dim=2).amax(1),
        "spectral": torch.linalg.matrix_norm(rows, 2),
    }[mode]
    expected = (0.3 - norm).square().mean()
    torch.testing.assert_close(model.losses(images(3))["gp"], expected, rtol=1e-6, atol=1e-9)


def test_who_learns_from_which_loss():
    model = dense()
    parts = {"encoder": model.encoder, "soft": model.soft_decoder, "hard": model.hard_decoder}
    losses = model.losses(images())
    assert touched(losses["gp"], parts) == {"encoder"}
    assert touched(losses["kl"], parts) == {"encoder"}
    assert touched(losses["encoder"], parts) == {
        "encoder",
        "soft",
    }  # whose player takes the encoder's part alone
    assert touched(losses["soft"], parts) == {"soft"}
    assert touched(losses["hard"], parts) == {"hard"}


def test_one_loss_has_every_players_gradient():
    model, x = dense(), images()
    torch.manual_seed(0)
    whole = model.loss(x)
    torch.manual_seed(0)
    each = model.losses(x)
    for part, name in (
        (model.encoder, "encoder"),
        (model.soft_decoder, "soft"),
        (model.hard_decoder, "hard"),
    ):
        weights = list(part.parameters())
        expected = torch.autograd.grad(each[name], weights, retain_graph=True)
        found = torch.autograd.grad(whole, weights, retain_graph=True)
        for one, other in zip(found, expected):
            torch.testing.assert_close(one, other)


def test_kl_of_a_standard_normal_posterior_is_zero():
    model = dense()
    with torch.no_grad():
        for p in model.encoder.parameters():
            p.zero_()
    losses = model.losses(images())
    assert losses["kl"].item() == 0
    assert losses["gp"].item() == pytest.approx((0.1 - 1e-6) ** 2)  # a constant encoder has no slope


def test_without_penalty_and_rounding_it_is_an_autoencoder():
    model = dense(n_bits=None, lambda_gp=0, noise_scale=0)
    x = images()
    losses = model.losses(x)
    mean, _ = model.encode(x)
    torch.testing.assert_close(losses["hard"], 10 * (model.hard_decoder(mean) - (2 * x - 1)).square().mean())
    assert losses["gp"].item() == 0
    torch.testing.assert_close(model.filter(x), (model.hard_decoder(mean) + 1) / 2)
    with pytest.raises(ValueError, match="no bits"):
        model.encode_bits(x)


@pytest.mark.trains
@pytest.mark.parametrize("bits", [1, 2])
def test_training_rebuilds_images_from_bits(bits):
    two = torch.zeros(40, *SHAPE)
    two[::2, :, :4], two[1::2, :, :, 4:] = 1, 1
    encoder = build_seeded(lambda: nn.Sequential(nn.Flatten(), mlp([64, 16, 32])), 0)
    decoder = build_seeded(lambda: nn.Sequential(mlp([16, 16, 64]), nn.Tanh(), nn.Unflatten(1, SHAPE)), 1)
    model = LQVAE(encoder, decoder, 16, image_shape=SHAPE, n_bits=bits)
    with torch.no_grad():
        before = (model.filter(two) - two).square().mean()
    done = model.fit(two, 100, batch_size=20, lr=5e-3, random_state=0)
    assert done.losses.shape == (100, 3)
    with torch.no_grad():
        assert (model.filter(two) - two).square().mean() < before / 3
    counts = (model.encode_bits(two) == 1).double().mean(0)
    if bits == 1:
        torch.testing.assert_close(model.code_prior[:, 1].double(), counts)
    assert not model.training


def test_samples_follow_the_codes_shares():
    model = dense()
    with torch.no_grad():
        model.code_prior.copy_(torch.tensor([[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 2))
    code = torch.tensor([[-1.0, -1, -1, 1, 1]], dtype=torch.float64)
    expected = (model.hard_decoder(code) + 1) / 2
    torch.testing.assert_close(model.sample(3), expected.detach().expand(3, *SHAPE))
    fresh = dense(n_bits=2)  # thresholds at -tau, 0, tau of a standard normal
    assert float(fresh.code_prior[0, :2].sum()) == pytest.approx(0.5)
    assert float(dense().code_prior[0, 1]) == pytest.approx(math.erf(0.1 / math.sqrt(2)), rel=1e-6)


def linear(latent=4, seed=0):
    """A filter whose encoder is one linear map."""

    def make():
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 2 * latent))
        return LQVAE(
            encoder, nn.Sequential(nn.Linear(latent, 64), nn.Unflatten(1, SHAPE)), latent, image_shape=SHAPE
        )

    return build_seeded(make, seed).double()


def test_a_linear_encoders_codes_are_stable_up_to_the_nearest_threshold():
    model, x = linear(), images(20)
    mean, _ = model.encode(x)
    slope = 2 * model.encoder[1].weight[:4].norm(dim=1)  # images go from [0, 1] to [-1, 1]
    radius = ((mean.abs() - model.tau).abs() / slope).amin(1).detach().sort()[0]
    between = (radius[1:] + radius[:-1]) / 2
    found = code_stability(model, x, between)
    expected = tuple(np.arange(19, 0, -1) / 20)
    assert found.proven == expected == found.estimated


def test_proven_codes_do_not_flip():
    model = build_seeded(lambda: LQVAE(latent_dim=3, image_shape=SHAPE, width=2, tau=0.02), 1)
    x = images(30).float()
    radii = np.geomspace(1e-3, 30, 12)
    found = code_stability(model, x, radii)
    assert 0 < found.proven[3] <= found.estimated[3]
    assert all(p <= e for p, e in zip(found.proven, found.estimated))
    bits = model.encode_bits(x)
    for r, share in zip(radii, found.proven):
        kept = torch.ones(30, dtype=torch.bool)
        for seed in range(10):
            change = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
            moved = (x + r * change / change.flatten(1).norm(dim=1).view(-1, 1, 1, 1)).clamp(0, 1)
            kept &= (model.encode_bits(moved) == bits).all(1)
        assert float(kept.double().mean()) >= share


@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (2, 1), (2, 0), (3, 2)])
def test_a_convolutions_bound_holds_and_is_close(stride, padding):
    layer = build_seeded(lambda: nn.Conv2d(2, 3, 3, stride, padding, bias=False), 0).double()
    bound, size = _circular_norm(layer, (6, 7))
    eye = torch.eye(84, dtype=torch.float64).view(84, 2, 6, 7)
    out = layer(eye)
    assert tuple(out.shape[2:]) == size
    exact = float(torch.linalg.matrix_norm(out.flatten(1).detach(), 2))
    assert exact <= bound * (1 + 1e-12)
    assert stride > 1 or bound < 1.3 * exact


def test_a_layer_that_comes_twice_counts_twice():
    twice = nn.Linear(64, 64, bias=False)
    with torch.no_grad():
        twice.weight.copy_(3 * torch.eye(64))
    head, other = nn.Linear(64, 8), nn.Linear(64, 8)
    with torch.no_grad():
        other.weight.copy_(9 * head.weight)
        other.bias.copy_(head.bias)
    decoder = nn.Sequential(nn.Linear(4, 64), nn.Unflatten(1, SHAPE))
    x, radii = images(20), np.geomspace(1e-4, 0.1, 9)
    found = [
        code_stability(
            LQVAE(nn.Sequential(nn.Flatten(), *layers), decoder, 4, image_shape=SHAPE), x, radii
        ).proven
        for layers in ((nn.Sequential(twice, twice), head), (other,))
    ]
    assert found[0] == found[1]
    assert 0 < found[0][4] < 1


class Ten(nn.Sequential):
    def forward(self, x):
        return 10 * super().forward(x)


def test_what_is_derived_from_a_known_layer_has_no_proof():
    decoder = nn.Sequential(nn.Linear(4, 64), nn.Unflatten(1, SHAPE))
    for encoder in (
        Ten(nn.Flatten(), nn.Linear(64, 8)),
        nn.Sequential(nn.Flatten(), Ten(nn.Identity()), nn.Linear(64, 8)),
        nn.Sequential(
            nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(64, 64)), nn.Linear(64, 8)
        ),
    ):
        assert code_stability(LQVAE(encoder, decoder, 4, image_shape=SHAPE), images(5), [0.1]).proven is None


def test_an_encoder_of_unknown_layers_has_no_proof():
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.GELU(), nn.Linear(8, 8))
    model = LQVAE(encoder, nn.Sequential(nn.Linear(4, 64), nn.Unflatten(1, SHAPE)), 4, image_shape=SHAPE)
    found = code_stability(model, images(5), [0.1])
    assert found.proven is None
    assert "no proof possible" in str(found)


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda: dense().filter(2 * images()), r"on \[0, 1\].*from"),
        (lambda: dense().filter(images() - 0.5), r"on \[0, 1\]"),
        (lambda: dense().filter(images().expand(-1, 3, -1, -1)), r"shape \(n, 1, 8, 8\), got \(6, 3, 8, 8\)"),
        (lambda: dense().fit((255 * images()).to(torch.uint8)), "divide bytes by 255"),
        (lambda: LQVAE(image_shape=(1, 30, 30)), "multiples of 4"),
        (lambda: LQVAE(tau=0.0), "tau must be positive"),
        (lambda: LQVAE(lipschitz_mode="rows"), "lipschitz_mode"),
        (lambda: code_stability(dense(n_bits=None), images()), "rounds nothing"),
    ],
)
def test_what_is_refused(act, said):
    with pytest.raises(ValueError, match=said):
        act()


def test_what_is_no_image_is_told_what_it_is():
    model = dense()
    for ask in (model, model.filter, model.encode, model.encode_bits, model.losses):
        with pytest.raises(TypeError, match="Tensor"):
            ask(images().numpy())
    with pytest.raises(ValueError, match="NaN"):
        model(torch.full((1, *SHAPE), math.nan, dtype=torch.float64))
    # one pixel, which would be spread over all
    model.soft_decoder = nn.Sequential(nn.Linear(5, 1), nn.Unflatten(1, (1, 1, 1)))
    with pytest.raises(ValueError, match="decoder"):
        model.double().loss(images())


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_code_stability_takes_its_gradients_where_they_are_switched_off(off):
    model, x = dense(), images().numpy()
    expected = code_stability(model, x)
    with off():
        assert code_stability(model, x) == expected
