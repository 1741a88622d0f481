"""What every kind of projection promises, over kinds and sizes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lodim.sketch import KINDS, make_projection

EVERY = tuple(kind for kind in KINDS if kind != "partition")
UNIT = ("cyclic", "countsketch", "sparse_embedding", "sparse", "srht", "dense", "dense_orthonormal", "ams")
ORTHONORMAL = ("cyclic", "countsketch", "dense_orthonormal")
FAST = tuple(kind for kind in EVERY if not kind.startswith("dense") and kind != "ams")


def numbers(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def double(kind, D, d, **options):
    return make_projection(kind, D, d, dtype=torch.float64, **options)


@settings(max_examples=100, deadline=None)
@given(
    kind=st.sampled_from(EVERY),
    size=st.integers(1, 150).flatmap(lambda D: st.tuples(st.just(D), st.integers(1, D))),
    scale=st.sampled_from(["column", "row", "isotropic"]),
    seed=st.integers(0, 2**40),
    batch=st.sampled_from([(), (1,), (3,), (2, 3)]),
)
def test_both_products_are_those_of_one_matrix(kind, size, scale, seed, batch):
    D, d = size
    projection = double(kind, D, d, scale=scale, seed=seed)
    P = projection.matrix()
    v, g = numbers(*batch, d, seed=1), numbers(*batch, D, seed=2)
    assert P.shape == (D, d)
    torch.testing.assert_close(projection(v), v @ P.T)
    torch.testing.assert_close(projection.adjoint(g), g @ P)
    torch.testing.assert_close((projection(v) * g).sum(-1), (v * projection.adjoint(g)).sum(-1))


@pytest.mark.parametrize("kind", EVERY)
def test_adjointness_in_single_precision(kind):
    projection = make_projection(kind, 5000, 70, seed=3)
    v, g = numbers(70).float(), numbers(5000, seed=1).float()
    left = (projection(v).double() * g).sum()
    right = (v * projection.adjoint(g).double()).sum()
    assert abs(left - right) < 1e-5 * v.norm() * g.norm()


@pytest.mark.parametrize("kind", EVERY)
def test_the_gradient_is_the_adjoint_to_every_order(kind):
    projection = double(kind, 7, 2, scale="row", seed=1)
    v, g = numbers(2, 2).requires_grad_(), numbers(2, 7).requires_grad_()
    w = numbers(2, 7, seed=5)
    (gradient,) = torch.autograd.grad((projection(v) * w).sum(), v)
    torch.testing.assert_close(gradient, projection.adjoint(w))
    assert torch.autograd.gradcheck(projection, v, check_forward_ad=True)
    assert torch.autograd.gradcheck(projection.adjoint, g, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda v: projection(v) ** 3, v)


@pytest.mark.parametrize("kind", EVERY)
def test_function_transforms(kind):
    projection = double(kind, 30, 4, seed=1)
    P, V = projection.matrix(), numbers(4, 5)
    torch.testing.assert_close(torch.func.vmap(projection, in_dims=1)(V), V.T @ P.T)
    per_sample = torch.func.vmap(torch.func.grad(lambda v: (projection(v) ** 2).sum()))
    torch.testing.assert_close(per_sample(V.T), 2 * V.T @ P.T @ P)
    torch.testing.assert_close(torch.func.hessian(lambda v: (projection(v) ** 2).sum())(V[:, 0]), 2 * P.T @ P)


@pytest.mark.parametrize("kind", UNIT)
@pytest.mark.parametrize(("D", "d"), [(1000, 37), (513, 256), (64, 64), (5, 4), (1, 1)])
def test_columns_of_unit_length(kind, D, d):
    norms = double(kind, D, d, seed=2).matrix().norm(dim=0)
    torch.testing.assert_close(norms, torch.ones(d, dtype=torch.float64), rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", sorted(set(EVERY) - set(UNIT)))
def test_columns_of_unit_length_in_the_mean(kind):
    for D, d in ((4096, 200), (3000, 130)):
        norms = double(kind, D, d, seed=2).matrix().norm(dim=0)
        assert abs(norms.mean() - 1) < 0.01


@pytest.mark.parametrize("kind", ORTHONORMAL)
@pytest.mark.parametrize(("D", "d"), [(700, 50), (64, 64), (100, 99), (3, 2)])
def test_orthonormal_columns(kind, D, d):
    P = double(kind, D, d, seed=2).matrix()
    torch.testing.assert_close(P.T @ P, torch.eye(d, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["dense", "dense_lazy", "fastfood", "fastfood_block", "ams"])
def test_columns_are_nearly_orthogonal(kind):
    D = 4096
    P = double(kind, D, 100, seed=4).matrix()
    gram = P.T @ P
    assert (gram - gram.diag().diag()).abs().max() < 6 / math.sqrt(D)


@pytest.mark.parametrize("kind", EVERY)
def test_lengths_are_kept(kind):
    """Johnson-Lindenstrauss for the map up: ||P v|| is ||v|| within a tenth."""
    v = numbers(20, 100)
    projection = double(kind, 5000, 100, seed=1)
    assert (projection(v).norm(dim=-1) / v.norm(dim=-1) - 1).abs().max() < 0.1


@pytest.mark.parametrize("kind", EVERY)
def test_scales_differ_by_one_factor(kind):
    column, row, isotropic = (
        double(kind, 90, 10, scale=s, seed=1).matrix() for s in ("column", "row", "isotropic")
    )
    torch.testing.assert_close(row, column * 3)
    torch.testing.assert_close(row, isotropic, rtol=0, atol=0)


FEW = torch.zeros(96, dtype=torch.float64)
FEW[0] = FEW[12] = 1.0


@pytest.mark.parametrize("kind", EVERY)
def test_moments_of_isotropic_sketches(kind):
    """Over seeds: E[P P^T] = I, E||P P^T g||^2 is bounded, and inner products survive, for whatever vectors."""
    D, d, n = 96, 12, 300
    samples = torch.stack([double(kind, D, d, scale="isotropic", seed=s).matrix() for s in range(n)])

    # unbiased entry by entry: every mean lies within sampling error
    outer = samples[:, :24] @ samples[:, :24].mT
    error = outer.mean(0) - torch.eye(24, dtype=torch.float64)
    allowed = 5.5 * outer.std(0) / math.sqrt(n) + 1e-9
    assert (error.abs() <= allowed).all(), float((error.abs() / allowed).max())

    # E||P P^T g||^2 <= (1 + alpha D/d) ||g||^2 with alpha close to 1
    for g in (numbers(D), torch.eye(D, dtype=torch.float64)[5], torch.ones(D, dtype=torch.float64)):
        ratios = (samples @ (samples.mT @ g)[..., None]).square().sum((1, 2)) / g.square().sum()
        mean, error = ratios.mean(), ratios.std() / math.sqrt(n)
        assert mean - 4 * error <= 1 + 1.05 * D / d
        assert mean > 0.5 * D / d  # and it cannot be far below: d numbers cannot hold D

    # the squared error of <P^T g, P^T h> is at most about 2 ||g||^2 ||h||^2 / d, also for vectors of few entries;
    # not for cyclic (next test), nor for the kinds whose entries have heavy fourth moments
    if kind not in ("cyclic", "sparse", "fastfood_block", "kron", "dense_orthonormal"):
        for g, h in ((numbers(D), numbers(D, seed=1)), (FEW, FEW)):
            errors = ((g @ samples) * (h @ samples)).sum(-1) - g @ h
            squares = errors.square() / (g @ g * (h @ h))
            assert squares.mean() - 4 * squares.std() / math.sqrt(n) <= 2.2 / d


def test_fixed_groups_can_be_hit_by_an_adversary():
    """Why the cyclic map is for training only: two entries of one fixed group always collide."""
    D, d = 96, 12
    g = torch.zeros(D, dtype=torch.float64)
    g[0] = g[d] = 1.0
    lengths = {
        kind: torch.stack(
            [double(kind, D, d, scale="isotropic", seed=s).adjoint(g).square().sum() for s in range(100)]
        )
        for kind in ("cyclic", "countsketch")
    }
    assert set(lengths["cyclic"].round(decimals=9).tolist()) == {0.0, 4.0}
    assert (lengths["countsketch"].round(decimals=9) == 2).double().mean() > 0.8


@pytest.mark.parametrize("kind", EVERY)
def test_the_seed_decides(kind):
    one, same, other = (make_projection(kind, 80, 9, seed=s) for s in (1, 1, 2))
    torch.testing.assert_close(one.matrix(), same.matrix(), rtol=0, atol=0)
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()
    assert not torch.equal(one.matrix(), other.matrix())
    in_double = make_projection(kind, 80, 9, seed=1, dtype=torch.float64).matrix()
    torch.testing.assert_close(one.matrix().double(), in_double, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", EVERY)
def test_reseeding_by_a_counter(kind):
    projection = make_projection(kind, 80, 9, seed=1)
    first = projection.matrix()
    rounds = [projection.reseed(r).matrix() for r in (1, 2)]
    assert not torch.equal(rounds[0], first)
    assert not torch.equal(rounds[0], rounds[1])
    torch.testing.assert_close(projection.reseed(0).matrix(), first, rtol=0, atol=0)
    torch.testing.assert_close(
        make_projection(kind, 80, 9, seed=1).reseed(2).matrix(), rounds[1], rtol=0, atol=0
    )


def test_the_global_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    for kind in EVERY:
        make_projection(kind, 50, 5)(torch.ones(5))
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


def test_partition_is_another_name_of_countsketch():
    partition = make_projection("partition", 60, 7, seed=2)
    assert partition.kind == "countsketch"
    assert partition.fingerprint() == make_projection("countsketch", 60, 7, seed=2).fingerprint()


@pytest.mark.parametrize("kind", FAST)
def test_memory_is_linear_in_D(kind):
    small, large = (make_projection(kind, D, 16).n_stored for D in (1 << 12, 1 << 14))
    assert large < 4.5 * small
    assert large < 20 * (1 << 14)


def test_lazy_kinds_store_nothing_of_size_D():
    assert make_projection("dense_lazy", 1 << 20, 100).n_stored == 4
    assert make_projection("ams", 1 << 20, 100).n_stored < 100 * 64


@pytest.mark.parametrize(("D", "d"), [(10, 0), (10, 11), (10, -1), (0, 0)])
def test_impossible_sizes_are_named(D, d):
    for kind in EVERY:
        with pytest.raises(ValueError, match=rf"d={d} and D={D}"):
            make_projection(kind, D, d)


def test_an_unknown_kind_lists_the_kinds():
    with pytest.raises(ValueError, match=r"'cyclic', .*'fastfood'.* Did you mean .*'countsketch'") as caught:
        make_projection("count_sketch", 10, 2)
    assert all(repr(kind) in str(caught.value) for kind in KINDS)


def test_options_of_another_kind_are_refused():
    with pytest.raises(TypeError, match="density"):
        make_projection("cyclic", 10, 2, density=0.5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", EVERY)
def test_the_same_map_on_the_gpu(kind):
    D, d = 3000, 120
    projection = make_projection(kind, D, d, seed=4)
    v, g = numbers(2, d).float(), numbers(2, D).float()
    up, down, fingerprint = projection(v), projection.adjoint(g), projection.fingerprint()
    made_there = make_projection(kind, D, d, seed=4, device="cuda")
    assert projection.to("cuda").fingerprint() == made_there.fingerprint() == fingerprint
    for moved in (projection, made_there):
        torch.testing.assert_close(moved(v.cuda()).cpu(), up, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(moved.adjoint(g.cuda()).cpu(), down, rtol=1e-4, atol=1e-5)
