"""The report's verdicts: collapse where it is, chance where labels mean nothing, no answer where there is none."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lodim.nets import mlp
from lodim.randomness import build_seeded
from lodim.representation import collapse_report, ufm_minimizer
from lodim.representation.collapse import report
from lodim.representation.collapse_reports import _verdict


class Free(nn.Module):
    """Passes its input on to linear layers: features can then be whatever one likes."""

    def __init__(self, *weights, biases=False):
        super().__init__()
        self.head = nn.Sequential(*(nn.Linear(W.shape[1], W.shape[0], bias=biases) for W in weights))
        with torch.no_grad():
            for layer, W in zip(self.head, weights):
                layer.weight.copy_(torch.from_numpy(np.asarray(W)))

    def forward(self, x):
        return self.head(x)


def collapsed(n=(40, 30, 20), lams=(1e-3, 1e-3), lam_h=1e-4, noise=1e-3, d=12):
    point = ufm_minimizer(n, lams, lam_h, dims=[d] * len(lams)).construct(0)
    X = point.features.T + noise * np.random.default_rng(0).normal(size=(sum(n), d))
    return Free(*point.weights), torch.from_numpy(X).float(), torch.from_numpy(point.labels)


def net(d=20, K=4):
    return build_seeded(lambda: mlp([d, 300, K]), 0)


def noise(n=200, d=20, K=4):
    X = torch.randn(n, d, generator=torch.Generator().manual_seed(0))
    return X, torch.arange(n) % K


def test_a_collapsed_network_is_called_so_and_lies_where_predicted():
    model, X, y = collapsed()
    found = collapse_report(model, [(X, y)], weight_decay=1e-3, random_state=0)
    assert [layer.layer for layer in found.layers] == ["head.0", "head.1"]
    assert found.verdict == "collapsed"
    assert found.accuracy == 1
    assert found.predicted_correlation == pytest.approx(1)
    assert found.predicted_distance < 1e-3  # with the features' decay found from the balance of the layers
    np.testing.assert_allclose(found.predicted.lam_h, 1e-4, rtol=1e-2)
    W = model.head[1].weight.detach().numpy() @ model.head[0].weight.detach().numpy()
    assert found.layers[0].metrics.named() == pytest.approx(report(X, y, W).named(), rel=1e-3)
    assert "30" in " ".join(found.notes) or "20 to 40" in " ".join(found.notes)


def test_labels_that_mean_nothing():
    found = collapse_report(net(), [noise()], random_state=0)
    assert found.layers[-1].verdicts["nc1"] == "no"
    assert found.layers[-1].verdicts["nc2"] in ("no", "the data cannot tell")


def test_an_untrained_network_on_classes_that_differ_has_not_collapsed():
    X, y = noise()
    X = X + 2 * nn.functional.one_hot(y, 20)
    found = collapse_report(net(), [(X, y)], layers=["0"], random_state=0)
    assert [layer.part for layer in found.layers] == ["before", "head"]
    assert {layer.verdicts["nc1"] for layer in found.layers} == {"better than chance"}


def test_one_row_a_class_or_copies_of_one_cannot_tell():
    X, y = noise(4)
    for inputs in ((X, y), (X.repeat(30, 1), y.repeat(30))):
        found = collapse_report(net(), [inputs], random_state=0)
        assert found.layers[-1].metrics.nc1 < 1e-20
        assert {found.layers[-1].verdicts[m] for m in ("nc1", "nc2", "nc3")} == {"the data cannot tell"}
        assert "one different input" in str(found)


def test_two_rows_a_class_in_many_dimensions_cannot_tell():
    """NC1 is then below any limit whatever the labels."""
    X, y = noise(8, 4000)
    model = Free(np.random.default_rng(0).normal(size=(4, 4000)))
    found = collapse_report(model, [(X, y)], random_state=0)
    assert found.layers[-1].metrics.nc1 < 0.1
    assert found.verdict == "the data cannot tell"


def test_shuffled_loaders_and_any_batches_give_the_same():
    model, X, y = collapsed()
    whole = collapse_report(model, [(X, y)], n_null=3, random_state=0)
    loader = DataLoader(TensorDataset(X, y), 7, shuffle=True)
    found = collapse_report(model, loader, n_null=3, random_state=0)
    for one, other in zip(found.layers, whole.layers):
        assert one.metrics.named() == pytest.approx(other.metrics.named(), rel=1e-4, abs=1e-9)
        assert one.null["nc1"] == pytest.approx(other.null["nc1"], rel=1e-4)
    assert "in one case of 4" in str(found)


def test_a_head_behind_dropout_convolutions_and_a_softmax():
    class Images(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.a, self.b = nn.Conv2d(1, 3, 3), nn.Linear(12, 6), nn.Linear(6, 3)
            self.unused = nn.Linear(2, 2)

        def forward(self, x):
            h = torch.relu(self.conv(x).flatten(1))
            return torch.log_softmax(self.b(torch.dropout(self.a(h), 0.5, self.training)), 1)

    X, y = torch.randn(30, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 3
    model = build_seeded(Images, 0).train()
    found = collapse_report(model, [(X, y)], layers="conv", n_null=2, random_state=0)
    assert [layer.layer for layer in found.layers] == ["conv", "a", "b"]
    assert [layer.n_units for layer in found.layers] == [3, 12, 6]
    assert model.training


def test_mappings_as_those_of_hugging_face():
    class Texts(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.dense, self.classifier = nn.Embedding(9, 5), nn.Linear(5, 5), nn.Linear(5, 2)

        def forward(self, input_ids, attention_mask=None, labels=None):
            assert labels is None  # the loss would come first
            pooled = torch.tanh(self.dense(self.words(input_ids)[:, 0]))
            return {"logits": self.classifier(pooled), "hidden": pooled}

    ids = torch.randint(9, (24, 6), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.arange(24) % 2}
    found = collapse_report(build_seeded(Texts, 0), [batch], n_null=2, random_state=0)
    assert [layer.layer for layer in found.layers] == ["classifier"]


def test_absent_classes_and_unequal_ones_with_cross_entropy_are_told():
    model, X, y = collapsed((20, 10, 5))
    found = collapse_report(model, [(X, y)], weight_decay=1e-3, criterion="ce", n_null=2, random_state=0)
    assert found.predicted is None
    assert "closed form" in str(found)
    found = collapse_report(model, [(X[y > 0], y[y > 0])], weight_decay=1e-3, n_null=2, random_state=0)
    assert len(found.class_counts) == 2
    assert "have no rows" in str(found)
    assert np.isnan(found.predicted_distance)


def test_features_that_are_all_one_point():
    model, X, y = collapsed()
    found = collapse_report(model, [(torch.ones_like(X), y)], n_null=2, random_state=0)
    assert found.layers[0].metrics.nc1 == np.inf
    assert found.verdict != "collapsed"
    assert type(found).from_json(found.to_json()).n_rows == found.n_rows


def test_the_result_draws_and_tabulates():
    model, X, y = collapsed()
    found = collapse_report(model, [(X, y)], n_null=2, random_state=0)
    assert found.plot() is not None
    assert found.layers[0].plot() is not None
    assert len(found.to_frame()) == 8


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda X, y: iter([(X, y)]), "no generator"),
        (lambda X, y: [X], "no labels"),
        (lambda X, y: [(X, y + 1)], "no output"),
        (lambda X, y: [(X, 0 * y)], "at least two"),
        (lambda X, y: [(X, y.double())], "whole numbers"),
        (lambda X, y: [(X * np.nan, y)], "not finite"),
        (lambda X, y: [], "no batch"),
    ],
)
def test_bad_loaders(change, words):
    model, X, y = collapsed()
    with pytest.raises(ValueError, match=words):
        collapse_report(model, change(X, y), n_null=1)


def test_a_model_without_a_linear_head():
    _, X, y = collapsed()
    with pytest.raises(ValueError, match="no linear layer"):
        collapse_report(nn.Sequential(nn.ReLU()), [(X, y)])
    with pytest.raises(ValueError, match="linear layers"):
        collapse_report(nn.Sequential(nn.ReLU(), nn.Linear(12, 3)), [(X, y)], classifier="0")


def test_a_relu_that_lets_the_first_batch_by_ends_the_head():
    X = torch.rand(30, 10, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        model[0].weight[:, 0] = -3
        model[0].bias.fill_(2)
    X[0, 0] = 0  # all units of the first row are positive
    assert (model[0](X[:1]) > 0).all()
    assert (model[0](X) < 0).any()
    found = collapse_report(model, [(X[i : i + 1], [i % 3]) for i in range(30)], random_state=0, n_null=1)
    assert [layer.layer for layer in found.layers] == ["2"]


def test_a_layer_of_the_head_asked_for_once_more():
    with pytest.raises(ValueError, match="measured anyway"):
        collapse_report(net(), [noise()], layers="2")


@pytest.mark.parametrize("hidden", [(), (2,)])
def test_features_narrower_than_the_classes(hidden):
    X, y = noise(120, 10, 6)
    torch.manual_seed(0)
    model = mlp([10, 2, 6]) if not hidden else nn.Sequential(nn.Linear(10, 2), nn.Linear(2, 6))
    options = {"weight_decay": 1e-5, "feature_decay": 1e-6, "n_null": 1, "random_state": 0}
    found = collapse_report(model, [(X, y)], **options)
    assert np.linalg.matrix_rank(found.predicted.classifier_gram) <= 2
    found = collapse_report(model, [(X, y)], criterion="ce", **options)
    assert found.predicted is None
    assert "K - 1" in " ".join(found.notes)


def test_classes_apart_in_the_inputs_of_an_untrained_network():
    X, y = noise()
    found = collapse_report(net(), [(X + 8 * nn.functional.one_hot(y, 20), y)], random_state=0)
    assert found.verdict == "collapsed"
    assert "untrained" in " ".join(found.notes)


def test_just_below_a_limit_that_chance_is_just_above():
    assert _verdict(0.19, [0.21, 0.5], 0.2) == "better than chance"
    assert _verdict(0.1, [0.21, 0.5], 0.2) == "collapsed"


def test_what_is_printed_has_limits_and_no_advice_already_taken():
    model, X, y = collapsed()
    found = collapse_report(model, [(X, y)], weight_decay=1e-3, n_null=3, random_state=0)
    assert dict(zip(found.to_frame().metric, found.to_frame().limit))["nc1"] == 0.1
    assert not any("give weight_decay" in note for note in found.notes)
    bare = collapse_report(model, [(X, y)], n_null=3, random_state=0)
    assert any("give weight_decay" in note for note in bare.notes)
    assert len(bare.layers[-1].plot().get_xlabel())
    one = collapse_report(Free(np.eye(3, 12)), [(X, y)], n_null=3, random_state=0)
    assert len(one.plot().collections) == 3  # a mark for each metric's null, also of one layer
    with pytest.raises(ValueError, match=r"got \[-1, 0, 1\]"):
        collapse_report(model, [(X, y - 1)])
