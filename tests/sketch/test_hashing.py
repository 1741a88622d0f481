"""Hashes: bijective mixing, field arithmetic, independence of the keys."""

import itertools

import torch

from lodim.sketch.hashing import MASK31, bch_keys, gf_cube, hashed_normals, mix31


def field_product(a, b):
    """Schoolbook product in GF(2)[x] modulo x^31 + x^3 + 1."""
    product = 0
    for bit in range(31):
        if b >> bit & 1:
            product ^= a << bit
    for degree in range(61, 30, -1):
        if product >> degree & 1:
            product ^= (1 << 31 | 1 << 3 | 1) << (degree - 31)
    return product


def test_mixing_is_one_to_one():
    low = torch.arange(1 << 16)
    for x in (low, low << 15, MASK31 - low):
        mixed = mix31(x)
        assert len(mixed.unique()) == len(x)
        assert mixed.min() >= 0
        assert mixed.max() <= MASK31


def test_mixing_leaves_its_input_alone():
    x = torch.arange(10)
    mix31(x)
    assert torch.equal(x, torch.arange(10))


def test_every_input_bit_moves_half_the_output_bits():
    x = torch.randint(0, 1 << 31, (4000,), generator=torch.Generator().manual_seed(0))
    for bit in range(31):
        changed = mix31(x) ^ mix31(x ^ (1 << bit))
        flips = torch.stack([(changed >> k) & 1 for k in range(31)]).double().mean(1)
        assert abs(flips.mean() - 0.5) < 0.03
        assert (flips - 0.5).abs().max() < 0.3


def test_cubes_are_those_of_the_field():
    x = [0, 1, 2, 3, 1 << 30, MASK31, 123_456_789, 2_000_000_011]
    expected = [field_product(field_product(a, a), a) for a in x]
    assert gf_cube(torch.tensor(x)).tolist() == expected
    assert gf_cube(torch.tensor([5])).item() == 85  # (x^2 + 1)^3 = x^6 + x^4 + x^2 + 1, no reduction


def test_any_four_keys_are_independent():
    """No two or four distinct keys cancel, so with the constant bit no five do: the signs are five-wise independent."""
    rows = torch.cat((torch.arange(48), torch.tensor([1000, 65_535, 99_999, 123_456])))
    bits = bch_keys(rows, 17).long()
    keys = (bits << torch.arange(bits.shape[1])).sum(1).tolist()
    assert len(set(keys)) == len(keys)
    sums = [a ^ b for a, b in itertools.combinations(keys, 2)]
    assert 0 not in sums
    assert len(set(sums)) == len(sums)  # two equal sums of two would be four keys that cancel


def test_rows_are_generated_alone_or_together():
    seeds = torch.tensor([[1, 2], [3, 4]])
    together = hashed_normals(torch.arange(20), 5, seeds)
    torch.testing.assert_close(hashed_normals(torch.tensor([7]), 5, seeds)[0], together[7])
    assert torch.isfinite(hashed_normals(torch.arange(20_000), 50, seeds)).all()
