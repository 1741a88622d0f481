"""Bytes and bit operations, against counts by hand."""

import pytest
import torch
from torch import nn

from lodim.landscape.quantization import (
    CodebookSpec,
    ProductSpec,
    QuantizedModel,
    QuantRecipe,
    QuantSpec,
    SizeReport,
    calibrate,
    convert,
    count_macs,
    finetune_quantized,
    prepare,
    quantize,
    size_report,
)
from lodim.nets import fc
from lodim.randomness import build_seeded
from lodim.training import Recipe, Task


def network():
    return build_seeded(lambda: fc(20, 3, width=10, depth=1), 0)  # 20-10-3


def test_by_hand():
    size = size_report(prepare(network(), QuantSpec(4)), torch.zeros(1, 20))
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
        QuantSpec(4, granularity="group", group_size=5),
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
    assert count_macs(prepare(model, QuantSpec(4)), torch.zeros(1, 4, 8, 8)) == {
        "0": 64 * 6 * 2 * 9,
        "2": 5 * 384,
    }


def test_rows_fetched_multiply_nothing_and_shared_weights_count_once():
    model = nn.Sequential(nn.Embedding(16, 8), nn.Linear(8, 4, bias=False))
    size = size_report(prepare(model, "w8"), torch.zeros(1, 3, dtype=torch.long))
    assert [layer.macs for layer in size.layers] == [0, 3 * 32]
    size = size_report(prepare(Tied(), "w8"))
    assert [layer.name for layer in size.layers] == ["rows", "body"]
    assert size.float_bytes == FLOAT_BYTES


def test_a_report_survives_json_and_has_a_frame(tmp_path):
    size = size_report(prepare(network(), QuantSpec(4)), torch.zeros(1, 20))
    assert SizeReport.from_json(size.to_json()) == size
    assert list(size.to_frame().bytes) == [140, 27]
    assert "4.44 times smaller" in str(size)


class Tied(nn.Module):
    """Rows looked up and read out with one matrix, and a layer between."""

    def __init__(self, rows=50, width=8):
        super().__init__()
        self.rows, self.body = nn.Embedding(rows, width), nn.Linear(width, width)
        self.head = nn.Linear(width, rows, bias=False)
        self.head.weight = self.rows.weight

    def forward(self, tokens):
        return self.head(self.body(self.rows(tokens)))


FLOAT_BYTES = 4 * (50 * 8 + 8 * 8 + 8)
TOKENS = torch.arange(12).reshape(2, 6)


@pytest.mark.parametrize("mode", ["fake", "packed"])
@pytest.mark.parametrize(
    "recipe",
    [QuantSpec(4), QuantSpec(3, rounding="stochastic"), QuantRecipe(codebook=CodebookSpec(3))],
    ids=["nearest", "stochastic", "codebook"],
)
def test_a_shared_weight_is_stored_and_counted_once(recipe, mode, tmp_path):
    model = build_seeded(Tied, 0)
    small = quantize(model, recipe, mode=mode)
    before = size_report(prepare(model, recipe))
    assert small.size.float_bytes == before.float_bytes == FLOAT_BYTES
    assert small.size.total_bytes == before.total_bytes
    assert small.module.rows.weight_quantizer is small.module.head.weight_quantizer
    small.save(tmp_path / "tied.pt")
    again = QuantizedModel.load(tmp_path / "tied.pt", build_seeded(Tied, 1))
    for other in (small.to_packed(), again):
        assert torch.equal(other(TOKENS), small(TOKENS))
        assert other.size.total_bytes == before.total_bytes
        assert other.size.float_bytes == FLOAT_BYTES
        held = {id(b): b.numel() for name, b in other.named_buffers() if name.endswith("packed")}
        assert sum(held.values()) == before.code_bytes


def test_a_shared_weight_multiplies_at_each_of_its_uses():
    one = torch.zeros(1, 3, dtype=torch.long)
    size = size_report(prepare(Tied(), "w8"), one)
    assert [layer.macs for layer in size.layers] == [3 * 50 * 8, 3 * 64]
    assert size.bops == 8 * 32 * (3 * 50 * 8 + 3 * 64)
    inputs = QuantSpec(8, symmetric=False, granularity="tensor")
    model = convert(calibrate(prepare(Tied(), QuantRecipe(QuantSpec(8), inputs)), TOKENS))
    assert size_report(model, one).bops == 8 * 8 * (3 * 50 * 8 + 3 * 64)
    assert (
        size_report(model).layers[0].overhead_bits["inputs"] == 32 + 8
    )  # of the head, whose codes come with the rows


@pytest.mark.parametrize(
    ("recipe", "stored"),
    [
        (QuantRecipe(QuantSpec(8), overrides={"head": QuantRecipe(QuantSpec(4))}), 400 + 200),
        (QuantRecipe(QuantSpec(8), skip=["head"]), 400 + 1600),
        (QuantRecipe(QuantSpec(8), skip=["rows"]), 400 + 1600),
    ],
    ids=["other bits", "head in float", "rows in float"],
)
def test_a_tie_that_the_recipe_breaks_is_counted_as_it_is_stored(recipe, stored):
    prepared = prepare(build_seeded(Tied, 0), recipe)
    for mode in ("fake", "packed"):
        size, foretold = size_report(convert(prepared, mode)), size_report(prepared)
        scales = size.overhead_bytes
        assert size.total_bytes == foretold.total_bytes == stored + 64 + scales + 32
        assert size.float_bytes == foretold.float_bytes == FLOAT_BYTES


def test_a_shared_weight_trained_with_its_grid_keeps_one_grid():
    x = torch.arange(40).reshape(20, 2) % 50
    task = Task(x, x[:, 0], x, x[:, 0], n_outputs=50)

    class First(Tied):
        def forward(self, tokens):
            return super().forward(tokens)[:, 0]

    prepared = prepare(build_seeded(First, 0), QuantSpec(4), qat=True)
    finetune_quantized(prepared, task, Recipe(epochs=1, batch_size=10))
    size = size_report(convert(prepared, "packed"))
    assert prepared.rows.weight_quantizer is prepared.head.weight_quantizer
    assert size.float_bytes == FLOAT_BYTES
    assert size.total_bytes == size_report(prepared).total_bytes
