"""The vector quantiser: nearest codes, where gradients go, moving averages, restarts, averaged and copied states."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lodim.nets import VectorQuantizer
from lodim.randomness import build_seeded


def quantizer(n_codes=16, dim=4, **options):
    model = build_seeded(lambda: VectorQuantizer(n_codes, dim, **options), 0)
    model.fit_codes(vectors(n_codes, dim, seed=9), random_state=0)
    return model


def vectors(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("ema", [False, True])
def test_the_nearest_code_by_brute_force(dtype, ema):
    model, z = quantizer(ema=ema), vectors(3, 50, 4).to(dtype)
    out = model.eval()(z)
    distances = (z.double()[..., None, :] - model.codebook.double()).square().sum(-1)
    assert torch.equal(out.codes, distances.argmin(-1))
    assert out.vectors.dtype == dtype
    torch.testing.assert_close(out.vectors, model.decode(out.codes).to(dtype), atol=1e-2, rtol=1e-2)
    assert torch.equal(model(z.transpose(0, 1)).codes, out.codes.T)
    assert torch.equal(model.double().encode(z.double()), out.codes)


def test_of_equal_codes_the_first_and_chunks_do_not_show(monkeypatch):
    model, z = quantizer(8), vectors(100, 4)
    before = model.encode(z)
    monkeypatch.setattr("lodim.nets.quantizer._CHUNK_ENTRIES", 24)
    assert torch.equal(model.encode(z), before)
    with torch.no_grad():
        model.weight.fill_(0.5)
    assert not model.encode(z).any()


def test_the_gradient_passes_straight_through():
    model = quantizer().eval()
    z = vectors(5, 4).requires_grad_()
    out = model(z)
    (out.vectors * vectors(5, 4, seed=3)).sum().backward()
    torch.testing.assert_close(z.grad, vectors(5, 4, seed=3))
    assert model.weight.grad is None


@pytest.mark.parametrize(
    ("beta_on", "to_codes", "to_vectors"), [("codebook", 0.4, 1.0), ("commitment", 1.0, 0.4)]
)
def test_each_term_reaches_its_own_side_only(beta_on, to_codes, to_vectors):
    model = quantizer(beta_on=beta_on)
    z = vectors(6, 4).requires_grad_()
    out = model(z)
    out.loss.backward()
    pull = 2 * (z - model.decode(out.codes)).detach() / z.numel()
    torch.testing.assert_close(z.grad, to_vectors * pull)
    expected = torch.zeros_like(model.weight).index_add_(0, out.codes, -to_codes * pull)
    torch.testing.assert_close(model.weight.grad, expected)
    error = (z - model.decode(out.codes)).square().mean()
    torch.testing.assert_close(out.loss, 1.4 * error)


def test_moving_averages_follow_the_formula_and_reach_the_means():
    model, z = quantizer(4, 2, ema=True, decay=0.7), vectors(40, 2)
    codes, N, m = model.encode(z), model.usage.clone(), model.sums.clone()
    model(z)
    for j in range(4):
        n_j = int((codes == j).sum())
        torch.testing.assert_close(model.usage[j], 0.7 * N[j] + 0.3 * n_j)
        torch.testing.assert_close(model.sums[j], 0.7 * m[j] + 0.3 * z[codes == j].sum(0))
    for _ in range(100):
        codes = model(z).codes
    means = torch.stack([z[codes == j].mean(0) for j in range(4)])
    torch.testing.assert_close(model.codebook, means)
    assert not list(model.parameters())


def test_an_unused_code_keeps_its_place_however_long():
    model = quantizer(3, 2, ema=True, decay=0.5)
    model._place(torch.tensor([0]), torch.tensor([[50.0, 50.0]]))
    for _ in range(300):
        model(vectors(5, 2))
    torch.testing.assert_close(model.codebook[0], torch.tensor([50.0, 50.0]))
    assert 0 < float(model.usage[0]) < 1e-3
    state = copy.deepcopy(model.state_dict())
    model.eval()(vectors(5, 2, seed=4))
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("ema", [False, True])
def test_dead_codes_restart_on_vectors(ema):
    model, z = quantizer(64, 2, ema=ema, decay=0.5), vectors(200, 2)
    model._place(torch.arange(60), torch.full((60, 2), 40.0))
    for _ in range(20):
        before = model(z)
    generator = torch.Generator().manual_seed(0)
    assert model.restart_dead(z, generator=generator) >= 60
    assert all(bool((z == code).all(1).any()) for code in model.codebook[:60])
    after = model(z)
    assert after.perplexity > 5 * before.perplexity
    assert after.used > 0.5 > before.used
    assert model.restart_dead(z) == 0
    assert model.restart_dead(z[:0]) == 0
    with pytest.raises(ValueError, match="no vectors"):
        model.restart_dead(z[:0], below=np.inf)


def test_kmeans_starts_on_the_clusters():
    centres = 10 * vectors(5, 3, seed=2)
    z = (centres[:, None] + 0.01 * vectors(5, 20, 3)).reshape(-1, 3)
    model = build_seeded(lambda: VectorQuantizer(5, 3), 0)
    assert float(model.weight.detach().abs().max()) <= 1 / 5
    model.fit_codes(z, random_state=0)
    out = model(z)
    assert float(out.loss.detach()) < 1e-3
    torch.testing.assert_close(out.perplexity, torch.tensor(5.0))
    assert float(out.used) == 1.0
    with pytest.raises(ValueError, match="at least as many vectors"):
        model.fit_codes(z[:4])


@pytest.mark.parametrize("ema", [False, True])
def test_an_average_of_states_is_a_state(ema):
    model = quantizer(ema=ema, decay=0.9)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.6), use_buffers=True)
    usage, sums = model.usage.clone(), (model.usage[:, None] * model.codebook).detach().clone()
    averaged.update_parameters(model)  # the first call copies
    for step in range(5):
        model(vectors(30, 4, seed=step) + step)
        averaged.update_parameters(model)
        usage, sums = (
            0.6 * old + 0.4 * new for old, new in ((usage, model.usage), (sums, getattr(model, "sums", sums)))
        )
    torch.testing.assert_close(averaged.module.usage, usage)
    if ema:
        torch.testing.assert_close(averaged.module.codebook, sums / usage[:, None])
    assert all(tensor.is_floating_point() for tensor in model.state_dict().values())


@pytest.mark.parametrize("ema", [False, True])
def test_copies_compute_the_same(ema):
    model, z = quantizer(ema=ema), vectors(9, 4)
    model(z)
    fresh = VectorQuantizer(16, 4, ema=ema)
    fresh.load_state_dict(model.state_dict())
    for other in (fresh, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(z).vectors, model.eval()(z).vectors)
        model.train()


def test_a_vector_that_is_not_finite_moves_no_code():
    model, twin, z = quantizer(ema=True), quantizer(ema=True), vectors(30, 4)
    model(torch.cat([z, torch.full((1, 4), torch.nan), torch.full((1, 4), torch.inf)]))
    twin(z)
    torch.testing.assert_close(model.codebook, twin.codebook)
    torch.testing.assert_close(model.usage, twin.usage)


def test_empty_batches_and_wrong_shapes():
    model = quantizer()
    out = model(z=torch.zeros(0, 4, requires_grad=True))
    assert out.codes.shape == (0,)
    assert (float(out.loss.detach()), float(out.perplexity), float(out.used)) == (0.0, 1.0, 0.0)
    out.loss.backward()
    assert torch.isfinite(model.codebook).all()
    assert model(torch.zeros(4)).codes.shape == ()
    with pytest.raises(ValueError, match="4 numbers"):
        model(torch.zeros(3, 5))
    with pytest.raises(ValueError, match="beta_on"):
        VectorQuantizer(4, 2, beta_on="both")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model(vectors(50, 4)).codes, quantizer()(vectors(50, 4)).codes)


@pytest.mark.parametrize("decay", [0, 1e-30, 1])
def test_no_decay_divides_by_nothing(decay):
    model, far = quantizer(4, 2, ema=True, decay=decay), torch.tensor([50.0, 50.0])
    model._place(torch.tensor([0]), far[None])
    for seed in range(3):
        model(vectors(5, 2, seed=seed))
        model(torch.zeros(0, 2))
    torch.testing.assert_close(model.codebook[0], far)
    assert torch.isfinite(model.codebook).all()
    assert decay == 1 or model.restart_dead(vectors(5, 2)) > 0


def test_the_loss_of_half_precision_does_not_overflow():
    model, z = quantizer(dim=4, ema=True), 10 * vectors(40_000, 4)
    torch.testing.assert_close(model.eval()(z.half()).loss, model(z).loss, rtol=1e-3, atol=0)


@pytest.mark.parametrize("ema", [False, True])
def test_starts_and_restarts_take_finite_vectors_of_the_right_length(ema):
    model, z = quantizer(ema=ema), vectors(40, 4)
    bad = torch.tensor([torch.nan, torch.inf, 3e38])[:, None].expand(3, 4)
    model(torch.cat([z, bad]))
    model.fit_codes(torch.cat([bad, z]), random_state=0)
    assert torch.isfinite(model.codebook).all()
    assert model.restart_dead(torch.cat([bad, z[:1]]), below=np.inf) == 16
    torch.testing.assert_close(model.codebook.detach(), z[:1].expand(16, 4))
    for wrong in (model.fit_codes, model.restart_dead):
        with pytest.raises(ValueError, match="4 numbers"):
            wrong(vectors(40, 2))  # 20 rows of 4, were it cut anew
    with pytest.raises(ValueError, match="that are finite"):
        model.restart_dead(bad, below=np.inf)
    with pytest.raises(ValueError, match="below"):
        model.restart_dead(z, below=np.nan)


def test_with_moving_averages_beta_is_on_the_only_term():
    assert "beta=0.4 on commitment, ema=True" in repr(VectorQuantizer(4, 2, ema=True))
