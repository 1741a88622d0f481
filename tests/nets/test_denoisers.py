"""Backbones with a noise level: the contract, conditions, odd sizes, symmetries, what they can learn."""

import copy
import pickle

import pytest
import torch

from lodim.nets import SmallUNet, TimeMLP
from lodim.randomness import build_seeded

SIZES = {"cond_dim": 3, "n_classes": 4, "context_dim": 5}
NETS = {
    "mlp": (lambda **o: TimeMLP(6, 32, 2, **(SIZES | o)), (6,)),
    "unet": (lambda **o: SmallUNet(2, 8, (1, 2), (0, -1), **(SIZES | o)), (2, 7, 10)),
}


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def net(kind, **options):
    model = build_seeded(lambda: NETS[kind][0](**options), 0)
    with torch.no_grad():  # away from the zeros of the last layer
        for i, p in enumerate(model.last.parameters()):
            p.add_(noise(*p.shape, seed=i))
    return model


def inputs(kind, n=3):
    cond = {"vector": noise(n, 3, seed=1), "label": torch.arange(n) % 5, "context": noise(n, 4, 5, seed=2)}
    return noise(n, *NETS[kind][1], seed=3), noise(n, seed=4), cond


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_shape_and_precision_that_came_in_go_out(kind, dtype):
    model, (x, level, cond) = net(kind).to(dtype), inputs(kind)
    out = model(x=x.to(dtype), c_noise=level, cond=cond)
    assert (out.shape, out.dtype) == (x.shape, dtype)
    assert torch.isfinite(out).all()
    assert model(x[:0].to(dtype), level[:0]).shape == x[:0].shape
    turned = x.to(dtype).mT.contiguous().mT if x.ndim > 2 else x.to(dtype).T.contiguous().T
    torch.testing.assert_close(model(turned, level, cond), out)


@pytest.mark.parametrize("kind", NETS)
def test_an_untrained_net_returns_zero(kind):
    x, level, cond = inputs(kind)
    assert not NETS[kind][0]()(x, level, cond).any()


@pytest.mark.parametrize("kind", NETS)
def test_samples_do_not_see_each_other(kind):
    model, (x, level, cond) = net(kind), inputs(kind)
    whole = model(x, level, cond)
    alone = model(x[1:2], level[1:2], {name: part[1:2] for name, part in cond.items()})
    torch.testing.assert_close(alone, whole[1:2])


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("name", ["level", "vector", "label", "context"])
def test_each_condition_matters_and_can_be_left_out(kind, name):
    model, (x, level, cond) = net(kind), inputs(kind)
    whole = model(x, level, cond)
    if name == "level":
        assert not torch.allclose(model(x, level + 0.05, cond), whole, atol=1e-4)
        return
    changed = cond | {name: (cond[name] + 1) % 5 if name == "label" else cond[name] + 1}
    without = {key: part for key, part in cond.items() if key != name}
    for other in (changed, without):
        assert not torch.allclose(model(x, level, other), whole, atol=1e-5)
    plain = build_seeded(lambda: NETS[kind][0](cond_dim=0, n_classes=0, context_dim=0), 0)
    with pytest.raises(ValueError, match=f"cond has a {name}"):
        plain(x, level, {name: cond[name]})


@pytest.mark.parametrize("kind", NETS)
def test_what_is_not_known_can_be_said_sample_by_sample(kind):
    """A label of -1 is the class that means none; a vector with NaN is one left out, and gives no NaN gradient."""
    model, (x, level, cond) = net(kind), inputs(kind)
    for label in (torch.tensor([0, -1, 3]), torch.tensor([0, -1, 3], dtype=torch.int32)):
        none = torch.tensor([0, 4, 3])
        assert torch.equal(model(x, level, cond | {"label": label}), model(x, level, cond | {"label": none}))
    for wrong in (5, -2):
        with pytest.raises(IndexError):
            model(x, level, cond | {"label": torch.tensor([0, wrong, 3])})
    vector = cond["vector"].clone()
    vector[1, 2] = torch.nan
    out = model(x, level, cond | {"vector": vector})
    without = model(x, level, {name: part for name, part in cond.items() if name != "vector"})
    torch.testing.assert_close(out[1], without[1])
    torch.testing.assert_close(out[[0, 2]], model(x, level, cond)[[0, 2]])
    out.square().sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize("kind", NETS)
