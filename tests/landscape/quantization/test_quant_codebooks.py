"""Codebooks, signs and codewords through the front door: outputs when packed and loaded, bytes, training."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lodim.files import read_sealed
from lodim.landscape.quantization import (
    BinarySpec,
    CodebookSpec,
    ProductSpec,
    QuantizedModel,
    QuantRecipe,
    TernarySpec,
    codeword_parameters,
    convert,
    prepare,
    quantize,
)
from lodim.randomness import build_seeded, torch_generator

pytestmark = pytest.mark.trains

SPECS = [
    CodebookSpec(3),
    CodebookSpec(2, "channel", weighting="inputs"),
    BinarySpec(),
    TernarySpec(granularity="tensor"),
    ProductSpec(4, 16),
    ProductSpec(3, 8, n_books=2, weighting="outputs"),
]


def network():
    convolution = nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
    return nn.Sequential(*convolution, nn.Flatten(), nn.Linear(72, 5))


def model():
    return build_seeded(network, 0)


def images(n=60):
    return torch.randn(n, 2, 6, 6, generator=torch_generator(1))


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_packed_and_loaded_models_are_the_same_and_count_codes_and_tables(spec, tmp_path):
    x = images()
    fake = quantize(model(), QuantRecipe(codebook=spec), calibration=x)
    packed = fake.to_packed()
    assert torch.equal(fake(x), packed(x))
    fake.save(tmp_path / "model.pt")
    loaded = QuantizedModel.load(tmp_path / "model.pt", build_seeded(network, 5))
    assert torch.equal(loaded(x), fake(x))
    assert fake.size.total_bytes == packed.size.total_bytes == loaded.size.total_bytes
    for size in packed.size.layers:
        weight = packed.module.get_submodule(size.name).weight_quantizer
        assert size.code_bytes == weight.packed.numel() == math.ceil(weight.codes().numel() * weight.bits / 8)
        assert size.bytes == size.code_bytes + math.ceil(sum(weight.overhead_bits().values()) / 8)


def test_a_damaged_file_of_a_model_is_refused_and_a_full_disk_keeps_the_former(tmp_path):
    path, x = tmp_path / "model.pt", images()
    fake = quantize(model(), QuantRecipe(codebook=SPECS[0]), calibration=x)
    fake.save(path)
    whole = path.read_bytes()
    for bit in range(0, 8 * (len(whole) - 50), 8 * len(whole) // 60):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=r"model\.pt is damaged"):
            QuantizedModel.load(path, model())
    path.write_bytes(whole)
    path.write_bytes(read_sealed(path))  # as earlier versions wrote it
    assert torch.equal(QuantizedModel.load(path, model())(x), fake(x))
    for other in (whole[: len(whole) // 2], b"something else"):
        path.write_bytes(other)
        with pytest.raises(ValueError, match=r"model\.pt is damaged, or no file of this kind"):
            QuantizedModel.load(path, model())
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(ValueError, match=r"model\.pt is not a quantised model"):
        QuantizedModel.load(path, model())
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        fake.save("/dev/full")


def test_bits_are_those_asked_for():
    for spec, bits in ((CodebookSpec(3), 3), (BinarySpec(), 1), (TernarySpec(), 2)):
        layers = quantize(model(), QuantRecipe(codebook=spec), mode="packed").size.layers
        assert [layer.bits for layer in layers] == [bits] * 2
    product = quantize(model(), QuantRecipe(codebook=ProductSpec(4, 16)), mode="packed").size.layers
    assert [layer.code_bytes for layer in product] == [math.ceil(n / 2) for n in (8 * 5, 5 * 18)]


def test_inputs_are_asked_for():
    for spec in (CodebookSpec(2, weighting="inputs"), ProductSpec(4, 4, weighting="outputs")):
        with pytest.raises(ValueError, match="calibration"):
            quantize(model(), QuantRecipe(codebook=spec))


def test_an_embedding_takes_a_codebook():
    table = nn.Sequential(nn.Embedding(50, 8))
    words = torch.arange(50)
    for spec in (CodebookSpec(4), BinarySpec(), ProductSpec(2, 32)):
        quantised = quantize(table, QuantRecipe(codebook=spec), mode="packed")
        assert (quantised(words) - table(words)).square().mean() < table(words).square().mean()


@pytest.mark.parametrize("spec", SPECS[:4], ids=str)
def test_training_through_the_rounding_helps(spec):
    x = images(100)
    y = (x.mean((1, 2, 3)) > 0).long()
    prepared = prepare(model(), QuantRecipe(codebook=spec), qat=True, calibration=x)
    before = F.cross_entropy(convert(prepared)(x), y)
    optimizer = torch.optim.Adam(prepared.parameters(), lr=5e-3)
    prepared.train()
    for _ in range(15):
        optimizer.zero_grad()
        F.cross_entropy(prepared(x), y).backward()
        optimizer.step()
    assert F.cross_entropy(convert(prepared, "packed")(x), y) < 0.8 * before


def test_codewords_alone_are_trained():
    x = images(100)
    exact = model()(x).detach()
    prepared = prepare(model(), QuantRecipe(codebook=ProductSpec(4, 16)))
    indices = [q.indices.clone() for q in prepared.modules() if hasattr(q, "indices")]
    before = (convert(prepared)(x) - exact).square().mean()
    optimizer = torch.optim.Adam(codeword_parameters(prepared), lr=2e-3)
    for _ in range(40):
        optimizer.zero_grad()
        (prepared(x) - exact).square().mean().backward()
        optimizer.step()
    after = (convert(prepared, "packed")(x) - exact).square().mean()
    assert after < 0.7 * before
    for old, new in zip(
        indices, [q.indices for q in prepared.modules() if hasattr(q, "indices")], strict=True
    ):
        assert torch.equal(old, new)


def test_an_integer_only_model_says_what_it_is_not():
    x = images()
    chip = quantize(model(), "w8a8", calibration=x, mode="integer")
    assert chip(x).shape == (60, 5)
    for ask in (lambda: chip.size, chip.report, lambda: chip.save("nowhere")):
        with pytest.raises(ValueError, match="simulation"):
            ask()


@pytest.mark.parametrize("kind", [CodebookSpec, BinarySpec, TernarySpec])
@pytest.mark.parametrize(
    "given", [{"granularity": "row"}, {"granularity": "group"}, {"group_size": 4},
              {"granularity": "group", "group_size": 0}],
)  # fmt: skip
def test_rows_that_cannot_be_are_refused_at_once(kind, given):
    with pytest.raises(ValueError, match=r"granularity|group_size"):
        kind(**given)


def test_an_unknown_backend_is_refused_at_once():
    with pytest.raises(ValueError, match="backend"):
        ProductSpec(backend="fais")
