"""What layers see: inputs and mean outputs whatever the batches, and moments that give the change of an output."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lodim.landscape.quantization import input_gram, output_error
from lodim.landscape.quantization.layer_data import layer_inputs, layer_means
from lodim.nets import mlp
from lodim.randomness import build_seeded, torch_generator


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed))


def test_output_error_is_the_outputs_mean_square():
    x, error = normal(50, 6), normal(4, 6, seed=1)
    expected = (x.double() @ error.T.double()).square().sum(1).mean()
    assert output_error(error, input_gram(x, nn.Linear(6, 4))) == pytest.approx(expected.item())


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 5, 3, padding=1),
        nn.Conv2d(3, 5, (3, 2), stride=2, dilation=(1, 2)),
        nn.Conv1d(3, 5, 3, stride=2, padding=1),
    ],
)
def test_gram_of_a_convolution(layer):
    x = normal(4, 3, 9, 8) if isinstance(layer, nn.Conv2d) else normal(4, 3, 9)
    change = normal(*layer.weight.shape, seed=1)
    run = F.conv2d if isinstance(layer, nn.Conv2d) else F.conv1d
    out = run(x, change, None, layer.stride, layer.padding, layer.dilation)
    expected = out.square().sum(1).mean()
    assert output_error(change.flatten(1), input_gram(x, layer)) == pytest.approx(expected.item(), rel=1e-4)


def test_gram_refuses_what_it_does_not_know():
    for layer in (nn.Conv2d(4, 4, 3, groups=2), nn.Embedding(3, 2), nn.Conv2d(2, 2, 3, padding="same")):
        with pytest.raises(ValueError, match="second moments"):
            input_gram(normal(2, 4, 5, 5), layer)


def test_batches_of_any_size_count_by_their_size():
    model = build_seeded(lambda: mlp([6, 5, 3]), 0)
    layers = {name: model.get_submodule(name) for name in ("0", "2")}
    x = normal(50, 6)
    whole, parts = layer_means(model, layers, x), layer_means(model, layers, [(x[:7], None), x[7:]])
    for name in whole:
        torch.testing.assert_close(whole[name], parts[name])
    assert torch.equal(layer_inputs(model, model[2], [x[:7], x[7:]]), model[1](model[0](x)))
    with pytest.raises(ValueError, match="does not run its layer"):
        layer_inputs(model, nn.Linear(6, 5), x)
