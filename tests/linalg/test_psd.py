"""Roots and factors multiply back; what was clipped or added is said; rank-deficient matrices of any scale."""

import numpy as np
import pytest
import torch

from lodim.linalg import SafeCholesky, psd_sqrt, safe_cholesky


def gram(n, rank, scale=1.0, seed=0):
    root = np.random.default_rng(seed).normal(size=(n, rank))
    return scale * root @ root.T


@pytest.mark.parametrize("rank", [1, 7, 20, 40])
@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e150])
def test_the_root_squares_to_the_matrix(rank, scale):
    A = gram(20, rank, scale)
    root = psd_sqrt(A)
    np.testing.assert_allclose(root @ root, A, atol=1e-13 * A.max())
    np.testing.assert_array_equal(root, root.T)
    assert np.linalg.eigvalsh(root).min() > -1e-13 * root.max()


def test_roots_of_batches_and_precisions():
    A = torch.from_numpy(np.stack([gram(5, 9), 1e6 * gram(5, 2, seed=1)]))
    torch.testing.assert_close(psd_sqrt(A)[1], psd_sqrt(A[1]))
    assert psd_sqrt(A.float()).dtype == torch.float32
    assert psd_sqrt(A.bfloat16()).dtype == torch.bfloat16
    frozen = gram(4, 4)
    frozen.flags.writeable = False
    assert psd_sqrt(frozen).shape == (4, 4)
    np.testing.assert_array_equal(psd_sqrt(np.zeros((3, 3))), 0)


def test_what_is_clipped_is_said(recwarn):
    psd_sqrt(gram(20, 3))
    assert not recwarn.list  # rounding is no news
    with pytest.warns(UserWarning, match="an eigenvalue of -0.25 times its largest"):
        root = psd_sqrt(np.diag([4.0, -1.0]))
    np.testing.assert_allclose(root, np.diag([2.0, 0.0]))


@pytest.mark.parametrize("scale", [1e-100, 1.0, 1e100])
def test_definite_matrices_get_no_jitter_and_others_the_least(scale):
    A = gram(20, 40, scale)
    whole = safe_cholesky(A)
    assert whole.jitter == 0
    np.testing.assert_allclose(whole.factor, np.linalg.cholesky(A))
    flat = gram(20, 3, scale)
    found = safe_cholesky(flat)
    assert 0 < found.jitter < 1e-11 * np.trace(flat)
    np.testing.assert_allclose(
        found.factor @ found.factor.T, flat + found.jitter * np.eye(20), atol=1e-13 * flat.max()
    )


def test_each_of_a_batch_gets_its_own_jitter_and_a_gradient():
    A = torch.from_numpy(np.stack([gram(6, 9), gram(6, 2)])).requires_grad_()
    found = safe_cholesky(A)
    assert found.jitter[0] == 0 < found.jitter[1]
    found.factor[0].diagonal().log().sum().mul(2).backward()  # log det: its gradient is the inverse
    torch.testing.assert_close(A.grad[0], torch.linalg.inv(A[0].detach()))
    assert SafeCholesky.from_json(found.to_json()).jitter[0] == 0
    assert "jitter up to" in str(found)
    assert safe_cholesky(A.detach().float()).factor.dtype == torch.float32


def test_errors():
    with pytest.raises(ValueError, match=r"not positive definite, even with 0\.0001"):
        safe_cholesky(np.diag([1.0, -1.0]))
    assert safe_cholesky(np.diag([1.0, -0.01]), max_jitter=1.0).jitter > 0.01
    beyond = np.array([[1, 1 + 5e-5], [1 + 5e-5, 1]])  # between the last power of ten and the largest jitter
    assert safe_cholesky(beyond).jitter == pytest.approx(1e-4)
    assert safe_cholesky(beyond.astype(">f4")).jitter == pytest.approx(1e-4)
    assert "jitter up to 0" in str(safe_cholesky(np.zeros((0, 2, 2))))
    for function in (psd_sqrt, safe_cholesky):
        with pytest.raises(ValueError, match="masked"):
            function(np.ma.masked_array(np.eye(2), np.eye(2)))
        with pytest.raises(ValueError, match=r"square.*\(2, 3\)"):
            function(np.ones((2, 3)))
        with pytest.raises(ValueError, match="finite"):
            function(np.full((2, 2), np.nan))
