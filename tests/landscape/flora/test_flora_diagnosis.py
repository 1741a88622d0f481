"""Best Tucker forms of given updates, and what they keep."""

import math

import numpy as np
import pytest
import torch

from lodim.landscape.flora import (
    FLoRAConv2d,
    from_delta,
    tucker_energy,
    tucker_numbers,
    tucker_product,
)

pytest.importorskip("tensorly", reason="needs the extra 'tensor'")


def randn(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(8, 6), (9, 2), (7, 5, 3), (6, 5, 3, 3), (4, 3, 2, 3, 2)])
def test_full_ranks_keep_everything(shape):
    delta = randn(*shape)
    form = from_delta(delta, shape)
    assert form.ranks == shape
    assert form.n_numbers == tucker_numbers(shape, shape)
    assert form.kept == pytest.approx(1.0, abs=1e-12)
    torch.testing.assert_close(form.to_tensor(), delta)


def test_of_a_matrix_it_is_the_truncated_svd():
    delta = randn(12, 7)
    U, S, V = torch.linalg.svd(delta, full_matrices=False)
    form = from_delta(delta, 3)
    torch.testing.assert_close(form.to_tensor(), U[:, :3] @ torch.diag(S[:3]) @ V[:3])
    assert form.kept == pytest.approx(float(S[:3].square().sum() / S.square().sum()))


def test_an_update_of_low_rank_is_recovered():
    ranks = (3, 2, 2, 1)
    delta = tucker_product(randn(*ranks), [randn(i, j, seed=j + i) for i, j in zip((9, 8, 3, 3), ranks)])
    form = from_delta(delta, ranks)
    torch.testing.assert_close(form.to_tensor(), delta)
    for U in form.factors:
        torch.testing.assert_close(U.T @ U, torch.eye(U.shape[1], dtype=U.dtype))


def test_a_form_becomes_an_adapters_update():
    layer = FLoRAConv2d(torch.nn.Conv2d(5, 6, 3).double(), (3, 2, 2), scale=4.0)
    form = from_delta(randn(6, 5, 3, 3), (3, 2, 2))
    form.write_to(layer)
    torch.testing.assert_close(layer.delta(), form.to_tensor())
    with pytest.raises(ValueError, match="both ranks must agree"):
        from_delta(randn(6, 5, 3, 3), 2).write_to(layer)


def test_nothing_keeps_everything_and_what_is_not_finite_is_refused():
    assert from_delta(torch.zeros(4, 3), 2).kept == 1.0
    assert not from_delta(torch.zeros(4, 3), 2).to_tensor().any()
    with pytest.raises(ValueError, match="not finite"):
        from_delta(torch.full((4, 3), torch.nan), 2)


def test_energy_grows_to_one_and_counts_numbers():
    delta = randn(8, 6, 3, 3)
    energy = tucker_energy(delta)
    assert energy.ranks[0] == (1, 1, 1, 1)
    assert energy.ranks[-1] == (8, 6, 3, 3)
    assert list(energy.kept) == sorted(energy.kept)
    assert energy.kept[-1] == pytest.approx(1.0)
    assert energy.numbers == tuple(tucker_numbers(delta.shape, r) for r in energy.ranks)
    for mode, values in enumerate(energy.singular_values):
        expected = np.linalg.svd(
            np.moveaxis(delta.numpy(), mode, 0).reshape(delta.shape[mode], -1), compute_uv=False
        )
        np.testing.assert_allclose(values, expected)


def test_the_flattened_product_gets_at_most_as_many_numbers():
    delta = randn(8, 6, 3, 3)
    energy = tucker_energy(delta, [1, (8, 6), (4, 4, 3)])
    S = torch.linalg.svdvals(delta.flatten(1)).square()
    for n, rank, kept in zip(energy.numbers, energy.matrix_rank, energy.matrix_kept):
        assert rank == min(n // (8 + 54), 8)
        assert kept == pytest.approx(float(S[:rank].sum() / S.sum()))


def test_it_prints_tabulates_draws_and_travels():
    energy = tucker_energy(randn(6, 5, 3))
    assert str(energy).count("\n") == len(energy.ranks) + 1
    assert "(1, 1, 1)" in str(energy)
    assert len(energy.to_frame()) == len(energy.ranks)
    ax = energy.plot()
    assert [len(line.get_xdata()) for line in ax.lines[:2]] == [len(energy.ranks)] * 2
    assert math.prod(energy.shape) in ax.lines[2].get_xdata()


@pytest.mark.parametrize("unit", [1e-300, 1e250])
def test_updates_of_any_unit_keep_the_same_shares(unit):
    delta = randn(6, 5, 3).double()
    kept, far = tucker_energy(delta), tucker_energy(unit * delta)
    assert far.kept == pytest.approx(kept.kept)
    assert far.matrix_kept == pytest.approx(kept.matrix_kept)
    assert far.singular_values[0] == pytest.approx([unit * s for s in kept.singular_values[0]])
    torch.testing.assert_close(
        from_delta(unit * delta, 2).to_tensor() / unit, from_delta(delta, 2).to_tensor()
    )


def test_of_an_update_of_zeros_all_is_kept_in_every_form():
    found = tucker_energy(torch.zeros(4, 4, 3))
    assert set(found.kept) == set(found.matrix_kept) == {1.0}
