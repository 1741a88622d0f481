"""Packed codes: every width, every length, the documented order of bits, and a weight kept so."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lodim.landscape.quantization.fake import AffineWeight
from lodim.landscape.quantization.packing import PackedWeight, pack, packed_bytes, unpack
from lodim.landscape.quantization.spec import QuantSpec
from lodim.randomness import torch_generator


@pytest.mark.parametrize("bits", range(1, 17))
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 1001, 200_003])
def test_round_trip(bits, count):
    codes = torch.randint(0, 2**bits, (count,), generator=torch_generator(bits), dtype=torch.int32)
    packed = pack(codes, bits)
    assert packed.dtype == torch.uint8
    assert packed.numel() == packed_bytes(count, bits)
    assert torch.equal(unpack(packed, bits, count), codes)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_stream_holds_the_lowest_bits_first(data):
    bits = data.draw(st.integers(1, 8))
    codes = data.draw(st.lists(st.integers(0, 2**bits - 1), min_size=1, max_size=40))
    number = sum(code << (bits * i) for i, code in enumerate(codes))
    expected = number.to_bytes(packed_bytes(len(codes), bits), "little")
    assert bytes(pack(torch.tensor(codes), bits).tolist()) == expected


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_integers_of_any_kind_and_shape(dtype):
    codes = torch.arange(15).reshape(3, 5).to(dtype)
    assert torch.equal(unpack(pack(codes.T, 4), 4, 15), codes.T.reshape(-1).int())


@pytest.mark.parametrize("bad", [-1, 8])
def test_codes_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match=r"3 bits lie in \[0, 8\)"):
        pack(torch.tensor([0, bad]), 3)


def test_another_length_is_refused():
    with pytest.raises(ValueError, match="9 codes of 3 bits take 4 bytes, got 3"):
        unpack(pack(torch.zeros(8, dtype=torch.int32), 3), 3, 9)
    with pytest.raises(ValueError, match="bits must be"):
        pack(torch.zeros(8, dtype=torch.int32), 17)


@pytest.mark.parametrize("options", [{}, {"symmetric": False}, {"granularity": "group", "group_size": 5}])
@pytest.mark.parametrize("bits", [2, 3, 8, 12])
def test_a_packed_weight_decodes_to_what_its_quantiser_makes(bits, options):
    weight = torch.randn(6, 13, generator=torch_generator(0))
    quantizer = AffineWeight(weight, QuantSpec(bits, **options)).eval()
    packed = PackedWeight(weight, copy.deepcopy(quantizer))
    assert torch.equal(packed(None), quantizer(weight))
    assert torch.equal(packed.codes(), quantizer.codes(weight))
    assert packed.packed.numel() == packed_bytes(78, bits)
    assert packed.overhead_bits() == quantizer.overhead_bits()
    assert packed.spec == quantizer.spec
