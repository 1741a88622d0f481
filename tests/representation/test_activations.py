"""What is collected of a model's layers: rows, units, places, labels; and that the model is left as it was."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lodim.randomness import build_seeded
from lodim.representation.activations import collect, unit_rows


class ConvNet(nn.Module):
    """A convolution, a ReLU that writes into its input, a head; dropout shows whether it is in training."""

    def __init__(self, channels=5):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(2, channels, 3), nn.ReLU(inplace=True)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(channels * 16, 3)

    def forward(self, x):
        return self.head(self.drop(self.relu(self.conv(x)).flatten(1)))


IMAGES = torch.randn(10, 2, 6, 6, generator=torch.Generator().manual_seed(0))
NET = build_seeded(ConvNet, 0)


def maps(net=NET):
    with torch.no_grad():
        return net.conv(IMAGES).numpy()


def test_each_place_of_a_map_is_a_row_of_channels():
    found = collect(NET, ["conv", "head"], IMAGES, batch_size=4)
    assert list(found) == ["conv", "head"]
    assert found["conv"].shape == (160, 5)
    np.testing.assert_allclose(found["conv"], maps().transpose(0, 2, 3, 1).reshape(160, 5), atol=1e-6)
    np.testing.assert_array_equal(found.samples["conv"], np.repeat(np.arange(10), 16))
    assert found["head"].shape == (10, 3)
    np.testing.assert_array_equal(found.samples["head"], np.arange(10))


def test_flattened_each_place_is_a_unit_and_in_the_mean_none_is():
    np.testing.assert_allclose(
        collect(NET, "conv", IMAGES, reduce="flatten")["conv"], maps().reshape(10, -1), atol=1e-6
    )
    mean = collect(NET, "conv", IMAGES, reduce="mean", batch_size=3)
    np.testing.assert_allclose(mean["conv"], maps().mean((2, 3)), atol=1e-6)
    assert mean.samples["conv"].tolist() == list(range(10))


def test_the_same_places_are_drawn_in_both_networks():
    wide = build_seeded(lambda: ConvNet(7), 1)
    wide.conv.weight.data[:5], wide.conv.bias.data[:5] = NET.conv.weight, NET.conv.bias
    a, b = (
        collect(net, "conv", IMAGES, max_positions=4, batch_size=5, random_state=3)["conv"]
        for net in (NET, wide)
    )
    assert a.shape == (40, 5)
    np.testing.assert_allclose(a, b[:, :5], atol=1e-5)
    places = maps().transpose(0, 2, 3, 1).reshape(10, 16, 5)
    at = [
        [int(np.abs(places[i] - row).sum(1).argmin()) for row in rows]
        for i, rows in enumerate(a.reshape(10, 4, 5))
    ]
    assert all(len(set(row)) == 4 for row in at)  # no place twice
    assert all(row == at[0] for row in at[:5])  # of all images of a batch the same ones
    other = collect(NET, "conv", IMAGES, max_positions=4, batch_size=5, random_state=4)["conv"]
    assert not np.allclose(a, other)
    all_of_them = collect(NET, "conv", IMAGES, max_positions=99)["conv"]
    np.testing.assert_array_equal(all_of_them, collect(NET, "conv", IMAGES)["conv"])


def test_a_relu_that_writes_in_place_changes_nothing_of_the_layer_before_it():
    found = collect(NET, ["conv", "relu"], IMAGES)
    assert found["conv"].min() < 0
    np.testing.assert_array_equal(found["relu"], found["conv"].clip(0))


def test_the_model_is_as_it_was_also_after_an_error():
    net = build_seeded(ConvNet, 0).train()
    net.conv.eval()
    state = {name: value.clone() for name, value in net.state_dict().items()}

    def untouched():
        assert [part.training for part in net.modules()] == [True, False, True, True, True]
        assert not any(part._forward_hooks for part in net.modules())
        assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())

    once, twice = collect(net, "head", IMAGES), collect(net, "head", IMAGES)
    np.testing.assert_array_equal(once["head"], twice["head"])  # no dropout
    untouched()
    with pytest.raises(ValueError, match="does not take the batches"):
        collect(net, "head", [IMAGES, IMAGES[:, :1]])
    untouched()
    with pytest.raises(ValueError, match="labels must be one a sample"):
        collect(net, "head", [(IMAGES, torch.zeros(3))])
    untouched()


def test_labels_go_with_the_rows():
    labels = torch.arange(10) % 3
    batches = [(IMAGES[:7], labels[:7]), (IMAGES[7:], labels[7:])]
    found = collect(NET, ["conv", "head"], batches)
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal(found.labels_of("conv"), np.repeat(labels, 16))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(IMAGES, labels), batch_size=4)
    np.testing.assert_array_equal(collect(NET, "head", loader).labels_of("head"), labels)
    bare = collect(NET, "head", IMAGES)
    assert bare.labels is None
    with pytest.raises(ValueError, match="held no labels"):
        bare.labels_of("head")
    with pytest.raises(ValueError, match="some batches hold labels and others none"):
        collect(NET, "head", [(IMAGES[:7], labels[:7]), IMAGES[7:]])


class Tokens(nn.Module):
    """As transformers are called: by keyword, with a mapping of an output."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.block = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)

    def forward(self, input_ids, labels=None):
        return {"logits": self.block(self.embed(input_ids))}


