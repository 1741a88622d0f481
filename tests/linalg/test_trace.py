"""Hutchinson's estimator against matrices whose trace and variance are known."""

import math

import numpy as np
import pytest
import torch

from lodim.linalg import TraceEstimate, hutchinson_trace
from lodim.validation import ConvergenceWarning


def wishart(n, seed=0):
    """A positive semi-definite matrix in double precision, like a Hessian's."""
    root = torch.randn(n, 2 * n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return root @ root.T / n


def estimate(A, **options):
    return hutchinson_trace(lambda z: A @ z, len(A), dtype=A.dtype, **options)


@pytest.mark.parametrize("seed", range(5))
def test_known_matrix_within_five_percent_at_100_probes(seed):
    A = wishart(60)
    found = estimate(A, n_probes=100, rtol=0.0, random_state=seed)
    assert found.n_probes == 100
    assert found.trace[0] == pytest.approx(float(A.trace()), rel=0.05)


def test_diagonal_is_exact_with_one_probe_so_ten_suffice():
    A = torch.diag(torch.arange(1.0, 9.0, dtype=torch.float64))
    found = estimate(A)
    assert found == TraceEstimate((36.0,), (0.0,), 10, True)


def test_standard_error_is_the_theory_s():
    A = wishart(40)
    off = A - torch.diag(A.diagonal())
    expected = math.sqrt(2 * float(off.square().sum()) / 2000)
    found = estimate(A, n_probes=2000, rtol=0.0)
    assert found.se[0] == pytest.approx(expected, rel=0.06)  # a variance from 2,000 draws
    assert abs(found.trace[0] - float(A.trace())) < 4 * expected


def test_the_estimate_is_unbiased_and_its_error_honest():
    A = wishart(20)
    found = [estimate(A, n_probes=30, rtol=0.0, random_state=s) for s in range(100)]
    z = np.array([(f.trace[0] - float(A.trace())) / f.se[0] for f in found])
    assert abs(z.mean()) < 4 / math.sqrt(100)
    assert 0.85 < z.std() < 1.3


def test_blocks_are_the_blocks_and_sum_to_the_whole():
    A, sizes = wishart(30), (5, 15, 10)
    whole = estimate(A, n_probes=500, rtol=0.0, random_state=3)
    found = estimate(A, n_probes=500, rtol=0.0, random_state=3, blocks=sizes)
    assert sum(found.trace) == pytest.approx(whole.trace[0], rel=1e-12)
    for part, error, block in zip(found.trace, found.se, A.diagonal().split(sizes), strict=True):
        assert abs(part - float(block.sum())) < 4 * error


def test_it_stops_at_the_tolerance():
    A = wishart(60)
    found = estimate(A, n_probes=1000)
    assert found.converged
    assert 10 <= found.n_probes < 100
    assert found.se[0] <= 0.05 * found.trace[0]


def test_what_cannot_converge_warns_and_says_so():
    A = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)  # trace 0
    with pytest.warns(ConvergenceWarning, match="raise n_probes"):
        found = estimate(A, n_probes=20)
    assert not found.converged
    assert "not converged" in str(found)


def test_same_seed_same_answer_and_json():
    A = wishart(15)
    first, second = (estimate(A, n_probes=20, rtol=0.0, random_state=7) for _ in range(2))
    assert first == second == TraceEstimate.from_json(first.to_json())
    assert first != estimate(A, n_probes=20, rtol=0.0, random_state=8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": (3, 3)}, "sum to n=5"),
        ({"blocks": (5, 0)}, "positive"),
        ({"n_probes": 1}, "n_probes"),
        ({"rtol": -1.0}, "rtol"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        hutchinson_trace(lambda z: z, 5, **options)


def test_bad_products_are_named():
    with pytest.raises(ValueError, match="shape"):
        hutchinson_trace(lambda z: z[:2], 5)
    with pytest.raises(ValueError, match="not finite"):
        hutchinson_trace(lambda z: z / 0, 5)
