"""Packed codes: every width, every length, the documented order of bits, and a weight kept so."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lodim.landscape.quantization import (
    AffineWeight,
    CodebookSpec,
    PackedWeight,
    ProductSpec,
    QuantizedModel,
    QuantRecipe,
    QuantSpec,
    calibrate,
    pack,
    packed_bytes,
    prepare,
    quant_layers,
    quantize,
    unpack,
)
from lodim.nets import fc
from lodim.randomness import build_seeded, torch_generator


@pytest.mark.parametrize("bits", range(1, 17))
def test_round_trip(bits):
    for count in (0, 1, 7, 8, 9, 1001, 200_003):
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
@pytest.mark.parametrize("bits", [3, 12])
def test_a_packed_weight_decodes_to_what_its_quantiser_makes(bits, options):
    weight = torch.randn(6, 13, generator=torch_generator(0))
    quantizer = AffineWeight(weight, QuantSpec(bits, **options)).eval()
    packed = PackedWeight(weight, copy.deepcopy(quantizer))
    assert torch.equal(packed(None), quantizer(weight))
    assert torch.equal(packed.codes(), quantizer.codes(weight))
    assert packed.packed.numel() == packed_bytes(78, bits)
    assert packed.overhead_bits() == quantizer.overhead_bits()
    assert packed.spec == quantizer.spec


INPUTS = QuantSpec(8, symmetric=False, granularity="tensor")


@pytest.mark.parametrize(
    ("recipe", "dtype"),
    [
        (QuantSpec(4), torch.float64),
        (QuantSpec(4), torch.bfloat16),
        (QuantSpec(4, granularity="group", group_size=5), torch.float16),
        (QuantRecipe(QuantSpec(8), INPUTS), torch.float64),
        (QuantRecipe(QuantSpec(8), INPUTS), torch.bfloat16),
        ("w8a8-dynamic", torch.float16),
        (QuantRecipe(codebook=CodebookSpec(3)), torch.float64),
        (QuantRecipe(codebook=ProductSpec(4, 8)), torch.bfloat16),
    ],
    ids=["channel-64", "channel-b16", "groups", "static-64", "static-b16", "dynamic", "codebook", "product"],
)
def test_packed_models_change_precision_as_rounded_ones_do(recipe, dtype, tmp_path):
    model = build_seeded(lambda: fc(16, 3, width=8, depth=1), 0).eval()
    x = torch.randn(10, 16, generator=torch_generator(1))
    rounded = quantize(model, recipe, x)
    rounded.save(tmp_path / "m.pt")
    total = rounded.to_packed().size.float_bytes
    wanted = copy.deepcopy(rounded).to(dtype)(x.to(dtype))
    for packed in (rounded.to_packed(), QuantizedModel.load(tmp_path / "m.pt", model)):
        exact = packed(x)
        moved = copy.deepcopy(packed).to(dtype)
        assert moved(x.to(dtype)).dtype == dtype
        assert torch.equal(moved(x.to(dtype)), wanted)
        assert moved.size.float_bytes == total - 4 * 11 + 11 * dtype.itemsize  # biases have another width
        assert torch.equal(packed.to(dtype).float()(x), exact) or dtype != torch.float64
    moved.save(tmp_path / "moved.pt")
    assert QuantizedModel.load(tmp_path / "moved.pt", model)(x).dtype == torch.float32
    other = copy.deepcopy(model).to(dtype)
    assert QuantizedModel.load(tmp_path / "m.pt", other)(x.to(dtype)).dtype == dtype


def test_scales_keep_their_precision():
    prepared = prepare(
        nn.Sequential(nn.Linear(16, 8)),
        QuantRecipe(QuantSpec(8), INPUTS),
    )
    calibrate(prepared, torch.randn(20, 16))
    for layer in quant_layers(prepared).values():
        layer.activation_quantizer.freeze()
    prepared.half()
    layer = prepared[0]
    assert layer.layer.weight.dtype == torch.float16
    assert layer.weight_quantizer.scale.dtype == torch.float32
    assert layer.activation_quantizer.scale.dtype == torch.float32
    assert prepared(torch.randn(2, 16).half()).dtype == torch.float16


def test_only_integers_are_packed():
    with pytest.raises(TypeError, match="integers"):
        pack(torch.tensor([1.5]), 2)
    with pytest.raises(ValueError, match="count"):
        unpack(torch.empty(0, dtype=torch.uint8), 3, -1)
