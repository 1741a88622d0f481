"""Dimension of representations: identities, bottlenecks, what models return, what they are left as."""

from __future__ import annotations

import importlib.util
from collections import OrderedDict

import matplotlib as mpl
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lodim.geometry import IdProfile, IntrinsicDimension, id_profile, representation_id
from lodim.nets import lenet, resnet, vit
from lodim.nets.activations import outline

mpl.use("Agg")


def cube(n, d, seed=0):
    return torch.rand(n, d, generator=torch.Generator().manual_seed(seed))


class Named(nn.Module):
    """Parts with names of their own."""

    def __init__(self):
        super().__init__()
        self.same = nn.Identity()
        self.narrow = nn.Linear(8, 3)
        self.act = nn.Tanh()
        self.wide = nn.Linear(3, 40)

    def forward(self, x):
        return self.wide(self.act(self.narrow(self.same(x))))


@pytest.fixture
def named():
    torch.manual_seed(0)
    return Named()


def test_an_identity_layer_has_the_datas_dimension(named):
    data = cube(800, 8)
    found = representation_id(named, data, "same", random_state=0)
    direct = IntrinsicDimension("twonn", ci=0.95, random_state=0).fit(data.numpy())
    assert float(found) == direct.dimension_
    assert (found.n_points, found.n_features, found.layer) == (800, 8, "same")
    assert found.interval is not None
    assert found.interval[0] < found.dimension < found.interval[1]


def test_nothing_behind_a_bottleneck_of_three_has_more_dimensions(named):
    profile = id_profile(named, cube(1500, 8), layers=["narrow", "act", "wide"], random_state=0)
    given, *behind = profile.layers
    assert given.dimension > 5
    for one in behind:
        assert one.interval is not None
        assert one.interval[0] <= 3
        assert one.dimension < 3.3  # three standard errors above 3
    assert behind[-1].n_features == 40
    exact = representation_id(named, cube(200, 8), "wide", "lpca", ci=None, rule="ratio")
    assert exact.dimension <= 3


def test_each_layer_is_measured_as_by_itself_and_on_the_same_rows(named):
    data = DataLoader(TensorDataset(cube(900, 8), torch.zeros(900)), batch_size=70)
    profile = id_profile(named, data, max_points=300, random_state=3)
    assert [one.layer for one in profile.layers] == ["(input)", "narrow", "act", "wide"]
    assert [one.depth for one in profile.layers] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    for one in profile.layers[1:]:
        alone = representation_id(named, data, one.layer, max_points=300, random_state=3)
        assert alone.dimension == one.dimension
    assert {one.n_points for one in profile.layers} == {300}
    # a linear injection keeps neighbours nearly in place, another sample of rows would not
    assert profile.layers[3].dimension == pytest.approx(profile.layers[2].dimension, rel=0.35)


def test_the_model_is_left_as_it_was_even_after_an_error(named):
    named.train()
    named.act.eval()
    calls = []

    def broken(output):
        calls.append(1)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        representation_id(named, cube(50, 8), "act", select=broken)
    representation_id(named, cube(50, 8), "act")
    assert calls == [1]
    assert named.training
    assert not named.act.training
    assert all(not module._forward_hooks for module in named.modules())
    assert all(p.grad is None and p.requires_grad for p in named.parameters())


def test_evaluation_mode_is_what_is_measured():
    model = nn.Sequential(nn.Dropout(0.5), nn.Identity(), nn.Linear(6, 2))
    model.train()
    data = cube(300, 6)
    assert float(representation_id(model, data, "1")) == IntrinsicDimension().fit(data.numpy()).dimension_


def test_layers_that_write_in_place_do_not_spoil_those_before():
    model = nn.Sequential(nn.Identity(), nn.Threshold(10.0, 0.5, inplace=True))
    data = cube(300, 4)
    with pytest.warns(UserWarning, match="all rows of X are equal"):
        profile = id_profile(model, data.clone(), layers=["0", "1"], random_state=0)
    assert profile.layers[1].dimension == IntrinsicDimension().fit(data.numpy()).dimension_
    assert profile.layers[2].dimension == 0.0  # everything became one point


def test_maps_are_flattened_and_recurrent_outputs_are_their_first_tensor():
    torch.manual_seed(0)
    images = torch.rand(60, 1, 16, 16)
    conv = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(392, 3))
    assert representation_id(conv, images, "0").n_features == 2 * 14 * 14
    lstm = nn.Sequential(OrderedDict(rnn=nn.LSTM(4, 5, batch_first=True)))
    series = torch.rand(80, 7, 4)
    assert representation_id(lstm, series, "rnn").n_features == 35
    last = representation_id(lstm, series, "rnn", select=lambda output: output[1][0][-1])
    assert last.n_features == 5


