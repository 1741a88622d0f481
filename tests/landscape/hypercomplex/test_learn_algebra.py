"""A layer finds the quaternions in examples of their product."""

import warnings

import numpy as np
import pytest
import torch

from lodim.landscape.hypercomplex import algebra_matrices, learn_algebra
from lodim.landscape.hypercomplex.algebra import span_residual
from lodim.validation import ConvergenceWarning

pytestmark = pytest.mark.trains


def test_the_learned_matrices_span_hamiltons_algebra():
    found = learn_algebra(random_state=3)
    assert found.loss < 1e-6
    assert found.residual < 1e-3
    assert found.residual_at_start > 0.5
    products = torch.einsum("iab,jbc->ijac", *[torch.from_numpy(found.A).double()] * 2).reshape(16, 4, 4)
    assert span_residual(torch.from_numpy(found.A), products) < 5e-3  # closed under multiplication


def test_complex_numbers_too():
    assert learn_algebra("complex", random_state=1).residual < 1e-3


def test_a_run_repeats_prints_and_plots():
    first, again = (learn_algebra(max_steps=300) for _ in range(2))
    assert np.array_equal(first.A, again.A)
    assert "quaternion from products alone" in str(first)
    assert len(first.plot().lines[0].get_xdata()) == len(first.losses)


def test_too_short_a_training_warns():
    with pytest.warns(ConvergenceWarning, match="not learned"):
        learn_algebra(max_steps=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learn_algebra("complex")


def test_one_number_is_not_enough():
    with pytest.raises(ValueError, match="n_numbers must be at least 2"):
        learn_algebra(n_numbers=1)
    for name, least in (("n_samples", 1), ("max_steps", 0)):
        with pytest.raises(ValueError, match=f"{name} must be at least {least}"):
            learn_algebra(**{name: -1})
    assert len(algebra_matrices("complex")) == 2