IDS = torch.randint(0, 11, (4, 7), generator=torch.Generator().manual_seed(1))


def test_tokens_are_rows_and_mappings_are_batches():
    net = build_seeded(Tokens, 0)
    batches = [
        {"input_ids": IDS[:3], "labels": torch.arange(3)},
        {"input_ids": IDS[3:], "labels": torch.arange(1)},
    ]
    found = collect(net, ["embed", "block", ""], batches)
    assert found["embed"].shape == (28, 6)
    np.testing.assert_array_equal(found["embed"], net.embed.weight.detach()[IDS.flatten()])
    assert found[""].shape == (28, 6)  # the model itself: the first tensor of what it returns
    np.testing.assert_array_equal(found[""], found["block"])
    assert found.labels.tolist() == [0, 1, 2, 0]
    assert found.labels_of("embed").tolist() == np.repeat([0, 1, 2, 0], 7).tolist()
    mean = collect(net, "embed", batches, reduce="mean")
    np.testing.assert_allclose(mean["embed"], found["embed"].reshape(4, 7, 6).mean(1), atol=1e-6)
    flipped = collect(net, "embed", batches, unit_axis={"embed": 1})
    assert flipped["embed"].shape == (24, 7)
    with pytest.raises(ValueError, match="unit_axis must be one of 1 to 2"):
        collect(net, "embed", batches, unit_axis=3)
    with pytest.raises(ValueError, match=r"unit_axis names \['other'\]"):
        collect(net, "embed", batches, unit_axis={"other": 1})


class Twice(nn.Module):
    """A layer that runs twice, and one that stands in two places and runs once."""

    def __init__(self):
        super().__init__()
        self.again, self.once, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.alias = self.once

    def forward(self, x):
        return self.last(self.alias(self.again(self.again(x))))


def test_a_layer_that_runs_twice_cannot_be_told_apart():
    net, x = build_seeded(Twice, 0), torch.ones(5, 4)
    with pytest.raises(ValueError, match="'again' runs 2 times a batch"):
        collect(net, "again", x)
    assert list(collect(net, None, x)) == ["last"]  # of those a reader would name, what can be told apart
    assert collect(net, "once", x)["once"].shape == (5, 4)


def test_layers_by_wildcards_and_none_that_is_missing():
    net = build_seeded(lambda: nn.Sequential(*(nn.Linear(4, 4) for _ in range(3))), 0)
    assert list(collect(net, ["[02]"], torch.ones(2, 4))) == ["0", "2"]
    assert list(collect(net, None, torch.ones(2, 4))) == ["0", "1", "2"]
    with pytest.raises(ValueError, match="matches no Module"):
        collect(net, "7", torch.ones(2, 4))


