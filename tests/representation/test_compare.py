"""Two models beside each other: identities, streams, chance, and what people bring."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from lodim.nets import lenet, mlp
from lodim.representation import (
    cka,
    collect,
    compare,
    minibatch_cka,
    mutual_knn,
    permutation_distance,
    procrustes_distance,
)
from lodim.representation.comparing import _chance, _pairs
from lodim.representation.comparison import MEASURES, Comparison

DATA = torch.rand(128, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
FAST = {"n_shuffles": 19, "random_state": 0}
BARE = {"n_shuffles": 0, "scrambled": False, "random_state": 0}


def net(seed: int = 0, widths: tuple[int, ...] = (8, 12, 6)) -> nn.Sequential:
    torch.manual_seed(seed)
    return mlp(list(widths), "tanh").double()


def permuted(model: nn.Sequential, order: list[int], scale: torch.Tensor) -> nn.Sequential:
    """The same function, with the hidden units of the first layer in another order."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[0].weight.copy_(model[0].weight[order])
        other[0].bias.copy_(model[0].bias[order])
        other[2].weight.copy_(model[2].weight[:, order])
    return other


def test_a_model_is_like_itself():
    model = net()
    found = compare(model, model, DATA, **FAST)
    assert [pair.name for pair in found.pairs] == ["0", "1", "2"]
    for pair in found.pairs:
        assert pair.scores == pytest.approx(dict.fromkeys(MEASURES, 1.0), abs=1e-6)
        assert all(p == pytest.approx(1 / 20) for p in pair.p_values.values())
        assert pair.dimension_a == pair.dimension_b
        assert all(pair.scrambled[m] < 0.95 for m in MEASURES)


def test_units_in_another_order_are_the_same_units():
    model = net()
    order = [3, 0, 11, 1, 2, 10, 9, 4, 8, 5, 7, 6]
    found = compare(model, permuted(model, order, None), DATA, **BARE)
    for pair in found.pairs:
        assert pair.scores == pytest.approx(dict.fromkeys(MEASURES, 1.0), abs=1e-6)
        assert pair.scrambled == {}


