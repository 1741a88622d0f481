"""The prior: what sees what, conditions in front, and sampling with and without a cache."""

import copy

import pytest
import torch

from lodim.shapes.argus3d import ShapeGPT
from lodim.training import DescentRecipe, descend


def small(**options):
    options = {"n_classes": 3, "random_state": 0, **options}
    return ShapeGPT(11, 6, 32, 2, 4, **options).double().eval()


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def test_logits_do_not_see_what_comes_later():
    prior, tokens = small(), torch.randint(11, (2, 6), generator=gen())
    before = prior.logits(tokens, y=1)
    for j in range(5):
        changed = tokens.clone()
        changed[:, j] = (changed[:, j] + 1) % 11
        after = prior.logits(changed, y=1)
        assert torch.equal(after[:, : j + 1], before[:, : j + 1])
        assert not torch.equal(after[:, j + 1], before[:, j + 1])


@pytest.mark.parametrize("order", [None, [5, 0, 3, 1, 4, 2]])
def test_loss_is_the_surprise_of_the_tokens_alone(order):
    # by the chain rule the probabilities of all sequences sum to one
    prior = ShapeGPT(2, 3, 16, 1, 2, n_classes=2, order=order and [2, 0, 1], random_state=0).double().eval()
    every = torch.cartesian_prod(*[torch.arange(2)] * 3)
    total = sum(float(torch.exp(-3 * prior.loss(row[None], y=1).detach())) for row in every)
    assert total == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("options", [{}, {"guidance": 2.5}, {"top_k": 3, "top_p": 0.9, "temperature": 1.5}])
def test_cached_sampling_is_sampling(options):
    prior = small(max_condition_tokens=4)
    told = {"y": [0, 1, 2, 1], "condition": torch.randint(11, (4, 4), generator=gen(1))}
    cached, plain = (
        prior.sample(4, **told, **options, generator=gen(), use_cache=use_cache)
        for use_cache in (True, False)
    )
    assert torch.equal(cached, plain)
    assert cached.dtype == torch.int64
    assert 0 <= int(cached.min()) <= int(cached.max()) < 11


@pytest.mark.parametrize("order", [None, [5, 0, 3, 1, 4, 2]])
def test_prefix_tokens_stay_and_change_what_follows(order):
    prior = small(order=order)
    known = torch.tensor([[4, 7, 9]])
    places = (order or range(6))[:3]
    found = prior.sample(5, y=0, prefix_tokens=known, generator=gen())
    assert torch.equal(found[:, list(places)], known.expand(5, -1))
    whole = torch.randint(11, (5, 6), generator=gen())
    assert torch.equal(prior.sample(5, prefix_tokens=whole[:, order or slice(None)]), whole)


def test_samples_follow_the_models_distribution():
    prior = ShapeGPT(3, 2, 16, 1, 2, random_state=1).double().eval()
    with torch.no_grad():
        prior.net.bias.copy_(torch.tensor([1.0, 0.0, -1.0, 0.0]))
    every = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    p = torch.tensor([float(torch.exp(-2 * prior.loss(row[None]).detach())) for row in every])
    drawn = prior.sample(4000, generator=gen())
    counts = torch.bincount(3 * drawn[:, 0] + drawn[:, 1], minlength=9)
    # chi-square of 8 degrees of freedom, chance of 1e-5
    assert float(((counts - 4000 * p) ** 2 / (4000 * p)).sum()) < 37.3


def test_nothing_known_is_the_null_condition():
    prior = small(max_condition_tokens=2, condition_dim=5)
    tokens = torch.randint(11, (3, 6), generator=gen())
    bare = prior.logits(tokens)
    assert torch.equal(prior.logits(tokens, y=[-1, -1, -1]), bare)
    assert not torch.equal(prior.logits(tokens, y=0), bare)
    # every sample is shown nothing
    prior.train()
    prior.p_uncond, prior.net.drop.p = 1.0, 0.0
    for block in prior.net.blocks:
        block.drop.p = block.mlp.drop.p = block.attn.dropout = 0.0
    told = prior.loss(tokens, y=[0, 1, 2], condition=torch.randn(3, 1, 5, generator=gen()))
    assert torch.equal(told, prior.eval().loss(tokens))


def test_guidance_goes_beyond_the_condition():
    prior = small()
    free, told = (
        prior.logits(torch.empty(1, 0, dtype=torch.int64)),
        prior.logits(torch.empty(1, 0, dtype=torch.int64), y=2),
    )
    for scale in (0.0, 3.0):
        wanted = (free + scale * (told - free))[0, -1].argmax()
        assert prior.sample(1, y=2, guidance=scale, top_k=1)[0, 0] == wanted