def test_the_order_of_a_context_does_not_matter(kind):
    model, (x, level, cond) = net(kind), inputs(kind)
    turned = cond | {"context": cond["context"][:, [3, 0, 2, 1]]}
    torch.testing.assert_close(model(x, level, turned), model(x, level, cond), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", NETS)
def test_numbers_of_a_thousand_steps_are_told_apart(kind):
    model, (x, _, _) = net(kind), inputs(kind)
    for dtype in (torch.float32, torch.bfloat16):
        a, b = (model.to(dtype).embed(torch.tensor([t]), {}) for t in (998, 999))
        assert float((a - b).detach().abs().max()) > 1e-3
    assert torch.equal(model.float()(x, torch.tensor([1, 2, 3])), model(x, torch.tensor([1.0, 2.0, 3.0])))


@pytest.mark.parametrize("kind", NETS)
def test_every_parameter_takes_part_and_copies_compute_the_same(kind):
    model, (x, level, cond) = net(kind), inputs(kind)
    out = model(x, level, cond)
    out.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())
    fresh = NETS[kind][0]()
    fresh.load_state_dict(model.state_dict())
    for other in (fresh, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x, level, cond), out)
    assert not list(model.buffers())


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (8, 8), (7, 16)])
def test_any_size_of_image(size):
    model = build_seeded(lambda: SmallUNet(1, 8), 0)
    torch.nn.init.normal_(model.last.weight, generator=torch.Generator().manual_seed(0))
    x = noise(2, 1, *size)
    out = model(x, torch.zeros(2))
    assert out.shape == x.shape
    step = 4
    padded = torch.nn.functional.pad(x, (0, -size[1] % step, 0, -size[0] % step), mode="replicate")
    torch.testing.assert_close(model(padded, torch.zeros(2))[:, :, : size[0], : size[1]], out)


def test_self_attention_stands_where_it_was_asked_for():
    levels = [block.attn is not None for block in SmallUNet(1, 8, (1, 2, 2), (0, -1)).down]
    assert levels == [True, False, True]
    assert not any(block.attn for block in SmallUNet(1, 8, attn=()).down)
    with pytest.raises(ValueError, match="a level of attn"):
        SmallUNet(1, 8, (1, 2), (2,))


@pytest.mark.parametrize("seed", range(3))
def test_the_mlp_holds_the_best_denoiser_of_every_level(seed):
    """For data N(0, 1) with noise of deviation s it is x / (1 + s^2), with error s^2 / (1 + s^2).

    Only the last layer is fitted, by least squares. A net that is blind to the level, a x for all of them, exceeds the
    tenth of that error that is asked for: at s = 0.3 and 2 together it is off by 0.29 of it for the best a.
    """
    net = build_seeded(lambda: TimeMLP(1, 32, 1), seed).double()
    kept = []
    net.last.register_forward_pre_hook(lambda _, given: kept.append(given[0].detach()))
    s = torch.tensor([0.3, 0.5, 1.0, 2.0], dtype=torch.float64).repeat_interleave(31)
    x = torch.linspace(-1.5, 1.5, 31, dtype=torch.float64).repeat(4)
    net(x[:, None], s.log())
    best = x / (1 + s**2)
    features = torch.cat([kept[0], torch.ones(len(x), 1, dtype=torch.float64)], 1)
    found = features @ torch.linalg.lstsq(features, best, driver="gelsd").solution
    shares = (found - best).square() * (1 + s**2) / s**2
    assert float(shares.view(4, 31).mean(1).max()) < 0.1


def test_what_does_not_fit_is_said():
    model, (x, level, cond) = net("unet"), inputs("unet")
    with pytest.raises(ValueError, match=r"not 'vektor'\. Did you mean 'vector'"):
        model(x, level, {"vektor": cond["vector"]})
    with pytest.raises(ValueError, match="2 channels"):
        model(x[:, :1], level)
    with pytest.raises(ValueError, match="a sample must have 6 numbers"):
        net("mlp")(x, level)
    shaped = noise(3, 2, 3)
    assert torch.equal(net("mlp")(shaped, level), net("mlp")(shaped.flatten(1), level).view(3, 2, 3))
    with pytest.raises(ValueError, match="base"):
        SmallUNet(1, 0)
