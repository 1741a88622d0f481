"""Adapters in whole models: chosen by name, switched, merged, taken out, kept in a file."""

import io
import json

import pytest
import torch
from torch import nn

from lodim.landscape.flora import (
    FLoRAConv2d,
    FLoRAEmbedding,
    FLoRALayer,
    FLoRALinear,
    delete_adapter,
    disable_adapter,
    flora_config,
    flora_state_dict,
    inject_flora,
    load_flora_state_dict,
    merge_adapter,
    n_trainable,
    remove_flora,
    set_adapter,
    tucker_numbers,
    unmerge_adapter,
)
from lodim.randomness import build_seeded
from lodim.training import Recipe, Task, fit


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 8, 3, stride=2, groups=2),
        )
        self.fc = nn.Linear(8 * 9, 12)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        return self.head(self.fc(self.body(x).flatten(1)).relu())


def net(seed=0):
    return build_seeded(Net, seed).eval()


X = torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(5))


def moved(model, adapter="default", seed=2):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, FLoRALayer) and adapter in layer.flora_core:
                core = layer.flora_core[adapter]
                core.copy_(torch.randn(core.shape, generator=g))
    return model


def adapted_names(model):
    return [name for name, layer in model.named_modules() if isinstance(layer, FLoRALayer)]


def state_of(model):
    return {name: t.clone() for name, t in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["fc", "head"]),
        ({"target_modules": "all"}, ["body.0", "body.3", "fc", "head"]),
        ({"target_modules": ["fc", "body.3"]}, ["body.3", "fc"]),
        ({"target_modules": r"body\..*"}, ["body.0", "body.3"]),
        ({"target_modules": "all", "kinds": ("conv2d",), "exclude_modules": ["0"]}, ["body.3"]),
        ({"target_modules": lambda name, layer: name == "fc"}, ["fc"]),
        ({"target_modules": "all", "modules_to_save": ["head"]}, ["body.0", "body.3", "fc"]),
        ({"target_modules": "all", "kinds": (nn.Conv2d, "linear")}, ["body.0", "body.3", "fc", "head"]),
    ],
)
def test_layers_are_chosen_as_by_peft(options, names):
    model = net()
    expected = model(X)
    assert inject_flora(model, r=2, **options) is model
    assert adapted_names(model) == names
    assert torch.equal(model(X), expected)


def test_kinds_get_their_classes_and_only_the_adapters_are_trained():
    model = inject_flora(net(), r=2, target_modules="all", modules_to_save=["head"])
    assert isinstance(model.body[3], FLoRAConv2d)
    assert isinstance(model.fc, FLoRALinear)
    shapes = [(6, 2, 3, 3), (8, 3, 3, 3), (12, 72)]
    adapters = sum(tucker_numbers(s, (2,) * len(s)) for s in shapes)
    assert n_trainable(model) == adapters + 12 * 3 + 3
    for name, p in model.named_parameters():
        assert p.requires_grad == ("flora_" in name or "modules_to_save" in name), name


@pytest.mark.trains
def test_training_moves_the_adapters_and_nothing_else():
    model = inject_flora(net(), r=2, target_modules="all", modules_to_save=["head"], random_state=0)
    before = state_of(model)
    y = torch.randint(0, 3, (40,), generator=torch.Generator().manual_seed(0))
    images = torch.randn(40, 2, 8, 8, generator=torch.Generator().manual_seed(1)) + y[:, None, None, None]
    task = Task.from_arrays(images, y, images, y)
    assert fit(model, task, Recipe(epochs=30, batch_size=20), lr=0.02).train_score > 0.9
    for name, value in model.state_dict().items():
        changed = not torch.equal(value, before[name])
        statistics = "running" in name or "num_batches" in name
        assert changed == ("flora_" in name or "modules_to_save" in name or statistics), name


def test_the_model_comes_back_bit_for_bit_when_the_adapters_are_removed():
    model = net()
    model.body[0].weight.requires_grad_(False)
    before, out = state_of(model), model(X)
    free = [p.requires_grad for p in model.parameters()]
    inject_flora(model, r=2, target_modules="all", modules_to_save=["head"])
    with torch.no_grad():
        moved(model).head.current.weight.add_(1)
    assert not torch.allclose(model(X), out)
    merge_adapter(model)
    assert remove_flora(model, merge=False) is model
    assert same(state_of(model), before)
    assert [p.requires_grad for p in model.parameters()] == free
    assert not adapted_names(model)
    inject_flora(model, r=2)  # and it can be adapted again