def test_a_short_condition_stands_next_to_the_start():
    prior = small(max_condition_tokens=3, condition_dim=5)
    ahead = prior._ahead(2, None, torch.ones(1, 2, 5))
    assert ahead.shape == (2, 4, 32)
    assert torch.equal(ahead[:, :2], prior.null[:2].expand(2, -1, -1))
    assert torch.equal(ahead[0, 2], prior.read(torch.ones(5, dtype=torch.float64)))


def test_recomputed_blocks_have_the_same_gradient():
    plain, tokens = small().train(), torch.randint(11, (3, 6), generator=gen())
    again = small(recompute=True).train()
    again.load_state_dict(plain.state_dict())
    grads = []
    for prior in (plain, copy.deepcopy(again)):
        with torch.random.fork_rng():
            torch.random.default_generator.manual_seed(0)
            prior.loss(tokens, y=[0, 1, 2]).backward()
        grads.append([p.grad for p in prior.parameters() if p.grad is not None])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_sizes_of_the_paper():
    with torch.device("meta"):
        sizes = [sum(p.numel() for p in ShapeGPT.of_size(s).parameters()) for s in ("base", "large", "huge")]
    # 12 width^2 weights a layer, and the tables
    assert 12 * 3072**2 * 32 < sizes[2] < 3.7e9
    assert 1.2e9 < sizes[1] < 1.25e9
    assert 8e7 < sizes[0] < 1e8


def test_a_seed_gives_the_same_weights_and_leaves_torchs_stream_alone():
    before = torch.get_rng_state()
    one, two = (ShapeGPT(11, 6, 32, 2, 4, random_state=3).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.trains
def test_learns_what_a_class_says():
    prior = ShapeGPT(4, 3, 32, 1, 4, n_classes=2, dropout=0.0, random_state=0)
    data = torch.tensor([[0, 1, 2], [3, 2, 3]])
    recipe = DescentRecipe(steps=150, lr=3e-3)
    descend(lambda x, y: prior.loss(x, y=y), prior, recipe, (data.repeat(16, 1), torch.arange(2).repeat(16)))
    for y in (0, 1):
        assert torch.equal(prior.sample(5, y=y, top_k=1), data[y].expand(5, -1))
    # without a class it is one or the other
    free = prior.sample(64, generator=gen())
    near = (free[:, None] == data).all(2).any(1)
    assert float(near.double().mean()) > 0.8


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"order": [0, 1, 2, 3, 4, 4]}, "once"),
        ({"condition_dim": 3}, "max_condition_tokens"),
        ({"p_uncond": 1.5}, "p_uncond"),
    ],
)
def test_building_says_what_is_wrong(options, said):
    with pytest.raises(ValueError, match=said):
        ShapeGPT(11, 6, 32, 2, 4, **options)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"y": 3}, ValueError, "classes go from 0 to 2"),
        ({"y": 0.5}, TypeError, "whole numbers"),
        ({"y": [0, 1, 2]}, ValueError, "one a shape"),
        ({"condition": torch.zeros(2, 1, 5)}, ValueError, "max_condition_tokens=0"),
        ({"prefix_tokens": torch.full((1, 2), 11)}, ValueError, "codes from 0 to 10"),
        ({"prefix_tokens": torch.zeros(1, 7, dtype=torch.int64)}, ValueError, "at most 6"),
        ({"guidance": 2.0}, ValueError, "give y or condition"),
    ],
)
def test_sampling_says_what_is_wrong(options, error, said):
    with pytest.raises(error, match=said):
        small().sample(2, **options)
    with pytest.raises(ValueError, match="tokens must have shape"):
        small().loss(torch.zeros(2, 5, dtype=torch.int64))
    with pytest.raises(ValueError, match="n_classes=0"):
        small(n_classes=0).loss(torch.zeros(2, 6, dtype=torch.int64), y=0)


def test_no_shapes_and_too_many_tokens():
    prior = small()
    assert prior.sample(0, y=[]).shape == (0, 6)
    with pytest.raises(ValueError, match="k at most 6"):
        prior.logits(torch.zeros(2, 7, dtype=torch.int64))
    with pytest.raises(TypeError, match="y must hold whole numbers"):
        prior.sample(2, y=["a", "b"])