def test_a_rotated_layer_is_the_same_space_of_other_units():
    a = nn.Sequential(nn.Linear(8, 8, dtype=torch.float64))
    rotation = torch.linalg.qr(
        torch.randn(8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    )[0]
    b = copy.deepcopy(a)
    with torch.no_grad():
        b[0].weight.copy_(rotation @ a[0].weight)
    scores = compare(a, b, DATA, **FAST).pairs[0].scores
    assert [scores[m] for m in ("cka", "procrustes", "neighbours")] == pytest.approx([1.0] * 3, abs=1e-6)
    assert scores["one_to_one"] < 0.9
    assert scores["semi"] < 0.9


def test_it_says_what_the_measures_say_of_collected_activations():
    a, b = net(0), net(1)
    found = compare(a, b, DATA, batch_size=64, max_points=200, n_neighbors=7, **BARE)
    X, Y = (collect(model, None, DATA) for model in (a, b))
    for pair in found.pairs:
        x, y = X[pair.layer_a], Y[pair.layer_b]
        assert pair.scores["cka"] == pytest.approx(
            minibatch_cka([(x[:64], y[:64]), (x[64:], y[64:])]), abs=1e-10
        )
        assert pair.scores["one_to_one"] == pytest.approx(1 - permutation_distance(x, y) ** 2 / 2, abs=1e-10)
        assert pair.scores["procrustes"] == pytest.approx(np.cos(procrustes_distance(x, y)), abs=1e-8)
        assert pair.scores["neighbours"] == pytest.approx(mutual_knn(x, y, n_neighbors=7), abs=1e-12)
    assert found.cka[0, 2] == pytest.approx(cka(X["0"], Y["2"]), abs=0.02)


@pytest.mark.parametrize("size", [1, 7])
def test_the_batches_do_not_matter(size):
    a, b = net(0), net(1)
    whole, parts = (compare(a, b, DATA, batch_size=s, **BARE) for s in (128, size))
    for one, other in zip(whole.pairs, parts.pairs):
        for measure in ("one_to_one", "semi", "soft", "procrustes", "neighbours"):
            assert other.scores[measure] == pytest.approx(one.scores[measure], abs=1e-9)
        assert other.scores["cka"] == pytest.approx(one.scores["cka"], abs=0.05)


def test_what_is_kept_is_a_uniform_sample():
    found = compare(net(0), net(1), DATA, max_points=20, batch_size=16, **BARE)
    assert (found.n_samples, found.n_kept) == (128, 20)
    from lodim.representation.comparing import _Gathering

    counts = np.zeros(60)
    for seed in range(150):
        gathering = _Gathering({}, None, "auto", 1, 20, seed)
        for start in range(0, 60, 12):
            gathering._keep({("a", "x"): torch.arange(start, start + 12.0)[:, None, None]})
        counts[gathering.kept["a", "x"].long().flatten().numpy()] += 1
    assert counts.sum() == 150 * 20
    assert abs(counts - 50).max() < 4.5 * np.sqrt(150 * (1 / 3) * (2 / 3))


@pytest.mark.slow
def test_unrelated_inputs_are_told_apart_from_chance_at_the_stated_rate():
    generator = np.random.default_rng(0)
    below, single = 0, []
    for seed in range(120):
        x, y = (torch.from_numpy(generator.normal(size=(40, 8))) for _ in range(2))
        found = compare(
            net(0), net(1), x, loader_b=y, n_shuffles=19, scrambled=False, n_neighbors=5, random_state=seed
        )
        below += min(min(pair.adjusted.values()) for pair in found.pairs) <= 0.05
        single.append(found.pairs[0].p_values["cka"])
    assert below <= 14  # 6 expected; above with a chance of .002
    assert 0.4 < np.mean(single) < 0.65


def test_p_values_count_the_score_itself_and_are_adjusted_by_the_largest():
    names = list(MEASURES)
    draw = lambda *values: [dict(zip(names, values))]  # noqa: E731
    observed = draw(3.0, 0, 0, 0, 0, np.nan)
    draws = [draw(1.0, 5.0, 0, 0, 0, 1.0), draw(2.0, 0, 0, 0, 0, 1.0), draw(3.0, 0, 0, 0, 0, 1.0)]
    shuffled, p, adjusted = _chance(observed, draws)
    assert shuffled[0]["cka"] == pytest.approx(2.0)
    assert p[0]["cka"] == pytest.approx(2 / 4)  # itself and one as large
    assert p[0]["semi"] == pytest.approx(1.0)
    assert adjusted[0]["cka"] == pytest.approx(3 / 4)  # the other measure's largest counts as well
    assert np.isnan(p[0]["soft"])
    assert np.isnan(adjusted[0]["soft"])


def test_layers_by_name_wildcard_and_pair():
    a, b = net(0, (8, 12, 10, 6)), net(1, (8, 12, 6))
    by_depth = [(pair.layer_a, pair.layer_b) for pair in compare(a, b, DATA[:40], **BARE).pairs]
    assert by_depth == [("0", "0"), ("1", "0"), ("2", "1"), ("3", "2"), ("4", "2")]
    told = compare(a, b, DATA[:40], {"2": "0", "4": "2"}, **BARE)
    assert [(pair.layer_a, pair.layer_b) for pair in told.pairs] == [("2", "0"), ("4", "2")]
    assert told.cka.shape == (2, 2)
    wrapped = nn.Sequential(nn.ModuleDict({"one": nn.Identity()})["one"], a)
    assert [pair.layer_a for pair in compare(wrapped, wrapped, DATA[:40], "1.[02]", **BARE).pairs] == [
        "1.0",
        "1.2",
    ]
    with pytest.raises(ValueError, match="no_such"):
        compare(a, b, DATA[:40], "no_such", **BARE)
    with pytest.raises(ValueError, match="must be as many"):
        compare(a, b, DATA[:40], {"[02]": "0"}, **BARE)
    with pytest.raises(ValueError, match="layers is empty"):
        compare(a, b, DATA[:40], [], **BARE)
    assert _pairs(["x"], ["p", "q", "r"]) == [("x", "p"), ("x", "q"), ("x", "r")]


def test_maps_are_compared_at_the_same_places_of_images_of_any_size():
    class Wide(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(nn.functional.interpolate(x, scale_factor=2, mode="nearest"))

    conv = nn.Sequential(nn.Conv2d(1, 5, 1), nn.ReLU())
    images = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = compare(conv, Wide(conv), images, {"1": "model.1"}, max_positions=16, **BARE)
    assert found.pairs[0].rows_per_sample == 16
    assert found.pairs[0].scores == pytest.approx(dict.fromkeys(MEASURES, 1.0), abs=1e-5)
    mixed = compare(lenet(), mlp_of_images(), torch.rand(40, 1, 28, 28), {"0": "1"}, **BARE)
    assert mixed.pairs[0].rows_per_sample == 1


def mlp_of_images() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


class Tokens(nn.Module):
    """Two token-wise layers behind an embedding, called by name as a Hugging Face model."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embed, self.first, self.second = nn.Embedding(30, 6), nn.Linear(6, 9), nn.Linear(9, 5)

    def forward(self, input_ids, attention_mask=None, labels=None):
        return self.second(self.first(self.embed(input_ids)).tanh()), None


def test_what_the_attention_mask_leaves_out_does_not_count():
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 30, (24, 6), generator=generator)
    rubbish = torch.randint(0, 30, (24, 4), generator=generator)
    mask = torch.ones(24, 10, dtype=torch.long)
    mask[:, 6:] = 0
    short = [{"input_ids": ids, "attention_mask": torch.ones_like(ids)}]
    padded = [{"input_ids": torch.cat([ids, rubbish], 1), "attention_mask": mask}]
    one, other = (compare(Tokens(0), Tokens(1), batches, **BARE) for batches in (short, padded))
    for a, b in zip(one.pairs, other.pairs):
        assert a.scores == pytest.approx(b.scores, abs=1e-5)
    batches = [{"input_ids": ids[:, :n]} for n in (6, 3)]
    with pytest.raises(ValueError, match="reduce='mean' allows"):
        compare(Tokens(0), Tokens(1), batches, "first", reduce="places", **BARE)


def test_a_hugging_face_model():
    transformers = pytest.importorskip("transformers", reason="needs the extra `lm`")
    config = transformers.BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=20,
        num_labels=3,
    )
    torch.manual_seed(0)
    a, b = (transformers.BertForSequenceClassification(config) for _ in range(2))
    ids = torch.randint(0, 40, (20, 7), generator=torch.Generator().manual_seed(0))
    batch = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": torch.zeros(20, dtype=torch.long),
    }
    names = [pair.name for pair in compare(a, b, [batch], **BARE).pairs]
    assert names == [
        "bert.embeddings",
        "bert.encoder.layer.0",
        "bert.encoder.layer.1",
        "bert.pooler",
        "classifier",
    ]
    assert len(compare(a, b, [batch], "layer.*.attention", **BARE).pairs) == 2


def test_models_come_back_as_they_were_and_may_share_parts():
    trunk = nn.Linear(8, 12, dtype=torch.float64)
    a, b = (nn.Sequential(trunk, nn.Dropout(0.5), nn.Linear(12, 3, dtype=torch.float64)) for _ in range(2))
    a.train()
    b[1].eval()
    before = [p.clone() for p in b.parameters()]
    found = compare(a, b, DATA, **BARE)
    assert found.pairs[0].scores["cka"] == pytest.approx(1.0, abs=1e-9)
    assert found.pairs[1].scores["cka"] < 0.99
    assert a.training
    assert a[1].training
    assert not b[1].training
    assert b[0].training
    assert not any(module._forward_hooks for model in (a, b) for module in model.modules())
    assert all(torch.equal(x, y) for x, y in zip(before, b.parameters()))
    tied = nn.Sequential(trunk, nn.Linear(12, 8, dtype=torch.float64), nn.Linear(8, 12, dtype=torch.float64))
    tied[2].weight = trunk.weight
    assert len(compare(tied, a, DATA, {"1": "2"}, **BARE).pairs) == 1


def test_other_precision_compiled_models_and_wrappers():
    a = mlp([8, 12, 6])
    half = copy.deepcopy(a).to(torch.bfloat16)
    data = DATA.float()
    found = compare(a, half, data, loader_b=data.to(torch.bfloat16), **BARE)
    assert all(pair.scores["cka"] > 0.99 for pair in found.pairs)
    wrapped = compare(torch.compile(a, backend="eager"), nn.DataParallel(a), data, **BARE)
    assert [pair.name for pair in wrapped.pairs] == ["0", "1", "2"]
    arrays = compare(net(0), net(1), DATA.numpy(), **BARE)
    assert arrays == compare(net(0), net(1), DATA, **BARE)


def test_dead_units_and_constant_layers_are_said():
    a, b = net(0), net(1)
    with torch.no_grad():
        a[0].weight[:3] = 0
        b[2].weight.zero_()
    found = compare(a, b, DATA, **FAST)
    assert (found.pairs[0].dead_a, found.pairs[0].dead_b) == (3, 0)
    last = found.pairs[2]
    assert last.dead_b == 6
    assert np.isnan([last.scores[m] for m in ("cka", "procrustes", "one_to_one")]).all()
    assert not last.told("cka")
    assert "–" in str(found)
    assert np.isfinite([found.pairs[0].scores[m] for m in MEASURES]).all()


def test_what_was_known_when_it_was_interrupted_comes_back():
    def batches():
        for number in range(4):
            if number == 3:
                raise KeyboardInterrupt
            yield DATA[32 * number : 32 * (number + 1)]

    found = compare(net(0), net(1), batches(), **BARE)
    assert (found.n_samples, found.complete) == (96, False)
    assert "interrupted" in str(found)


def test_progress_and_no_shuffles():
    told = []
    found = compare(
        net(0),
        net(1),
        DATA,
        n_shuffles=0,
        progress=lambda share, text: told.append((share, text)),
        batch_size=64,
    )
    assert [share for share, _ in told] == [0.5, 1.0]
    assert found.pairs[0].p_values == {}
    assert "nothing is said of chance" in found.verdict


def test_layers_that_run_twice_are_left_out_and_named():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.act, self.two = nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4)

        def forward(self, x):
            return self.two(self.act(self.act(self.one(x))))

    found = compare(Twice(), Twice(), DATA.float(), n_shuffles=0, random_state=0)
    assert [pair.name for pair in found.pairs] == ["one", "two"]
    assert "'a.act'" in found.notes[0]
    assert "scrambled" not in found.notes[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": DATA[:3]}, "at least 4 samples"),
        ({"data": []}, "no batch"),
        ({"data": DATA * np.inf}, "not finite"),
        ({"loader_b": DATA[:100]}, "same samples"),
        ({"loader_b": [DATA, DATA], "data": [DATA]}, "goes on after the end"),
        ({"loader_b": [DATA], "data": [DATA, DATA]}, "ends after 1 batches"),
        ({"reduce": "channels"}, "reduce must be"),
        ({"max_points": 3}, "max_points"),
        ({"n_shuffles": -1}, "n_shuffles"),
        ({"data": torch.rand(20, 5)}, "does not take the batches"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value.replace(" ", "-"),
)
def test_bad_input(change, said):
    change = dict(change)
    with pytest.raises(ValueError, match=said):
        compare(net(0), net(1), change.pop("data", DATA), **change)


def test_the_answer_prints_draws_and_travels():
    found = compare(net(0), net(1), DATA, **FAST)
    assert Comparison.from_json(found.to_json()) == found
    frame = found.to_frame()
    assert list(frame.measure[:6]) == list(MEASURES)
    assert len(frame) == 18
    assert "one-to-one" in str(found)
    assert "shuffled" in str(found)
    assert len(found.plot().figure.axes) == 3  # two panels and the colours
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    assert found.plot(ax=ax) is ax
    assert found.plot_cka(ax=plt.subplots()[1]).get_xlabel() == "layers of b"
    plt.close("all")


def test_tables_of_positions_and_layers_without_a_tensor_are_left_out():
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.place, self.first, self.log = nn.Embedding(6, 8), nn.Linear(8, 5), Silent()

        def forward(self, x):
            self.log(x)
            return self.first(x + self.place(torch.arange(6)[None]))

    class Silent(nn.Module):
        def forward(self, x):
            return None

    data = torch.rand(40, 6, 8, generator=torch.Generator().manual_seed(0))
    found = compare(Positions(), Positions(), data, **BARE)
    assert [pair.name for pair in found.pairs] == ["first"]
    assert "'a.place'" in found.notes[0]
    assert "'b.log'" in found.notes[0]
    with pytest.raises(TypeError, match="a NoneType: it cannot be compared"):
        compare(Positions(), Positions(), data, "log", **BARE)
    with pytest.raises(ValueError, match="along axis 0"):
        compare(Positions(), Positions(), data, ["place", "first"], **BARE)


def test_equal_samples_are_a_constant_layer_whatever_their_rounding():
    torch.manual_seed(0)
    a, b = mlp([5, 6, 4]), mlp([5, 6, 4])
    found = compare(
        a, b, torch.rand(1, 5).repeat(40, 1), **FAST
    )  # products of matrices round rows differently
    for pair in found.pairs:
        assert np.isnan([pair.scores[m] for m in MEASURES if m != "neighbours"]).all()
        assert not any(pair.told(m) for m in MEASURES)
        assert "rounding" in pair.note
    assert np.isnan(found.cka).all()


def test_measures_that_no_shuffle_changes_are_not_told_by_their_rounding():
    rng = np.random.default_rng(0)
    steady = lambda: 0.9 + 1e-16 * rng.integers(-3, 3)  # noqa: E731
    draws = [[{m: steady() for m in MEASURES}] for _ in range(19)]
    adjusted = _chance([dict.fromkeys(MEASURES, 0.9 + 1e-15)], draws)[2]
    assert set(adjusted[0].values()) == {1.0}


@pytest.mark.parametrize("scale", [1e-24, 1e-12, 1e12, 1e22])
def test_units_of_any_size_in_single_precision(scale):
    torch.manual_seed(0)
    a = nn.Sequential(nn.Linear(8, 5, bias=False))
    b = copy.deepcopy(a)
    with torch.no_grad():
        b[0].weight.mul_(scale)
    found = compare(a, b, DATA.float(), **BARE)
    assert found.pairs[0].scores == pytest.approx(dict.fromkeys(MEASURES, 1.0), abs=1e-5)


def test_weights_that_a_norm_computes_and_layers_without_shapes():
    with pytest.warns(FutureWarning):
        normed = nn.Sequential(nn.utils.weight_norm(nn.Linear(8, 5)))
    normed(DATA.float())
    assert compare(normed, normed, DATA.float(), **BARE).pairs[0].scores["cka"] == pytest.approx(
        1.0, abs=1e-5
    )
    with pytest.raises(ValueError, match="model_b has parameters whose shapes"):
        compare(normed, nn.Sequential(nn.LazyLinear(5)), DATA.float(), **BARE)


def test_verdicts_are_true_where_little_is_known():
    few = compare(net(0), net(0), DATA, n_shuffles=18, random_state=0)
    assert "After 18 shuffles nothing can be told" in few.verdict
    assert "?" not in str(few)
    found = compare(net(0), net(0), DATA, **FAST)
    worse = dataclasses.replace(
        found,
        pairs=tuple(dataclasses.replace(p, scrambled=dict.fromkeys(MEASURES, 2.0)) for p in found.pairs),
    )
    assert "in 0 of 3, and not in the median" in worse.verdict


def test_an_interruption_within_the_sums_leaves_all_with_the_same_samples(monkeypatch):
    from lodim.linalg import CrossMoments

    calls, update = [], CrossMoments.update

    def interrupted(self, X, Y):
        calls.append(len(X))
        if len(calls) == 9:  # in the second batch: six moments a batch
            raise KeyboardInterrupt
        return update(self, X, Y)

    monkeypatch.setattr(CrossMoments, "update", interrupted)
    few = {"batch_size": 32, "n_shuffles": 0, "random_state": 0}
    found = compare(net(0), net(1), DATA, **few)
    monkeypatch.undo()
    assert (found.n_samples, found.n_kept, found.complete) == (64, 64, False)
    whole = compare(net(0), net(1), DATA[:64], **few)
    for one, other in zip(found.pairs, whole.pairs):
        assert one.scores == pytest.approx(other.scores, abs=1e-9)

    def at_once():
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        compare(net(0), net(1), at_once(), **BARE)


def test_data_sorted_by_class_are_noted():
    generator = torch.Generator().manual_seed(0)
    shift = 5 * torch.eye(8, dtype=torch.float64)[:4].repeat_interleave(256, 0)
    data = 0.1 * torch.rand(1024, 8, generator=generator, dtype=torch.float64) + shift
    a, b = (nn.Sequential(nn.Linear(8, 6, dtype=torch.float64)) for _ in range(2))
    with torch.no_grad():
        for linear, at in ((a[0], 3), (b[0], 6)):  # the classes alike, the rest not
            linear.weight.zero_()
            linear.weight[:4, :4] = torch.eye(4)
            linear.weight[4, at] = linear.weight[5, 7 if at == 6 else 4] = 100.0 if at == 6 else 50.0
    sorted_, mixed = (
        compare(a, b, rows, max_points=200, scrambled=False, n_shuffles=0, random_state=0)
        for rows in (data, data[torch.randperm(1024, generator=generator)])
    )
    assert "is each batch of some kinds" in sorted_.pairs[0].note
    assert "is each batch of some kinds" not in mixed.pairs[0].note


def test_batches_without_samples_change_nothing():
    a, b = net(0), net(1)
    whole = compare(a, b, DATA, **BARE)
    parts = compare(a, b, [DATA[:0], DATA[:50], DATA[50:50], DATA[50:]], **BARE)
    assert parts.n_samples == whole.n_samples
    assert parts.pairs[0].scores["soft"] == pytest.approx(whole.pairs[0].scores["soft"], abs=1e-9)


def test_no_likeness_is_above_one():
    for seed in range(4):
        model = net(seed).float()
        for pair in compare(model, model, DATA[:20].float(), **BARE).pairs:
            # CKA is a ratio of unbiased estimates
            assert all(pair.scores[each] <= 1 for each in MEASURES if each != "cka")