def test_removed_with_merging_it_computes_the_same_as_a_plain_model():
    model = moved(inject_flora(net(), r=2, target_modules="all", modules_to_save=["head"]))
    with torch.no_grad():
        model.head.current.bias.add_(1)
    expected = model(X)
    remove_flora(model, merge=True)
    torch.testing.assert_close(model(X), expected)
    plain = net()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(plain(X), model(X))
    assert all(p.requires_grad for p in model.parameters())


def test_merging_and_switching_off():
    model = net()
    out = model(X)
    moved(inject_flora(model, r=2, target_modules="all"))
    adapted = model(X)
    merge_adapter(model)
    torch.testing.assert_close(model(X), adapted)
    with disable_adapter(model):
        assert torch.equal(model(X), out)
    torch.testing.assert_close(model(X), adapted)
    with pytest.raises(RuntimeError, match="unmerge before"):
        set_adapter(model, "default")
    unmerge_adapter(model)
    assert torch.equal(model(X), adapted)
    with pytest.raises(KeyError), disable_adapter(model):
        raise KeyError
    assert torch.equal(model(X), adapted)


def test_two_adapters_have_their_own_layers_ranks_and_heads():
    model = net()
    out = model(X)
    moved(
        inject_flora(model, r=2, target_modules=["fc"], modules_to_save=["head"], adapter_name="first"),
        "first",
    )
    with torch.no_grad():
        model.head.current.bias.add_(1)
    first = model(X)
    inject_flora(model, r=3, target_modules=["fc", "body.3"], modules_to_save=["head"], adapter_name="second")
    assert torch.equal(model(X), out)  # zero, and the active one
    moved(model, "second", seed=3)
    second = model(X)
    set_adapter(model, "first")
    assert torch.equal(model(X), first)
    assert {n.split(".")[-2 if "factors" in n else -1] for n, p in model.named_parameters()
            if p.requires_grad and "flora" in n} == {"first"}  # fmt: skip
    set_adapter(model, "second")
    assert torch.equal(model(X), second)
    with pytest.raises(ValueError, match="each have a trained copy"):
        set_adapter(model, ["first", "second"])
    set_adapter(model, "first")
    delete_adapter(model, "second")
    assert torch.equal(model(X), first)
    with pytest.raises(ValueError, match="only adapter"):
        delete_adapter(model, "first")
    remove_flora(model, merge=False)
    assert torch.equal(model(X), out)


def test_two_adapters_together_add_their_updates():
    model = net()
    moved(inject_flora(model, r=2, target_modules=["fc"], adapter_name="a"), "a")
    moved(inject_flora(model, r=3, target_modules=["fc"], adapter_name="b"), "b", seed=4)
    set_adapter(model, ["a", "b"])
    torch.testing.assert_close(model.fc.delta(), model.fc.delta("a") + model.fc.delta("b"))
    expected = model(X)
    merge_adapter(model)
    torch.testing.assert_close(model(X), expected)


# ranks


def test_a_dict_gives_ranks_by_name_last_part_or_kind():
    r = {"linear": 2, "body.0": (1, 2, 3), "3": [4, 3, 1, 2]}
    model = inject_flora(net(), r=r, target_modules="all")
    ranks = {
        name: layer.ranks["default"] for name, layer in model.named_modules() if isinstance(layer, FLoRALayer)
    }
    assert ranks == {"body.0": (1, 2, 3, 3), "body.3": (4, 3, 1, 2), "fc": (2, 2), "head": (2, 2)}
    with pytest.raises(ValueError, match=r"no ranks for 'body.0' \(a conv2d\)"):
        inject_flora(net(), r={"linear": 2}, target_modules="all")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r": 8}, "larger than mode 1 of 'head'"),
        ({"target_modules": ["fcc"]}, "Did you mean 'fc'"),
        ({"kinds": ("conv3d",), "target_modules": "all"}, "no Conv3d layer"),
        ({"kinds": ("lstm",)}, "kinds must be one of 'linear'"),
        ({"target_modules": ["head"], "modules_to_save": ["head"]}, "nothing to adapt"),
        ({"adapter_name": ""}, "not empty"),
        ({"form": "loop"}, "form must be one of"),
        ({"dropout": 2.0}, "dropout"),
    ],
)
def test_errors_say_what_to_do_and_leave_the_model_alone(options, message):
    model = net()
    before = state_of(model)
    with pytest.raises(ValueError, match=message):
        inject_flora(model, **{"r": 2, **options})
    assert same(state_of(model), before)
    assert all(p.requires_grad for p in model.parameters())


