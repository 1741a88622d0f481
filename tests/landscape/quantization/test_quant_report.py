"""Reports: ratios by hand, the layer that hurts, and what they are drawn and stored as."""

import math

import pytest
import torch
from torch import nn

from lodim.landscape.quantization import (
    QuantRecipe,
    QuantReport,
    QuantSpec,
    convert,
    count_macs,
    prepare,
    quantize,
    size_report,
    sqnr_db,
)
from lodim.landscape.quantization.model.report import layer_reports, model_output
from lodim.nets import fc
from lodim.randomness import build_seeded, torch_generator


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed))


def model():
    return build_seeded(lambda: fc(24, 5, width=16), 0).eval()


def test_signal_to_noise_by_hand():
    x = torch.tensor([3.0, 4.0])
    assert sqnr_db(x, torch.tensor([3.0, 3.5])) == pytest.approx(20)
    assert sqnr_db(x, x) == math.inf
    assert sqnr_db(torch.zeros(2), x) == -math.inf


def test_the_report_names_the_layer_that_hurts():
    net, x = model(), normal(300, 24)
    names = [name for name, layer in net.named_modules() if isinstance(layer, nn.Linear)]
    recipe = QuantRecipe(QuantSpec(8), overrides={names[1]: QuantRecipe(QuantSpec(2))})
    report = quantize(net, recipe, x).report()
    assert report.most_sensitive == names[1]
    assert [r.bits for r in report.layers] == [8, 2, 8]
    assert report.layers[1].output_sqnr < report.layers[0].output_sqnr - 10
    assert report.output_sqnr == pytest.approx(report.layers[1].output_sqnr, abs=1)


def test_a_layer_alone_is_put_in_the_float_models_place_and_taken_out_again():
    net, x = model(), normal(50, 24)
    converted = convert(prepare(net, QuantSpec(3)))
    before = net(x)
    rows = layer_reports(converted, net, size_report(converted), x)
    assert torch.equal(net(x), before)
    by_hand = converted.get_submodule(rows[0].name)
    weight = net.get_submodule(rows[0].name).weight
    assert rows[0].weight_sqnr == pytest.approx(sqnr_db(weight, by_hand.weight))
    net.set_submodule(rows[0].name, by_hand)
    assert rows[0].output_sqnr == pytest.approx(sqnr_db(before, net(x)))


def test_a_report_survives_json_and_draws():
    report = quantize(model(), QuantSpec(4)).report(normal(10, 24))
    again = QuantReport.from_json(report.to_json())
    assert again.layers == report.layers
    assert again.size == report.size
    assert math.isnan(again.score)
    assert list(report.to_frame().name) == [r.name for r in report.layers]
    assert len(report.plot().lines) == 2
    assert "most sensitive layer" in str(report)
    assert "times smaller" in str(quantize(model(), QuantSpec(4)).report())


def test_outputs_of_batches_and_of_language_models():
    net, x = model(), normal(10, 24)
    assert torch.equal(model_output(net, x), net(x).flatten())
    assert torch.allclose(model_output(net, x.split(2)), net(x).flatten(), atol=1e-6)

    class WithLogits(nn.Module):
        def forward(self, x):
            return type("Output", (), {"logits": x + 1})()

    assert torch.equal(model_output(WithLogits(), x), (x + 1).flatten())

    class Other(nn.Module):
        def forward(self, x):
            return "text"

    with pytest.raises(TypeError, match="must be a tensor"):
        model_output(Other(), x)


@pytest.mark.parametrize("look", [model_output, count_macs])
def test_looking_at_a_model_leaves_every_part_in_its_own_mode(look):
    net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 2)).train()
    net[1].eval()
    look(net, normal(1, 4))
    assert [part.training for part in net] == [True, False, True]
    assert net.training


def test_tensors_of_other_shapes_are_not_compared():
    with pytest.raises(ValueError, match="cannot be compared"):
        sqnr_db(torch.ones(4), torch.ones(4, 1))
