"""Dense maps: the law of the entries and the limit on memory."""

import pytest
import torch

from lodim.sketch import Dense, DenseOrthonormal


def test_gaussian_and_sign_entries():
    gaussian = Dense(4000, 20, seed=1).entries
    kurtosis = gaussian.pow(4).mean() / gaussian.square().mean() ** 2
    assert abs(kurtosis - 3) < 0.15
    signs = Dense(64, 20, law="rademacher", seed=1).matrix()
    torch.testing.assert_close(signs.abs(), torch.full((64, 20), 0.125))


def test_too_large_a_matrix_names_the_size_and_the_way_out():
    with pytest.raises(
        MemoryError, match=r"'dense' with D=1000000 and d=1000 would store 3.73 GiB.*fastfood"
    ):
        Dense(1_000_000, 1000)
    with pytest.raises(MemoryError, match=r"'dense_orthonormal'.*countsketch"):
        DenseOrthonormal(1000, 100, max_bytes=100_000)
    Dense(1000, 100, max_bytes=400_000)


def test_an_unknown_law_lists_the_laws():
    with pytest.raises(ValueError, match="law must be one of 'gaussian', 'rademacher'"):
        Dense(10, 2, law="uniform")