def test_a_name_that_is_taken_and_models_without_adapters():
    model = inject_flora(net(), r=2, target_modules=["fc"])
    before = state_of(model)
    with pytest.raises(ValueError, match="'fc' has an adapter 'default' already"):
        inject_flora(model, r=2)
    assert same(state_of(model), before)
    with pytest.raises(ValueError, match=r"no adapter 'defalt'.*Did you mean 'default'"):
        set_adapter(model, "defalt")
    with pytest.raises(ValueError, match="has no FLoRA adapter"):
        remove_flora(net(), merge=True)
    with pytest.raises(ValueError, match="use FLoRALinear"):
        inject_flora(nn.Linear(4, 4), r=2)


def test_a_layer_in_two_places_is_adapted_once():
    shared = nn.Linear(5, 5)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    inject_flora(model, r=2)
    assert model[0] is model[2]
    assert n_trainable(model) == 4 + 20
    inject_flora(model, r=1, adapter_name="b")
    assert model[0] is model[2]
    remove_flora(model, merge=False)
    assert model[0] is shared
    assert model[2] is shared


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.out = nn.Embedding(11, 6), nn.Linear(6, 11, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, x):
        return self.out(self.embedding(x))


def test_a_tied_weight_warns_and_merging_leaves_its_twin_alone():
    model = Tied()
    with pytest.warns(UserWarning, match=r"shared with 'out.weight'"):
        inject_flora(model, r=2, target_modules=["embedding"], kinds=("embedding",))
    assert isinstance(model.embedding, FLoRAEmbedding)
    expected = moved(model)(torch.arange(11))
    twin = model.out.weight.clone()
    merge_adapter(model)
    torch.testing.assert_close(model(torch.arange(11)), expected)
    assert torch.equal(model.out.weight, twin)
    unmerge_adapter(model)
    assert model.out.weight is model.embedding.base_layer.weight


def test_a_seed_fixes_factors_whatever_else_is_adapted():
    one = inject_flora(net(), r=2, target_modules=["fc"], random_state=3)
    other = inject_flora(net(), r=2, target_modules="all", random_state=3)
    assert torch.equal(one.fc.flora_factors["default"][0], other.fc.flora_factors["default"][0])
    assert not torch.equal(other.head.flora_factors["default"][1], other.fc.flora_factors["default"][1][:12])


# files


def test_the_state_holds_the_adapters_only_and_loads_into_a_fresh_model():
    options = {"r": 2, "scale": 3.0, "target_modules": "all", "modules_to_save": ["head"]}
    model = moved(inject_flora(net(), **options))
    with torch.no_grad():
        model.head.current.bias.add_(1)
    state = flora_state_dict(model)
    assert {k.split(".", 1)[1] for k in state if k.startswith("fc.")} == {
        "flora_core.default", "flora_factors.default.0", "flora_factors.default.1",
    }  # fmt: skip
    assert not any("base_layer" in key for key in state)
    assert sum(t.numel() for t in state.values()) == n_trainable(model)
    assert set(state) <= set(model.state_dict())
    file = io.BytesIO()
    torch.save(state, file)
    assert file.tell() < 4 * n_trainable(model) + 1500 * len(state)
    file.seek(0)
    config = json.loads(json.dumps(flora_config(model)))
    fresh = inject_flora(net(), **config)
    load_flora_state_dict(fresh, torch.load(file))
    assert torch.equal(fresh(X), model(X))


def test_of_two_adapters_one_can_be_kept_and_loaded():
    model = moved(inject_flora(net(), r=2, target_modules=["fc"], adapter_name="a"), "a")
    moved(inject_flora(model, r=3, adapter_name="ab"), "ab")
    state = flora_state_dict(model, "a")
    assert len(state) == 3
    assert len(flora_state_dict(model)) == 9
    other = inject_flora(net(), r=2, target_modules=["fc"], adapter_name="a")
    inject_flora(other, r=3, adapter_name="ab")
    untouched = flora_state_dict(other, "ab")["fc.flora_core.ab"].clone()
    load_flora_state_dict(other, state)
    assert torch.equal(other.fc.delta("a"), model.fc.delta("a"))
    assert torch.equal(other.fc.flora_core["ab"], untouched)
    config = flora_config(model, "ab")
    assert config["r"] == {"fc": [3, 3], "head": [3, 3]}


def test_states_that_do_not_fit_are_refused_before_anything_is_loaded():
    model = inject_flora(net(), r=2, target_modules=["fc"])
    other = moved(inject_flora(net(), r=3, target_modules=["fc"]))
    zero = model.fc.flora_core["default"].clone()
    with pytest.raises(ValueError, match="were the ranks the same"):
        load_flora_state_dict(model, flora_state_dict(other))
    state = flora_state_dict(model)
    with pytest.raises(ValueError, match="the model has no adapter for 'x'"):
        load_flora_state_dict(model, {**state, "x": torch.zeros(1)})
    state.pop("fc.flora_core.default")
    with pytest.raises(ValueError, match=r"the state lacks 'fc.flora_core.default'"):
        load_flora_state_dict(model, state)
    with pytest.raises(ValueError, match="holds no numbers of the model's adapters"):
        load_flora_state_dict(model, net().state_dict())
    with pytest.raises(ValueError, match="no adapter 'b'"):
        flora_state_dict(model, "b")
    assert torch.equal(model.fc.flora_core["default"], zero)
    merge_adapter(model)


