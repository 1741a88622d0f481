import sys

import numpy as np
import pytest
import torch
from torch import nn

from lodim.profiling.models import choose_model, layer_shapes, load_factory


def n_weights(module):
    return sum(p.numel() for p in module.parameters())


def test_the_default_suits_the_width_of_the_table():
    small = choose_model(None, 64, 10)
    assert small.name == "mlp"
    assert n_weights(small.make()) == 8970  # 64-64-64-10
    wide = choose_model("mlp", 784, 10)
    assert n_weights(wide.make()) == 199_210  # 784-200-200-10


def test_linear_is_one_matrix_and_a_bias():
    module = choose_model("linear", 13, 3).make()
    assert n_weights(module) == 13 * 3 + 3
    assert module(torch.zeros(5, 13)).shape == (5, 3)


def test_lenet_takes_images():
    choice = choose_model("lenet", 784, 10, (28, 28))
    assert choice.image_shape == (1, 28, 28)
    assert choice.make()(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    with pytest.raises(ValueError, match="needs images"):
        choose_model("lenet", 784, 10)
    with pytest.raises(ValueError, match="at least 16 x 16"):
        choose_model("lenet", 64, 10, (8, 8))


def test_own_factories():
    def fixed():
        return nn.Linear(4, 3)

    def by_size(n_in, n_out):
        return nn.Linear(n_in, n_out)

    assert choose_model(fixed, 4, 3).name == "fixed"
    assert choose_model(by_size, 7, 2).make().weight.shape == (2, 7)
    with pytest.raises(ValueError, match=r"gives \(2, 3\), expected \(2, 5\)"):
        choose_model(fixed, 4, 5)
    with pytest.raises(ValueError, match="does not fit the data"):
        choose_model(fixed, 9, 3)


def test_an_image_model_is_recognised():
    def conv():
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 4 * 4, 3))

    assert choose_model(conv, 36, 3, (1, 6, 6)).image_shape == (1, 6, 6)


BAD = [
    ("mpl", ValueError, "Did you mean 'mlp'"),
    (nn.Linear(4, 3), TypeError, "already built"),
    (3, TypeError, "must be a name"),
    (np.ones(2), TypeError, "got array"),
    (lambda a: nn.Linear(4, 3), ValueError, "asks for 1"),
    (lambda: 5, ValueError, "must return a torch.nn.Module"),
    ("no_such_package:net", ValueError, "model 'no_such_package:net': no module 'no_such_package'"),
    ("json:net", ValueError, "module 'json' has no 'net'"),
    ("json:__name__", ValueError, "is a str, not a function"),
]


@pytest.mark.parametrize(("model", "kind", "words"), BAD, ids=[w for _, _, w in BAD])
def test_wrong_models_are_said(model, kind, words):
    with pytest.raises(kind, match=words):
        choose_model(model, 4, 3)


def test_a_factory_is_found_in_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "my_own_net.py").write_text("from torch import nn\ndef net():\n    return nn.Linear(4, 3)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert isinstance(load_factory("my_own_net:net")(), nn.Linear)
    assert choose_model("my_own_net:net", 4, 3).name == "my_own_net:net"


def test_layer_shapes_unfold_convolutions():
    module = nn.Sequential(nn.Conv2d(3, 8, 5), nn.Flatten(), nn.Linear(8, 2))
    assert layer_shapes(module) == ((8, 75), (2, 8))