class Keywords(nn.Module):
    """Token indices and a mask in, a mapping out."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 6)
        self.body = Mapped()

    def forward(self, tokens, scale):
        return self.body(self.embed(tokens) * scale[:, None, None])


class Mapped(nn.Module):
    def forward(self, x):
        return {"length": torch.tensor(x.shape[1]), "hidden": x.mean(1)}


def test_batches_of_keywords_and_outputs_that_are_mappings():
    generator = torch.Generator().manual_seed(0)
    tokens, scale = torch.randint(50, (120, 9), generator=generator), torch.rand(120, generator=generator)
    batches = [{"tokens": tokens[i : i + 50], "scale": scale[i : i + 50]} for i in (0, 50, 100)]
    profile = id_profile(Keywords(), batches, random_state=0)
    assert [one.layer for one in profile.layers] == ["embed", "body"]  # token numbers are no points
    assert profile.layers[1].n_features == 6
    assert profile.data is None
    assert profile.layers[-1].depth == 1


def test_the_one_matrix_of_a_mapping_is_the_input():
    class Pixels(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(6, 2)

        def forward(self, pixels, mask):
            return self.head(pixels)

    batches = [{"pixels": cube(100, 6), "mask": torch.ones(100, 3, dtype=torch.bool)}]
    profile = id_profile(Pixels(), batches, random_state=0)
    assert profile.data is not None
    assert [one.n_features for one in profile.layers] == [6, 2]


@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="needs the extra `lm`")
def test_a_transformers_model_and_its_records():
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 60}
    model = BertModel(BertConfig(num_hidden_layers=2, **sizes))
    tokens = torch.randint(60, (90, 5), generator=torch.Generator().manual_seed(1))
    batch = [{"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}]
    found = representation_id(model, batch, "encoder", select=lambda output: output.last_hidden_state[:, 0])
    assert found.n_features == 16
    assert representation_id(model, batch, "encoder").n_features == 80
    names = [one.layer for one in id_profile(model, batch, random_state=0).layers]
    assert names == ["embeddings", "encoder.layer.0", "encoder.layer.1", "pooler"]


def test_the_outline_opens_sequences_and_keeps_blocks_whole():
    names = list(outline(resnet(10, (8, 8), (1, 2), 1)))
    assert names == ["0", "1", "2", "3.0", "4.0", "4.1", "5", "7"]  # 6 is a Flatten
    assert list(outline(nn.Linear(2, 2))) == [""]
    shared = nn.ReLU()
    assert list(outline(nn.Sequential(nn.Linear(2, 2), shared, nn.Linear(2, 2), shared))) == ["0", "2"]
    names = outline(vit((1, 8, 8), 3, patch=4, width=8, depth=2, heads=1))
    assert [name for name in names if "." in name] == ["encoder.blocks.0", "encoder.blocks.1", "encoder.norm"]
    assert len(outline(lenet())) == 11


def test_a_network_by_itself_is_a_layer():
    torch.manual_seed(0)
    profile = id_profile(nn.Linear(5, 2), cube(200, 5), random_state=0)
    assert [one.layer for one in profile.layers] == ["(input)", ""]


def test_numpy_arrays_are_taken_too(named):
    data = cube(200, 8)
    assert float(representation_id(named, data.double().numpy(), "wide")) == float(
        representation_id(named, data, "wide")
    )


def test_a_batch_of_no_rows_adds_none(named):
    data = cube(200, 8)
    found = [id_profile(named, batches, random_state=0) for batches in ([data], [data, data[:0]])]
    assert found[0] == found[1]


def test_the_profile_reads_tabulates_draws_and_travels(named):
    profile = id_profile(named, cube(200, 8), random_state=0)
    frame = profile.to_frame()
    assert list(frame.layer) == ["(input)", "narrow", "act", "wide"]
    assert frame.dimension.tolist() == [float(one) for one in profile.layers]
    assert "narrow" in str(profile)
    assert "dimension" in str(profile.layers[1])
    assert profile.peak is profile.data
    ax = profile.plot()
    assert ax.get_xlabel() == "relative depth"
    assert len(ax.lines[0].get_xdata()) == 4


def test_a_layer_without_an_estimate_is_told_not_hidden():
    class Steps(nn.Module):
        def __init__(self):
            super().__init__()
            self.step = nn.Hardtanh(0.0, 1.0)
            self.out = nn.Identity()

        def forward(self, x):
            return self.out((self.step(x) > 0.5).float()[:, :1])

    model, data = Steps(), cube(100, 3)
    profile = id_profile(model, data, layers=["step", "out"], random_state=0)
    assert np.isnan(profile.layers[2].dimension)
    assert "distinct" in profile.layers[2].note
    assert IdProfile.from_json(profile.to_json()).layers[2].note == profile.layers[2].note
    with pytest.raises(ValueError, match="layer 'out'"):
        representation_id(model, data, "out")


@pytest.mark.parametrize(
    ("layer", "words"),
    [("narow", "Did you mean 'narrow'"), ("nothing", "matches no Module layer")],
)
def test_a_mistyped_layer(named, layer, words):
    with pytest.raises(ValueError, match=words):
        representation_id(named, cube(20, 8), layer)


def test_what_cannot_be_measured_is_refused(named):
    data = cube(60, 8)
    twice = nn.Sequential(OrderedDict(a=nn.Sequential(nn.Linear(8, 8)), b=nn.Sequential(nn.Linear(8, 8))))
    with pytest.raises(ValueError, match=r"2 layers are called '0': 'a.0', 'b.0'"):
        representation_id(twice, data, "0")
    act = nn.ReLU()
    with pytest.raises(ValueError, match="runs 2 times a batch"):
        representation_id(nn.Sequential(OrderedDict(a=act, b=nn.Linear(8, 8), c=act)), data, "a")
    named.unused = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="does not run its layer 'unused'"):
        representation_id(named, data, "unused")
    with pytest.raises(ValueError, match="no batch"):
        representation_id(named, [], "wide")
    with pytest.raises(ValueError, match="does not take the batches"):
        representation_id(named, np.ones((9, 2)), "wide")
    with pytest.raises(ValueError, match="more than max_bytes"):
        id_profile(named, data, layers=["wide"], max_bytes=1000)
    with pytest.raises(ValueError, match="different numbers of rows"):
        id_profile(named, data, layers=["wide"], select=lambda output: output[:30])
    with pytest.raises(TypeError, match="representation_id"):
        id_profile(named, data, layers="wide")
    with pytest.raises(TypeError, match="no tensor of numbers"):
        representation_id(Keywords(), [{"tokens": torch.zeros(3, 2, dtype=torch.int64), "scale": torch.ones(3)}],
                          "body", select=lambda output: _fail(output))  # fmt: skip
    with pytest.raises(TypeError, match="a batch must be"):
        representation_id(named, ["text"], "wide")


def _fail(output):
    from lodim.nets.activations import first_tensor

    return first_tensor({"length": output["length"]})


class Reusing(nn.Module):
    """One activation in two places, as networks are often written, and a part that ``forward`` does not use."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.out = nn.Linear(8, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.relu, self.aux = nn.ReLU(), nn.Linear(6, 2)

    def forward(self, x):
        return self.out(self.relu(self.second(self.relu(self.first(x)))))


