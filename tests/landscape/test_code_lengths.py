"""Code lengths against entropy, the coder's round trip, and k-means against exhaustive search."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lodim.landscape.code_lengths import (
    arithmetic_code_length,
    decode_symbols,
    encode_symbols,
    message_length_bits,
    nearest_codes,
    pack_quantized,
    prefix_free_bits,
    quantize_codebook,
    unpack_quantized,
)

SEQUENCES = st.integers(1, 700).flatmap(lambda k: st.lists(st.integers(0, k - 1), max_size=400))


@settings(max_examples=200, deadline=None)
@given(SEQUENCES)
def test_decoding_returns_what_was_encoded_at_the_entropy(symbols):
    counts = np.bincount(np.array(symbols, dtype=int), minlength=3)
    payload = encode_symbols(symbols, counts)
    np.testing.assert_array_equal(decode_symbols(payload, counts), symbols)
    assert 8 * len(payload) <= 1.01 * arithmetic_code_length(symbols) + 32


@pytest.mark.parametrize("n_symbols", [2, 5, 300, 5000])
@pytest.mark.parametrize("skew", [0.0, 1.0, 6.0])
def test_coded_size_of_long_sequences(n_symbols, skew):
    rng = np.random.default_rng(0)
    p = (1.0 + np.arange(n_symbols)) ** -skew
    symbols = rng.choice(n_symbols, size=20_000, p=p / p.sum())
    counts = np.bincount(symbols, minlength=n_symbols)
    payload = encode_symbols(symbols, counts)
    np.testing.assert_array_equal(decode_symbols(payload, counts), symbols)
    assert arithmetic_code_length(symbols) - 8 <= 8 * len(payload) <= arithmetic_code_length(symbols) + 32


def test_a_constant_and_an_empty_sequence_cost_nothing():
    assert encode_symbols([0] * 1000, [1000]) == b""
    assert encode_symbols([], [0, 0]) == b""
    assert decode_symbols(b"", [0, 0]).tolist() == []
    assert decode_symbols(b"", [0, 7, 0]).tolist() == [1] * 7


def test_code_length_is_length_times_entropy():
    symbols = [0] * 4 + [1] * 2 + [2] * 2
    assert arithmetic_code_length(symbols) == pytest.approx(8 * 1.5)
    assert arithmetic_code_length(symbols, 50) == arithmetic_code_length(symbols)
    assert arithmetic_code_length([]) == 0.0


def test_message_length_adds_codebook_and_counts():
    symbols = np.repeat([0, 1, 2], [400, 200, 150])
    coded = math.ceil(arithmetic_code_length(symbols))
    assert message_length_bits(symbols, 3) == coded + 3 * (16 + 10)
    assert message_length_bits(symbols, 5, codebook_bits=32) == coded + 5 * (32 + 10)


def test_prefix_free_bits():
    assert prefix_free_bits(1024) == 1024 + 20
    assert prefix_free_bits(1) == 1
    assert prefix_free_bits(0) == 0
    with pytest.raises(ValueError, match="bits"):
        prefix_free_bits(-1)


def test_prefix_free_lengths_satisfy_kraft():
    # one codeword for every K-bit message would cost sum_K 2^K 2^-K' = sum_K K^-2 = pi^2/6: one bit more pays for it
    assert sum(2.0 ** (k - prefix_free_bits(k)) for k in range(1, 2000)) < math.pi**2 / 6


@pytest.mark.parametrize("change", ["cut", "flip", "longer"])
def test_a_damaged_message_is_refused_or_differs(change):
    symbols = np.random.default_rng(0).integers(0, 7, 500)
    counts = np.bincount(symbols)
    payload = bytearray(encode_symbols(symbols, counts))
    if change == "cut":
        payload = payload[:-2]
    elif change == "flip":
        payload[len(payload) // 2] ^= 1
    else:
        payload += b"ab"
    with pytest.raises(ValueError, match=r"counts|cut"):
        decode_symbols(bytes(payload), counts)


def test_encoding_checks_the_counts():
    with pytest.raises(ValueError, match="bincount"):
        encode_symbols([0, 1, 1], [2, 1])
    with pytest.raises(ValueError, match=r"0\.\.1"):
        encode_symbols([0, 2], [1, 1])
    with pytest.raises(ValueError, match="integers"):
        arithmetic_code_length([0.5, 1.0])


def squared_error(vec, codebook):
    return float(((vec[:, None] - np.asarray(codebook)[None]) ** 2).min(1).sum())


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("seed", range(4))
def test_kmeans_is_the_best_partition(levels, seed):
    vec = np.sort(np.random.default_rng(seed).normal(size=8))
    best = min(
        sum(((part - part.mean()) ** 2).sum() for part in np.split(vec, cuts))
        for cuts in itertools.combinations(range(1, 8), levels - 1)
    )
    found = quantize_codebook(vec, levels)
    assert len(found.codebook) == levels
    assert squared_error(vec, found.codebook.astype(float)) <= best + 1e-5  # half precision centres


def test_kmeans_beats_lloyd_and_the_uniform_grid():
    from sklearn.cluster import KMeans

    vec = np.random.default_rng(1).standard_t(3, size=750)
    for levels in (3, 7, 16):
        exact = squared_error(vec, quantize_codebook(vec, levels).codebook.astype(float))
        lloyd = KMeans(levels, n_init=5, random_state=0).fit(vec[:, None])
        assert exact <= lloyd.inertia_ * (1 + 1e-4)
        assert exact < squared_error(vec, quantize_codebook(vec, levels, "uniform").codebook.astype(float))


def test_kmeans_weighs_repeated_entries():
    vec = np.array([0.0] * 100 + [1.0, 2.0, 10.0])
    found = quantize_codebook(vec, 3)
    np.testing.assert_allclose(found.codebook, [0.0, 1.5, 10.0])
    assert quantize_codebook(vec, 50).codebook.tolist() == [0.0, 1.0, 2.0, 10.0]


def test_weights_draw_the_levels_to_where_errors_count():
    x = np.array([0.0, 1.0, 10.0])
    even = quantize_codebook(x, 2)
    np.testing.assert_allclose(even.codebook, [0.5, 10.0])
    heavy = quantize_codebook(x, 2, weights=np.array([1e4, 1.0, 1e-6]))
    np.testing.assert_allclose(heavy.codebook, [0.0, 1.0], atol=1e-4)
    np.testing.assert_array_equal(heavy.codes, [0, 1, 1])


def test_whole_weights_are_repetitions():
    x, counts = np.array([-1.0, 0.25, 0.5, 3.0]), np.array([3, 1, 4, 2])
    a, b = quantize_codebook(x, 2, weights=counts), quantize_codebook(np.repeat(x, counts), 2)
    np.testing.assert_array_equal(a.codebook, b.codebook)


@pytest.mark.parametrize("weights", [[1.0, 0.0, 1.0], [1.0, 1.0], [1.0, np.nan, 1.0]])
def test_codebook_weights_must_be_positive(weights):
    with pytest.raises(ValueError, match="3 positive numbers"):
        quantize_codebook([1.0, 2.0, 3.0], 2, weights=np.array(weights))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=60), st.integers(1, 20), st.booleans())
def test_quantised_vectors_are_consistent(entries, levels, uniform):
    vec = np.array(entries)
    found = quantize_codebook(vec, levels, "uniform" if uniform else "kmeans")
    assert len(found.codebook) in range(1, levels + 1)
    assert np.unique(found.codes).tolist() == list(range(len(found.codebook)))
    assert (np.diff(found.codebook.astype(float)) > 0).all()
    np.testing.assert_array_equal(found.codes, nearest_codes(vec, found.codebook))
    distance = np.abs(vec[:, None] - found.codebook.astype(float)[None])
    np.testing.assert_allclose(np.abs(vec - found.values), distance.min(1), atol=1e-6)


def test_uniform_bins_are_represented_by_their_means():
    vec = np.array([0.0, 0.5, 1.0, 9.0, 10.0])
    np.testing.assert_allclose(quantize_codebook(vec, 2, "uniform").codebook, [0.5, 9.5])
    np.testing.assert_allclose(quantize_codebook(vec, 5, "uniform").codebook, [0.5, 9.5])


@pytest.mark.parametrize(
    ("vec", "levels", "method", "message"),
    [
        ([], 3, "kmeans", "at least one entry"),
        ([[1.0]], 3, "kmeans", "shape"),
        ([1.0, np.nan], 3, "kmeans", "NaN"),
        ([1.0, 1e6], 3, "kmeans", "65504"),
        ([1.0], 0, "kmeans", "levels"),
        ([1.0], 2, "kmean", "kmeans"),
    ],
)
def test_bad_input(vec, levels, method, message):
    with pytest.raises(ValueError, match=message):
        quantize_codebook(vec, levels, method)


def test_ragged_symbols_are_refused():
    with pytest.raises(ValueError, match="symbols must be an array"):
        message_length_bits([[1.0], [1.0, 2.0]])


def test_sizes_below_zero_are_refused():
    with pytest.raises(ValueError, match="n_symbols must be at least 0"):
        arithmetic_code_length([], -3)
    with pytest.raises(ValueError, match="codebook_bits must be at least 0"):
        message_length_bits([0, 1], codebook_bits=-5)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=200), st.integers(1, 40))
def test_packed_vectors_come_back_at_their_message_length(entries, levels):
    found = quantize_codebook(entries, levels)
    message = pack_quantized(found)
    back = unpack_quantized(message, len(found.codebook), len(entries))
    np.testing.assert_array_equal(back.codes, found.codes)
    np.testing.assert_array_equal(back.codebook, found.codebook)
    bits = message_length_bits(found.codes, len(found.codebook))
    assert 8 * len(message) <= 1.01 * bits + 32 + 8