def test_torchs_attention_uses_the_adapted_output_projection():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0).eval()
    model = nn.Sequential(layer)
    x = torch.randn(2, 5, 8)
    out = model(x).detach()
    inject_flora(model, r=2)
    torch.testing.assert_close(model(x), out)
    moved(model)
    slow = model.train()(x).detach()
    with torch.no_grad():
        fast = model.eval()(x)
    assert not torch.allclose(slow, out, atol=1e-3)
    torch.testing.assert_close(fast, slow)
    remove_flora(model, merge=True)
    torch.testing.assert_close(model(x), slow)


# models of the transformers library


def bert():
    transformers = pytest.importorskip("transformers", reason="needs the extra 'lm'")
    config = transformers.BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        num_labels=3,
    )
    return build_seeded(lambda: transformers.BertForSequenceClassification(config), 0).eval()


@pytest.mark.trains
def test_a_bert_is_adapted_trained_and_merged():
    model = bert()
    tokens = torch.randint(0, 40, (4, 7), generator=torch.Generator().manual_seed(0))
    out = model(tokens).logits
    inject_flora(
        model, r=2, target_modules=["query", "value"], modules_to_save=["classifier"], random_state=0
    )
    assert len(adapted_names(model)) == 4
    assert torch.equal(model(tokens).logits, out)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.05)
    labels = torch.tensor([0, 1, 2, 1])
    losses = []
    for _ in range(25):
        loss = model(input_ids=tokens, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(p.grad is None for n, p in model.named_parameters() if "base_layer" in n or "original" in n)
    trained = model(tokens).logits
    with disable_adapter(model):
        assert torch.equal(model(tokens).logits, out)
    remove_flora(model, merge=True)
    torch.testing.assert_close(model(tokens).logits, trained)


def test_a_berts_embeddings_can_be_adapted_too():
    model = bert()
    tokens = torch.randint(1, 40, (2, 5))
    out = model(tokens).logits
    inject_flora(
        model, r=2, target_modules="all", kinds=("linear", "embedding"), exclude_modules=["classifier"]
    )
    assert isinstance(model.bert.embeddings.word_embeddings, FLoRAEmbedding)
    assert torch.equal(model(tokens).logits, out)
    model(tokens).logits.sum().backward()
    assert model.bert.embeddings.word_embeddings.flora_core["default"].grad is not None


def test_gpt2s_own_linear_layers_are_adapted_by_type():
    transformers = pytest.importorskip("transformers", reason="needs the extra 'lm'")
    from transformers.pytorch_utils import Conv1D

    config = transformers.GPT2Config(vocab_size=40, n_embd=16, n_layer=1, n_head=2, n_positions=12)
    model = build_seeded(lambda: transformers.GPT2LMHeadModel(config), 0).eval()
    tokens = torch.randint(0, 40, (2, 6))
    out = model(tokens).logits
    inject_flora(model, r=2, target_modules=["c_attn"], kinds=(Conv1D,))
    torch.testing.assert_close(model(tokens).logits, out, atol=0, rtol=0)
    assert not torch.allclose(moved(model)(tokens).logits, out)


def test_quantised_layers_are_refused_with_what_to_do():
    from lodim.landscape.quantization import prepare, quantize

    net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    for quantised in (quantize(net, "w4").module, quantize(net, "w4").to_packed(), prepare(net, "w4")):
        with pytest.raises(TypeError, match=r"quantised.*before"):
            inject_flora(quantised, 2, target_modules="all")
        with pytest.raises(TypeError, match="quantised"):
            inject_flora(quantised, 2, target_modules="all", kinds=("linear",))


@pytest.mark.parametrize("first", ["adapts", "trains"])
def test_a_layer_is_adapted_or_trained_as_a_whole(first):
    ways = {
        "adapts": {"target_modules": ["0", "2"]},
        "trains": {"target_modules": ["0"], "modules_to_save": ["2"]},
    }
    net = build_seeded(lambda: nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)), 0)
    inject_flora(net, 2, adapter_name="a", **ways.pop(first))
    before = {name: p.requires_grad for name, p in net.named_parameters()}
    with pytest.raises(ValueError, match=r"'2' is .* by another adapter"):
        inject_flora(net, 2, adapter_name="b", **ways.popitem()[1])
    assert {name: p.requires_grad for name, p in net.named_parameters()} == before
