import copy
import math
import pickle

import numpy as np
import pytest
import torch

from lodim.randomness import torch_generator
from lodim.shapes.argus3d.tokenizer import ShapeTokenizer
from lodim.training import DescentRecipe, descend

SMALL = {
    "plane_resolution": 16, "channels": 8, "latent_channels": 16, "n_codes": 32, "hidden": 16, "n_blocks": 2,
    "unet_width": 8, "unet_depth": 2,
}  # fmt: skip


def small(**options):
    return ShapeTokenizer(**{**SMALL, "random_state": 0, **options})


def cloud(batch=2, n=300, seed=0):
    return torch.rand(batch, n, 3, generator=torch_generator(seed)) - 0.5


@pytest.mark.parametrize(("latent", "dim"), [("vector", 2), ("grid", 3)])
@pytest.mark.parametrize("downsamples", [0, 1, 2, 3])
def test_there_are_as_many_tokens_as_places_on_the_map(latent, dim, downsamples):
    tokenizer = small(latent=latent, downsamples=downsamples)
    tokens = tokenizer.encode(cloud())
    assert tokenizer.n_tokens == (16 // 2**downsamples) ** dim
    assert tokens.shape == (2, tokenizer.n_tokens)
    assert tokens.dtype == torch.int64
    assert 0 <= tokens.min() <= tokens.max() < 32
    assert tokenizer.decode(tokens, cloud(n=7)).shape == (2, 7)


@pytest.mark.parametrize("latent", ["vector", "grid"])
def test_the_order_of_points_changes_no_bit(latent):
    tokenizer, points = small(latent=latent), cloud()
    points[:, :100, 0] = 0.25  # ties in the first coordinate
    points[:, :50, 1] = -0.125
    shuffled = points[:, torch.randperm(300, generator=torch_generator(1))]
    assert tokenizer.latents(points).equal(tokenizer.latents(shuffled))
    assert tokenizer.encode(points).equal(tokenizer.encode(shuffled))


def test_points_given_twice_and_other_shapes_in_the_batch_change_nothing():
    tokenizer, points = small().double(), cloud().double()
    expected = tokenizer.latents(points)
    assert torch.allclose(tokenizer.latents(points.repeat(1, 2, 1)), expected, atol=1e-12)
    assert torch.allclose(tokenizer.latents(points[1:]), expected[1:], atol=1e-12)
    assert torch.allclose(tokenizer.latents(points[:1].float()), expected[:1], atol=1e-5)


def test_at_the_start_shapes_can_be_told_apart():
    # torch's own start leaves differences of 1e-6
    vectors = ShapeTokenizer(random_state=0).latents(cloud(8))
    assert vectors.std(0).mean() > 0.01


def test_tokens_are_those_of_the_nearest_codes_row_by_row():
    tokenizer, points = small(), cloud()
    vectors, codes = tokenizer.latents(points), tokenizer.quantizer.codebook
    nearest = (vectors[:, :, None] - codes).square().sum(-1).argmin(-1)
    assert tokenizer.encode(points).equal(nearest)


@pytest.mark.parametrize("latent", ["vector", "grid"])
def test_the_first_token_stands_at_the_low_corner_and_the_second_beside_it(latent):
    # what tokens stand for is read where they stand: the planes of the map are rows of z or y, and columns of x
    tokenizer = small(latent=latent, downsamples=2)
    dim = 2 if latent == "vector" else 3
    seen = []
    tokenizer.map_unet.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    tokens = torch.zeros(1, tokenizer.n_tokens, dtype=torch.int64)
    tokens[0, 1] = 5
    tokenizer.features(tokens)
    differs = (seen[0][0] - seen[0][0].flatten(1)[:, :1].unflatten(1, (1,) * dim)).abs().amax(0) > 0
    assert differs.nonzero().tolist() == [[0] * (dim - 1) + [1]]


def test_points_reach_the_cell_they_lie_in():
    # one point near a corner of the padded cube, and where the first convolution meets its features
    tokenizer = small(channels=1)
    seen = []
    tokenizer.field_unet.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    at = torch.tensor([[[0.54, -0.54, 0.0]]])
    tokenizer.latents(at)
    # xz: column 15, row 8; xy: column 15, row 0; yz: column 0, row 8
    assert seen[0].abs().flatten(1).argmax(1).tolist() == [8 * 16 + 15, 0 * 16 + 15, 8 * 16 + 0]


def test_each_term_of_the_loss_reaches_its_own_tensors():
    tokenizer, points, queries = small(), cloud(), cloud(n=50, seed=1)
    _, parts = tokenizer.loss(points, queries, queries[..., 0] > 0)
    named = dict(tokenizer.named_parameters())

    def reached(term):
        grads = torch.autograd.grad(term, list(named.values()), allow_unused=True, retain_graph=True)
        found = {name for name, g in zip(named, grads, strict=True) if g is not None and g.abs().max() > 0}
        return {name.partition(".")[0] for name in found}

    encoder = {"point_features", "field_unet", "couple", "reduce_dim"}
    decoder = {"raise_dim", "map_unet", "uncouple", "out_unet", "occupancy"}
    assert reached(parts["bce"]) == encoder | decoder
    assert reached(parts["vq"]) == encoder | {"quantizer"}


def test_the_gradient_passes_the_codes_unchanged():
    tokenizer, queries = small(), cloud(n=50, seed=1)
    vectors = tokenizer.latents(cloud()).detach().requires_grad_()
    codes = tokenizer.quantizer.decode(tokenizer.quantizer.encode(vectors)).detach().requires_grad_()

    def gradient(given, leaf):
        return torch.autograd.grad(tokenizer._logits(tokenizer._features(given), queries).sum(), leaf)[0]

    assert torch.allclose(gradient(tokenizer.quantizer(vectors).vectors, vectors), gradient(codes, codes))


def test_the_loss_is_the_sum_over_queries_and_the_mean_over_shapes():
    tokenizer, points, queries = small(beta=0.25), cloud(), cloud(n=50, seed=1)
    inside = queries[..., 0] > 0
    with torch.no_grad():
        loss, parts = tokenizer.loss(points, queries, inside)
        p = torch.sigmoid(tokenizer.decode(tokenizer.encode(points), queries).double())
    bce = -torch.where(inside, p, 1 - p).log().sum(1).mean()
    z = tokenizer.latents(points).detach()
    apart = (z - tokenizer.quantizer.decode(tokenizer.quantizer.encode(z))).square().mean()
    assert parts["bce"].item() == pytest.approx(bce.item(), rel=1e-5)
    assert parts["vq"].item() == pytest.approx(1.25 * apart.item(), rel=1e-5)
    assert loss.item() == pytest.approx((bce + 1.25 * apart).item(), rel=1e-5)


@pytest.mark.trains
def test_one_ball_is_learnt():
    tokenizer, generator = small(n_codes=16), torch_generator(0)
    points = torch.nn.functional.normalize(torch.randn(1, 500, 3, generator=generator), dim=2) * 0.3

    def loss():
        queries = torch.rand(1, 1000, 3) - 0.5
        return tokenizer.loss(points, queries, queries.norm(dim=2) < 0.3)[0]

    descend(loss, tokenizer, DescentRecipe(steps=150, lr=3e-3, schedule="cosine"), random_state=0)
    queries = torch.rand(1, 20_000, 3, generator=generator) - 0.5
    inside, found = queries.norm(dim=2) < 0.3, tokenizer.decode(tokenizer.encode(points), queries) > 0
    assert (inside & found).sum() / (inside | found).sum() > 0.95
    mesh = tokenizer.to_mesh(tokenizer.encode(points)[0])
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(4 / 3 * math.pi * 0.3**3, rel=0.05)
    assert np.abs(mesh.bounds.mean(0)).max() < 0.02
    # a lower threshold takes more in
    assert tokenizer.to_mesh(tokenizer.encode(points)[0], threshold=0.2).volume > mesh.volume


def test_a_shape_with_nothing_inside_is_an_empty_mesh_and_a_warning():
    tokenizer = small()
    torch.nn.init.constant_(tokenizer.occupancy.last.bias, -100.0)
    with pytest.warns(UserWarning, match="nothing is inside"):
        assert not len(tokenizer.to_mesh(torch.zeros(16, dtype=torch.int64), 16).faces)


def test_points_outside_the_padded_cube_are_refused_unless_moved():
    tokenizer, points = small(), cloud()
    far = 7 * points + 3
    for given in (far, torch.full_like(points, torch.nan)):
        with pytest.raises(ValueError, match=r"padded cube.*normalize=True"):
            tokenizer.encode(given)
    with pytest.raises(ValueError, match="padded cube"):
        tokenizer.decode(tokenizer.encode(points), far)
    # in powers of two, that moving and scaling before does not round
    moved = tokenizer.encode(points.double(), normalize=True)
    assert moved.equal(tokenizer.encode(8 * points.double() + 32, normalize=True))
    assert tokenizer.encode(torch.ones(1, 5, 3), normalize=True).shape == (1, 16)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"plane_resolution": 20}, "multiple of 8"),
        ({"downsamples": 4}, "multiple of 32"),
        ({"latent": "planes"}, "one of"),
        ({"channels": 0}, "channels"),
        ({"padding": -0.1}, "padding"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        small(**options)


def test_mistakes_in_calls_are_named():
    tokenizer, points, queries = small(), cloud(), cloud(n=5)
    tokens = tokenizer.encode(points)
    with pytest.raises(ValueError, match="a point at least"):
        tokenizer.encode(points[:, :0], normalize=True)
    with pytest.raises(ValueError, match=r"\(batch, n, 3\)"):
        tokenizer.encode(points[..., :2])
    with pytest.raises(ValueError, match=r"shape \(batch, 16\)"):
        tokenizer.decode(tokens[:, :9], queries)
    with pytest.raises(ValueError, match=r"in \[0, 32\)"):
        tokenizer.decode(tokens + 32, queries)
    with pytest.raises(ValueError, match=r"queries must have shape \(1, n, 3\)"):
        tokenizer.decode(tokens[:1], queries)
    with pytest.raises(ValueError, match="occupancy must have shape"):
        tokenizer.loss(points, queries, torch.zeros(2, 4))
    with pytest.raises(ValueError, match="between 0 and 1"):
        tokenizer.to_mesh(tokens[0], threshold=1.0)


def test_copies_pickles_and_states_agree_and_seeds_give_the_same_weights():
    state, points = torch.get_rng_state(), cloud()
    tokenizer, other = small(), small(random_state=1)
    assert torch.get_rng_state().equal(state)
    expected = tokenizer.encode(points)
    other.load_state_dict(tokenizer.state_dict())
    for twin in (small(), copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer)), other):
        assert twin.encode(points).equal(expected)


