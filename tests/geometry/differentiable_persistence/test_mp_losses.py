"""Distances and losses of signed measures: metric properties, stability, and known values."""

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from lodim.geometry.differentiable_persistence import (
    SignedMeasureLayer,
    TopologicalLoss,
    TopologicalRegularizer,
    hilbert_volume,
    linear,
    sm_distance,
    tapered,
    to_zero,
)
from lodim.geometry.differentiable_persistence.losses import _directions
from lodim.geometry.multiparameter_persistence import FunctionRips, SignedMeasure, graph_complex


def measure(m=12, seed=0, mass=2):
    rng = np.random.default_rng(seed)
    weights = rng.choice([-2, -1, 1, 2], size=m)
    weights[-1] += mass - weights.sum()
    return SignedMeasure(torch.from_numpy(rng.normal(size=(m, 2))), torch.from_numpy(weights).double())


@pytest.fixture(params=["sliced", "exact"])
def method(request):
    if request.param == "exact":
        pytest.importorskip("ot")
    return request.param


def test_metric(method):
    a, b, c = (measure(seed=s) for s in range(3))

    def d(p, q):
        return float(sm_distance(p, q, method))

    assert d(a, b) == pytest.approx(d(b, a))
    assert d(a, a) == pytest.approx(0, abs=1e-12)
    assert d(a, b) <= d(a, c) + d(c, b) + 1e-12
    scaled = [SignedMeasure(3 * m.points, m.weights) for m in (a, b)]
    assert d(*scaled) == pytest.approx(3 * d(a, b))
    cancelled = SignedMeasure(
        torch.cat([a.points, torch.ones(2, 2).double()]),
        torch.cat([a.weights, torch.tensor([1.0, -1]).double()]),
    )
    assert d(cancelled, b) == pytest.approx(d(a, b))


def test_sliced_is_the_mean_of_line_distances_and_at_most_exact():
    a, b = measure(seed=1), measure(seed=2)
    values = []
    for t in _directions(2, 9, 0):
        left = torch.cat([a.points[a.weights > 0], b.points[b.weights < 0]]) @ t
        right = torch.cat([b.points[b.weights > 0], a.points[a.weights < 0]]) @ t
        u = torch.cat([a.weights[a.weights > 0], -b.weights[b.weights < 0]])
        v = torch.cat([b.weights[b.weights > 0], -a.weights[a.weights < 0]])
        values.append(wasserstein_distance(left, right, u, v) * float(u.sum()))
    assert float(sm_distance(a, b, n_proj=9)) == pytest.approx(np.mean(values))
    pytest.importorskip("ot")
    for seed in range(5):
        a, b = measure(seed=seed), measure(seed=seed + 10)
        assert float(sm_distance(a, b)) <= float(sm_distance(a, b, "exact"))