def test_a_profile_leaves_out_layers_that_run_twice_or_never_and_names_them():
    torch.manual_seed(0)
    model, data = Reusing(), cube(400, 8)
    profile = id_profile(model, data, random_state=0)
    assert [one.layer for one in profile.layers] == ["(input)", "first", "second", "out"]
    assert profile.notes == (
        "left out are layers that do not run exactly once a batch: 'relu' is run twice, 'aux' is not run",
    )
    assert profile.notes[0] in str(profile)
    named_ones = id_profile(model, data, ["first", "second", "out"], random_state=0)
    assert named_ones.layers == profile.layers
    assert named_ones.notes == ()
    with pytest.raises(ValueError, match="'relu' runs 2 times"):
        id_profile(model, data, ["first", "relu"])
    with pytest.raises(ValueError, match="does not run its layer 'aux'"):
        id_profile(model, data, ["first", "aux"])


def test_a_profile_of_nothing_but_reused_layers_is_refused():
    class Again(nn.Module):
        def __init__(self):
            super().__init__()
            self.same = nn.Linear(4, 4)

        def forward(self, x):
            return self.same(self.same(x))

    with pytest.raises(ValueError, match=r"no layer is left to measure: .*'same' is run twice"):
        id_profile(Again(), cube(50, 4))