@pytest.mark.parametrize("data", [torch.zeros(0, 2, 6, 6), [], np.zeros((0, 2, 6, 6))])
def test_no_batch_is_an_error(data):
    with pytest.raises(ValueError, match="the data hold no batch"):
        collect(NET, "conv", data)


def test_masked_entries_are_refused():
    images = IMAGES.numpy()
    with pytest.raises(ValueError, match=r"data has .* masked entries"):
        collect(NET, "conv", np.ma.masked_array(images, images > 1))


def test_precision_of_the_matrices():
    half = build_seeded(lambda: nn.Sequential(nn.Linear(4, 3)), 0).bfloat16()
    x = torch.ones(2, 4, dtype=torch.bfloat16)
    found = collect(half, "0", x)["0"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, half(x).detach().float())
    assert collect(NET, "conv", IMAGES, dtype=np.float64)["conv"].dtype == np.float64
    assert (
        collect(NET.double(), "conv", IMAGES.numpy())["conv"].dtype == np.float64
    )  # what comes goes in as the model's
    NET.float()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "int32"}, "dtype must be a floating-point type"),
        ({"dtype": {}}, "dtype must be a floating-point type"),
        ({"layers": 3}, "layers must be a name, several names or None, got 3"),
        ({"data": np.array(["a", "b"])}, "data must hold numbers"),
        ({"data": IMAGES.to_sparse()}, "data is sparse"),
    ],
)
def test_arguments_of_the_wrong_kind(options, words):
    with pytest.raises(TypeError, match=words):
        collect(NET, **{"layers": "conv", "data": IMAGES, **options})


def test_units_are_where_the_kind_of_layer_has_them():
    x = torch.arange(24.0).reshape(2, 3, 4)
    assert unit_rows(x, nn.Linear(4, 4))[0].shape == (6, 4)
    assert unit_rows(x, nn.Conv1d(3, 3, 1))[0].shape == (8, 3)
    assert unit_rows(x, nn.BatchNorm1d(3))[0].shape == (8, 3)
    assert unit_rows(x[..., None], nn.ReLU())[0].shape == (8, 3)
    np.testing.assert_array_equal(unit_rows(x, nn.Linear(4, 4), "mean")[0], x.mean(1))
    with pytest.raises(ValueError, match="one number"):
        unit_rows(torch.tensor(1.0), nn.Linear(4, 4))


def test_tokens_that_the_attention_mask_leaves_out_are_no_rows():
    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(9, 4)

        def forward(self, input_ids, attention_mask):
            return self.embed(input_ids)

    model, ids = Tagger(), torch.arange(8).reshape(2, 4)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0]])
    batch = {"input_ids": ids, "attention_mask": mask}
    table = model.embed.weight.detach().numpy()
    found = collect(model, "embed", [batch, batch])
    np.testing.assert_array_equal(found["embed"], table[[0, 1, 4, 5, 6] * 2])
    np.testing.assert_array_equal(found.samples["embed"], [0, 0, 1, 1, 1, 2, 2, 3, 3, 3])
    means = collect(model, "embed", [batch], reduce="mean")["embed"]
    np.testing.assert_allclose(means, [table[:2].mean(0), table[4:7].mean(0)], rtol=1e-6)


def test_a_batch_without_samples_adds_no_row():
    batches = [IMAGES[:0], IMAGES[:4], IMAGES[4:4], IMAGES[4:]]
    for reduce in ("channels", "mean", "flatten"):
        found, whole = (collect(NET, ["conv", "head"], data, reduce=reduce) for data in (batches, IMAGES))
        for name in whole:
            np.testing.assert_allclose(found[name], whole[name], atol=1e-6)
            np.testing.assert_array_equal(found.samples[name], whole.samples[name])


def test_activations_print_as_shapes_and_data_frames_are_refused():
    assert repr(collect(NET, "head", IMAGES)) == "Activations of 1 layers as rows x units: 'head': 10 x 3"
    with pytest.raises(TypeError, match=r"data is a data frame.*to_numpy"):
        collect(NET, "head", pd.DataFrame(np.ones((4, 2))))