def test_known_value_and_gradient(method):
    points = torch.tensor([[0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    one = torch.ones(1).double()
    value = sm_distance(
        SignedMeasure(points, one), SignedMeasure(torch.tensor([[3.0, 4.0]]).double(), one), method, 4000
    )
    factor = 1.0 if method == "exact" else 2 / np.pi  # mean of |cos|
    assert float(value.detach()) == pytest.approx(5 * factor, rel=1e-5)
    value.backward()
    torch.testing.assert_close(
        points.grad, -factor * torch.tensor([[0.6, 0.8]]).double(), rtol=1e-4, atol=1e-4
    )


def test_missing_mass_goes_to_the_corner(method):
    a, b = measure(mass=1), measure(seed=1, mass=3)
    with pytest.raises(ValueError, match="corner must hold 2 finite numbers"):
        sm_distance(a, b, method, corner=[5])
    with pytest.raises(ValueError, match="corner must hold 2 finite numbers"):
        sm_distance(a, b, method, corner=[5, np.nan])
    with pytest.raises(ValueError, match=r"corner="):
        sm_distance(a, b, method)
    end = torch.tensor([[5.0, 5.0]]).double()
    filled = SignedMeasure(torch.cat([a.points, end]), torch.cat([a.weights, torch.tensor([2.0]).double()]))
    assert float(sm_distance(a, b, method, corner=[5, 5])) == pytest.approx(
        float(sm_distance(filled, b, method))
    )


@pytest.mark.parametrize(("invariant", "constant"), [("hilbert", 2), ("euler", 1)])
def test_stability_in_the_filtration(invariant, constant):
    """OT_1 between measures of two filtrations of one complex is at most p (Euler: 1) times their l1 distance."""
    pytest.importorskip("ot")
    rng = np.random.default_rng(0)
    edges = [(a, b) for a in range(9) for b in range(a + 1, 9) if rng.random() < 0.5]
    layer = SignedMeasureLayer(invariant, 0)
    for size in (0.01, 0.3, 2.0):
        values = torch.from_numpy(rng.normal(size=(9, 2)))
        f, g = (
            graph_complex(edges, v, cliques=True)
            for v in (values, values + size * torch.randn(9, 2).double())
        )
        gap = float((f.expand().filtration - g.expand().filtration).abs().sum())
        assert 0 < float(sm_distance(layer(f), layer(g), "exact")) <= constant * gap


def test_functionals_by_hand():
    mu = SignedMeasure(torch.tensor([[0.0, 0.0], [1.0, 0.5], [9.0, 0.0]]), torch.tensor([1.0, -1.0, 4.0]))
    assert float(hilbert_volume(([0, 0], [2, 1]))(mu)) == pytest.approx(2 * 1 - 1 * 0.5)
    assert float(to_zero(([0, 0], [2, 1]))(mu)) == pytest.approx(1 + 0.5)
    grid = np.linspace(0, 2, 201), np.linspace(0, 1, 201)
    integral = mu.integrate(*grid).mean() * 2
    assert float(hilbert_volume(([0, 0], [2, 1]))(mu)) == pytest.approx(integral, abs=0.02)
    with pytest.raises(ValueError, match="lower corner"):
        to_zero(([1, 1], [0, 0]))


def test_what_callables_return_is_one_number_a_point_or_one_in_all():
    """A column would be paired with every weight, and the sum be that of all pairs."""
    mu = SignedMeasure(torch.tensor([[0.0, 2.0], [1.0, 0.5]]), torch.tensor([1.0, -1.0]))
    assert float(linear(lambda x: x[:, 1])(mu)) == 1.5
    for phi in (lambda x: x[:, 1:], lambda x: x, lambda x: None):
        with pytest.raises(ValueError, match="one number a point"):
            linear(phi)(mu)
    layer = SignedMeasureLayer("hilbert", 0)
    for functional in (lambda m: m.points[:, 0], lambda m: 1.0, lambda m: None):
        with pytest.raises(ValueError, match="functional must return a scalar tensor"):
            TopologicalLoss(layer, functional)(torch.eye(3))
    with pytest.raises(TypeError, match="FilteredComplex"):
        TopologicalLoss(layer, to_zero(([0, 0], [3, 3])), filtration=lambda x: x)(torch.eye(3))
    for width, threshold in ((0.0, 1.0), (0.1, 0.0)):
        with pytest.raises(ValueError, match="must be positive"):
            tapered(lambda x: x[:, 0], threshold, width=width)


@pytest.mark.filterwarnings("error")
def test_regulariser_pairs_a_batch_with_its_image_however_small():
    regularizer = TopologicalRegularizer()
    with pytest.raises(ValueError, match="6 samples and its image z 3"):
        regularizer(torch.zeros(6, 2), torch.zeros(3, 1))
    for n in (0, 1):
        assert float(regularizer(torch.zeros(n, 2), torch.zeros(n, 1))) == 0
    numbers = torch.arange(4.0)
    assert float(regularizer(numbers, numbers[:, None])) == 0


def test_loss_of_a_list_is_the_mean():
    loss = TopologicalLoss(SignedMeasureLayer("hilbert", 0), hilbert_volume(([0, 0], [3, 5])), weight=-2.0)
    clouds = [torch.randn(8, 2, generator=torch.Generator().manual_seed(s)) for s in range(2)]
    assert float(loss(clouds)) == pytest.approx(np.mean([float(loss(c)) for c in clouds]), rel=1e-6)
    assert float(loss(FunctionRips()(clouds[0]))) == float(loss(clouds[0]))


def test_regulariser_vanishes_on_similar_clouds_and_sees_torn_ones():
    x = torch.randn(30, 3, generator=torch.Generator().manual_seed(0)).double()
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)).double())[0]
    same = TopologicalRegularizer()
    assert float(same(x, 5 * x @ turn + 1)) == pytest.approx(0, abs=1e-9)
    assert float(TopologicalRegularizer(scale="none")(x, 5 * x)) > 1
    assert float(TopologicalRegularizer(scale="neighbour")(x, 5 * x @ turn + 1)) == pytest.approx(0, abs=1e-9)
    torn = x.clone()
    torn[:15] += 20
    torn.requires_grad_(True)
    value = same(x.view(30, 1, 3), torn)
    assert float(value.detach()) > 0.1
    value.backward()
    assert float(torn.grad.norm()) > 0
    assert float(TopologicalRegularizer(weight=3.0)(x, torn.detach())) == pytest.approx(
        3 * float(value.detach())
    )


@pytest.mark.parametrize("make", [hilbert_volume, to_zero])
@pytest.mark.parametrize("box", [[1, 2, 3], [1.0, 2.0], 3.0, ([0, 0], [1, 1, 1]), ([1, 1], [0, 2]), "ab"])
def test_boxes_are_two_corners(make, box):
    with pytest.raises(ValueError, match=r"box must be \(lower corner, upper corner\)"):
        make(box)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", ["rms", "neighbour", "none"])
def test_regulariser_takes_half_precision(dtype, scale):
    """Distances are taken in single precision; the gradient comes back in the batch's own."""
    rng = torch.Generator().manual_seed(0)
    x, z = torch.randn(12, 5, generator=rng).to(dtype), torch.randn(12, 2, generator=rng).to(dtype)
    z.requires_grad_()
    found = TopologicalRegularizer(scale=scale)(x, z)
    found.backward()
    assert z.grad.dtype == dtype
    assert bool(z.grad.any())
    assert bool(z.grad.isfinite().all())
    whole = TopologicalRegularizer(scale=scale)(x.float(), z.detach().float())
    assert found.item() == pytest.approx(whole.item(), rel=1e-6)


def test_regulariser_under_automatic_mixed_precision():
    encoder, x = torch.nn.Linear(5, 2), torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z = encoder(x)
        assert z.dtype == torch.bfloat16
        TopologicalRegularizer()(x, z).backward()
    assert bool(encoder.weight.grad.any())
