"""The bias-free U-Net: homogeneous, its Jacobian's product with its input, normalisation, the published size."""

import copy

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lodim.nets import BFCNN, BiasFreeNorm2d, BiasFreeUNet
from lodim.randomness import build_seeded


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def net(**options):
    model = build_seeded(lambda: BiasFreeUNet(**({"channels": 2, "width": 4, "depth": 2} | options)), 0)
    return settled(model)


def settled(model):
    """In evaluation mode, with running deviations that are those of a batch."""
    for layer in model.double().modules():
        if isinstance(layer, BiasFreeNorm2d):
            layer.momentum = 1.0
    model(5 * noise(4, 2, 8, 12))
    return model.eval()


def chain():
    return settled(build_seeded(lambda: BFCNN(2, 4, 6), 0))


@pytest.mark.parametrize("make", [net, chain])
def test_it_is_homogeneous_and_equals_its_jacobian_times_its_input(make):
    model, y = make(), noise(1, 2, 8, 12)
    for a in (0.5, 2.0, 1024.0):  # powers of two: to the bit
        assert torch.equal(model(a * y), a * model(y))
    torch.testing.assert_close(model(3.7 * y), 3.7 * model(y))
    assert not model(torch.zeros_like(y)).any()
    assert (model(-y) + model(y)).norm() > 0.01 * model(y).norm()  # it is no linear map
    torch.testing.assert_close(torch.func.jvp(model, (y,), (y,))[1], model(y))
    torch.testing.assert_close(model.denoise(y), y - model(y))


@pytest.mark.parametrize(("depth", "published"), [(3, 7.6e6), (2, 1.8e6)])
def test_the_published_numbers_of_parameters(depth, published):
    found = sum(p.numel() for p in BiasFreeUNet(1, 64, depth).parameters())
    assert published <= found < published + 0.1e6
    assert not [name for name, _ in BiasFreeUNet().named_parameters() if "bias" in name]


def test_the_chain_of_convolutions_has_the_published_size_and_takes_any_image():
    model = BFCNN()
    assert sum(p.numel() for p in model.parameters()) == 702_784  # "700k"
    assert sum(isinstance(layer, torch.nn.Conv2d) for layer in model.modules()) == 21
    assert not [name for name, _ in model.named_parameters() if "bias" in name]
    assert chain()(noise(1, 2, 7, 5)).shape == (1, 2, 7, 5)
    with pytest.raises(ValueError, match="depth must be at least 2"):
        BFCNN(depth=1)


def test_the_normalisation_divides_only():
    norm, x = BiasFreeNorm2d(3).double(), 4 + 2 * noise(5, 3, 6, 7)
    sd = (x.var((0, 2, 3), correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(norm(x), x / sd[:, None, None] * norm.weight[:, None, None])
    torch.testing.assert_close(norm.running_sd, 0.9 + 0.1 * sd)
    norm.eval()
    torch.testing.assert_close(norm(x), x / norm.running_sd[:, None, None] * norm.weight[:, None, None])
    start = build_seeded(lambda: BiasFreeNorm2d(5000), 0).weight.detach()
    assert float(start.abs().max()) <= 0.025
    assert float(start.std()) == pytest.approx(2 / 576, rel=0.05)
    before = norm.running_sd.clone()
    assert norm.train()(x[:0]).shape == (0, 3, 6, 7)
    assert torch.equal(norm.running_sd, before)


def test_evaluation_does_not_depend_on_the_rest_of_the_batch():
    model, y = net(), noise(6, 2, 8, 8)
    torch.testing.assert_close(model(y)[2:3], model(y[2:3]))
    single = copy.deepcopy(model).float()
    assert single(y.float()).dtype == torch.float32
    assert model.bfloat16()(y.bfloat16()).dtype == torch.bfloat16


def test_an_average_of_weights_and_deviations_is_homogeneous_too():
    model = net()
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    for seed in range(3):
        model.train()(noise(4, 2, 8, 8, seed=seed) * 10**seed)
        averaged.update_parameters(model)
    y = noise(1, 2, 8, 8)
    averaged.eval()
    torch.testing.assert_close(averaged(3.7 * y), 3.7 * averaged(y))
    assert all(b.is_floating_point() and bool((b > 0).all()) for b in model.buffers())


def test_sizes_that_do_not_halve_are_refused():
    with pytest.raises(ValueError, match="multiples of 4, got"):
        net()(noise(1, 2, 8, 10))
    assert net(depth=0)(noise(1, 2, 7, 5)).shape == (1, 2, 7, 5)


def test_large_and_infinite_inputs_do_not_spoil_the_running_deviation():
    norm, x = BiasFreeNorm2d(2), 1000 * noise(4, 2, 8, 8).float()
    torch.testing.assert_close(norm(x.half()), norm(x).half(), rtol=1e-2, atol=1e-3)  # 1000^2 is none in half
    before = norm.running_sd.clone()
    assert torch.isfinite(before).all()
    x[0, 0, 0, 0] = torch.inf
    norm(x)
    assert torch.equal(norm.running_sd[0], before[0])
    assert not torch.equal(norm.running_sd[1], before[1])