@pytest.mark.parametrize("latent", ["vector", "grid"])
def test_no_shapes_have_no_tokens(latent):
    tokenizer = ShapeTokenizer(
        16, 4, n_codes=8, latent_channels=8, unet_width=4, latent=latent, random_state=0
    )
    tokens = tokenizer.encode(torch.zeros(0, 5, 3))
    assert tokens.shape == (0, tokenizer.n_tokens)
    assert tokenizer.decode(tokens, torch.zeros(0, 5, 3)).shape == (0, 5)


def test_tokens_of_any_width_and_answers_that_are_none():
    tokenizer = ShapeTokenizer(16, 4, n_codes=8, latent_channels=8, unet_width=4, random_state=0)
    points = torch.rand(2, 5, 3) - 0.5
    tokens = tokenizer.encode(points)
    assert torch.equal(tokenizer.decode(tokens.to(torch.int16), points), tokenizer.decode(tokens, points))
    for wrong in (torch.full((2, 5), 5.0), torch.full((2, 5), torch.nan)):
        with pytest.raises(ValueError, match="occupancy must be 1"):
            tokenizer.loss(points, points, wrong)
    with pytest.raises(ValueError, match="a query at least"):
        tokenizer.loss(points, points[:, :0], torch.zeros(2, 0))
    with pytest.raises((ValueError, TypeError), match="tokens"):
        tokenizer.to_mesh(tokens, 8)
    with pytest.raises(ValueError, match="code_dim"):
        ShapeTokenizer(code_dim=0)
