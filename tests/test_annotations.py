"""Annotations are checked in these tests: what a function says that it takes is what it gets, shapes included."""

import jaxtyping
import numpy as np
import pytest

from lodim.metrics.probability import _kolmogorov_smirnov
from lodim.randomness import derive_seed


def test_a_wrong_kind_is_seen():
    with pytest.raises(jaxtyping.TypeCheckError, match="seed"):
        derive_seed("one", "key")


def test_a_wrong_shape_is_seen():
    with pytest.raises(jaxtyping.TypeCheckError, match="outcome"):
        _kolmogorov_smirnov(np.zeros(3), np.zeros((3, 1)))


def test_two_shapes_that_do_not_go_together_are_seen():
    with pytest.raises(jaxtyping.TypeCheckError, match="outcome"):
        _kolmogorov_smirnov(np.zeros(3), np.zeros(4))
