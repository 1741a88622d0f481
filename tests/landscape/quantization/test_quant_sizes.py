"""Bytes and bit operations, against counts by hand."""

import pytest
import torch
from torch import nn

from lodim.landscape.quantization.conversion import calibrate, convert, prepare
from lodim.landscape.quantization.nonuniform import CodebookSpec
from lodim.landscape.quantization.product import ProductSpec
from lodim.landscape.quantization.sizes import SizeReport, count_macs, size_report
from lodim.landscape.quantization.spec import QuantRecipe, QuantSpec
from lodim.nets import fc
from lodim.randomness import build_seeded


def network():
    return build_seeded(lambda: fc(20, 3, width=10, depth=1), 0)  # 20-10-3


def test_by_hand():
    size = size_report(prepare(network(), "w4"), torch.zeros(1, 20))
    first, second = size.layers
    assert (first.n_weights, second.n_weights) == (200, 30)
    assert (first.code_bytes, second.code_bytes) == (100, 15)
    assert first.overhead_bits == {"scales": 320}
    assert first.bytes == 140
    assert size.rest_bytes == 4 * 13  # biases
    assert size.total_bytes == 115 + 4 * 13 + 52
    assert size.float_bytes == 4 * (200 + 30 + 13)
    assert size.ratio == pytest.approx(972 / 219)
    assert size.bits_per_weight == pytest.approx(8 * 167 / 230)
    assert (first.macs, second.macs) == (200, 30)
    assert size.bops == 230 * 4 * 32


@pytest.mark.parametrize("bits", [1, 2, 3, 5, 8, 12, 16])
def test_codes_take_their_bits(bits):
    spec = QuantSpec(bits, symmetric=False, granularity="tensor")
    size = size_report(prepare(network(), spec))
    assert size.layers[0].bits == bits
    assert size.code_bytes == sum(
        -(-n * min(bits, 8) // 8) + -(-n * max(bits - 8, 0) // 8) for n in (200, 30)
    )
    assert size.bops is None


def test_a_packed_model_is_as_large_as_was_foretold():
    for recipe in (
        "w4-group64",
        QuantRecipe(codebook=CodebookSpec(3)),
        QuantRecipe(codebook=ProductSpec(4, 16)),
    ):
        prepared = prepare(network(), recipe)
        before, after = size_report(prepared), size_report(convert(prepared, "packed"))
        assert before.total_bytes == after.total_bytes
        assert before.float_bytes == after.float_bytes
        assert before.code_bytes == after.code_bytes
        held = sum(
            buffer.numel() for name, buffer in convert(prepared, "packed").named_buffers() if "packed" in name
        )
        assert held == after.code_bytes


def test_inputs_on_a_grid_count_for_operations():
    recipe = QuantRecipe(QuantSpec(4), QuantSpec(8, symmetric=False, granularity="tensor"))
    prepared = calibrate(prepare(network(), recipe), torch.rand(5, 20))
    size = size_report(convert(prepared), torch.zeros(1, 20))
    assert size.bops == 230 * 4 * 8
    assert size.layers[0].overhead_bits["inputs"] == 32 + 8


def test_codewords_multiply_as_floats_do():
    size = size_report(prepare(network(), QuantRecipe(codebook=CodebookSpec(3))), torch.zeros(1, 20))
    assert size.layers[0].bits == 3
    assert size.bops == 230 * 32 * 32


def test_multiplications_of_convolutions():
    model = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, groups=2), nn.Flatten(), nn.Linear(6 * 64, 5))
    assert count_macs(model, torch.zeros(1, 4, 8, 8)) == {"0": 64 * 6 * 2 * 9, "2": 5 * 384}
    assert count_macs(prepare(model, "w4"), torch.zeros(1, 4, 8, 8)) == {"0": 64 * 6 * 2 * 9, "2": 5 * 384}


def test_rows_fetched_multiply_nothing_and_shared_weights_count_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.rows = nn.Embedding(16, 8)
            self.head = nn.Linear(8, 16, bias=False)
            self.head.weight = self.rows.weight

        def forward(self, tokens):
            return self.head(self.rows(tokens))

    size = size_report(prepare(Tied(), "w8"), torch.zeros(1, 3, dtype=torch.long))
    assert [layer.name for layer in size.layers] == ["rows"]
    assert size.layers[0].macs == 0
    assert size.float_bytes == 4 * 128


def test_a_report_survives_json_and_has_a_frame(tmp_path):
    size = size_report(prepare(network(), "w4"), torch.zeros(1, 20))
    assert SizeReport.from_json(size.to_json()) == size
    assert list(size.to_frame().bytes) == [140, 27]
    assert "4.44 times smaller" in str(size)
    ax = size.plot()
    assert len(ax.patches) == 4
