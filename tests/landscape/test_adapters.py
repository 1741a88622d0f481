"""From a measured dimension to an adapter of about that size."""

import json
import math
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from lodim.landscape import SubspaceModule, suggest_adapter
from lodim.landscape.comparison.suggest import METHODS, AdapterSuggestion
from lodim.landscape.flora import FLoRALayer, n_trainable, tucker_numbers
from lodim.nets import fc
from lodim.randomness import build_seeded


def mlp():
    return build_seeded(lambda: nn.Sequential(nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(),
                                              nn.Linear(40, 5)), 0)  # fmt: skip


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 24, 3), nn.ReLU())
        self.head = nn.Linear(24, 5)

    def forward(self, x):
        return self.head(self.features(x).mean((-2, -1)))


def trained(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


# the size


@pytest.mark.parametrize("model", [mlp(), ConvNet()])
@pytest.mark.parametrize("d90", [10, 200, 700.5, np.float32(1200)])
def test_every_methods_numbers_are_what_its_adapter_trains(model, d90):
    pytest.importorskip("peft", reason="needs the extra 'lm'")
    found = suggest_adapter(d90, model, safety=1.5)
    assert found.budget == math.ceil(1.5 * float(d90))
    for option in found.options:
        fresh = mlp() if isinstance(model, nn.Sequential) else ConvNet()
        if not option.fits and not option.config and option.method != "full":
            with pytest.raises(ValueError, match="cannot be had"):
                found.apply(fresh, option.method)
            continue
        assert trained(found.apply(fresh, option.method)) == option.n_trained, option.method


@pytest.mark.parametrize("model", [mlp(), ConvNet()])
def test_ranks_are_the_least_that_hold_the_budget(model):
    names = {name: layer for name, layer in model.named_modules() if hasattr(layer, "weight")}
    for d90 in (150, 400, 800):
        found = suggest_adapter(d90, model, safety=1)
        for method in ("lora", "flora"):
            option = found.option(method)
            if not option.fits or max(max(r[:2]) for r in option.ranks.values()) == 1:
                continue
            assert option.n_trained >= found.budget
            if method == "flora":
                smaller = {n: tuple(max(1, r - 1) for r in ranks) for n, ranks in option.ranks.items()}
                assert (
                    sum(tucker_numbers(names[n].weight.shape, r) for n, r in smaller.items()) < found.budget
                )


def test_the_upper_end_of_the_interval_and_the_safety_make_the_budget():
    assert suggest_adapter(100, mlp(), interval=(80, 130), safety=3).budget == 390
    assert suggest_adapter(100, mlp(), interval=(80, math.inf), safety=3).budget == 300
    assert suggest_adapter(100, mlp(), safety=1).budget == 100


def test_modules_trained_as_a_whole_are_counted_apart_and_not_adapted():
    pytest.importorskip("peft", reason="needs the extra 'lm'")
    found = suggest_adapter(300, mlp(), modules_to_save=["4"])
    assert found.n_extra == 40 * 5 + 5
    assert set(found.option("lora").ranks) == {"0", "2"}
    for method in ("subspace", "lora", "flora"):
        assert trained(found.apply(mlp(), method)) == found.option(method).n_trained + found.n_extra, method


def test_names_that_end_alike_are_told_apart():
    pytest.importorskip("peft", reason="needs the extra 'lm'")
    model = nn.Sequential(nn.Linear(30, 30), nn.Sequential(nn.Linear(30, 8), nn.Linear(8, 3)))
    found = suggest_adapter(200, model, target_modules=lambda name, layer: name in ("0", "1.1"), safety=1)
    assert set(found.ranks) == {"0", "1.1"}
    for method in ("lora", "flora"):
        fresh = nn.Sequential(nn.Linear(30, 30), nn.Sequential(nn.Linear(30, 8), nn.Linear(8, 3)))
        assert trained(found.apply(fresh, method)) == found.option(method).n_trained


def test_lora_leaves_out_what_it_cannot_flatten():
    pytest.importorskip("peft", reason="needs the extra 'lm'")

    def make():
        return nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 16, 1), nn.ConvTranspose2d(16, 4, 3))

    kinds = ("conv2d", "conv_transpose2d")
    found = suggest_adapter(30, make(), kinds=kinds, safety=1)
    assert set(found.option("lora").ranks) == {"1"}
    assert set(found.option("flora").ranks) == {"0", "1", "2"}
    for method in ("lora", "flora"):
        assert trained(found.apply(make(), method)) == found.option(method).n_trained
    found = suggest_adapter(30, make(), kinds=("conv_transpose2d",), safety=1)
    assert found.method == "flora"
    with pytest.raises(ValueError, match="no layer that LoRA adapts"):
        found.apply(make(), "lora")


# the method


def test_convolutions_get_flora_matrices_lora_little_budgets_a_subspace_and_large_ones_all():
    assert suggest_adapter(500, ConvNet()).method == "flora"
    assert suggest_adapter(300, mlp()).method == "lora"
    assert suggest_adapter(20, mlp()).method == "subspace"
    assert suggest_adapter(3000, mlp()).method == "full"
    found = suggest_adapter(300, mlp(), method="said")
    assert found.method == "said"
    assert isinstance(found.apply(mlp()), SubspaceModule)
    assert len(found.apply(mlp()).layer_scales_) == 6


def test_applied_it_computes_the_same_until_it_is_trained():
    model, x = ConvNet(), torch.randn(2, 3, 9, 9)
    out = model(x)
    found = suggest_adapter(500, model)
    assert found.apply(model) is model
    assert any(isinstance(layer, FLoRALayer) for layer in model.modules())
    assert n_trainable(model) == found.n_trained
    assert torch.equal(model(x), out)


def test_the_seed_decides_the_directions():
    found = suggest_adapter(20, mlp())
    one, same, other = (found.apply(mlp(), random_state=s).projection.matrix() for s in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_without_peft_lora_becomes_flora_and_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    model = mlp()
    with pytest.warns(UserWarning, match="PEFT is not installed"):
        suggest_adapter(300, model).apply(model)
    assert isinstance(model[0], FLoRALayer)
    assert model[0].ranks["default"] == (3, 3)


def test_a_suggestion_is_for_its_model():
    found = suggest_adapter(500, ConvNet())
    with pytest.raises(ValueError, match=r"layer 'features\.0', which Sequential lacks"):
        found.apply(mlp())
    with pytest.raises(ValueError, match="method must be one of"):
        found.apply(ConvNet(), "dora")


def test_language_models_are_suggested_for_without_their_output_layer():
    transformers = pytest.importorskip("transformers", reason="needs the extra 'lm'")
    config = transformers.GPT2Config(vocab_size=40, n_embd=16, n_layer=1, n_head=2, n_positions=12)
    with pytest.raises(ValueError, match="no layer is left"):  # its other layers are of a type of their own
        suggest_adapter(100, transformers.GPT2LMHeadModel(config), kinds=("linear",))
    config = transformers.BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24
    )
    model = transformers.BertForMaskedLM(config).eval()
    tokens = torch.randint(0, 40, (2, 5))
    out = model(tokens).logits
    found = suggest_adapter(200, model)
    assert not any("decoder" in name for name in found.option("flora").ranks)
    adapted = found.apply(model, "flora")
    assert n_trainable(adapted) == found.option("flora").n_trained
    assert torch.equal(adapted(tokens).logits, out)


# where the dimension comes from


@dataclass
class Part:
    d_int90: float | None
    interval: tuple | None
    status: str = "found"
    d_least: int | None = 8


def test_it_is_read_from_profiles_results_and_searches():
    part = Part(100.0, (90.0, 120.0))
    profile = SimpleNamespace(landscape=part)
    search = SimpleNamespace(d_int_=100.0, result_=part)
    for source in (part, profile, search):
        found = suggest_adapter(source, mlp(), safety=2)
        assert (found.d90, found.interval, found.budget) == (100.0, (90.0, 120.0), 240)
    assert suggest_adapter(Part(100.0, (None, None)), mlp()).interval == (0.0, math.inf)
    assert suggest_adapter(part, mlp(), interval=(50, 500)).budget == 1000


def test_a_profiles_landscape_has_what_is_read():
    from lodim.profiling.result import LandscapePart

    part = LandscapePart(2000, 0.9, 0.81, 55.0, (40.0, 70.0), "found")
    assert suggest_adapter(part, mlp()).budget == 140
    with pytest.raises(ValueError, match="d90 is infinite"):
        suggest_adapter(LandscapePart(2000, 0.9, 0.81, None, None, "not_reached"), mlp())


def test_where_even_the_least_number_sufficed_that_is_taken_with_a_note():
    found = suggest_adapter(Part(None, (None, 8.0), "below_d_min"), mlp())
    assert found.d90 == 8
    assert "even the least number tried" in found.notes[0]
    result = SimpleNamespace(d_int90=math.nan, interval=(0.0, 5.0), status="below_d_min", bound=5.0)
    assert suggest_adapter(result, mlp()).d90 == 5


@pytest.mark.trains
def test_a_real_search_closes_the_loop():
    from sklearn.datasets import load_digits

    from lodim.landscape import LandscapeDimension
    from lodim.training import Recipe

    X, y = load_digits(return_X_y=True)
    search = LandscapeDimension.for_classifier(
        lambda: fc(64, 10, width=16, depth=1), X[:400] / 16, y[:400], X[900:1300] / 16, y[900:1300],
        recipe=Recipe(epochs=3, batch_size=80), lr=0.03, n_seeds=1, random_state=0, search=[30, 300], lr_grid=(1.0,),
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"call \.fit"):
        suggest_adapter(search, fc(64, 10, width=16, depth=1))
    search.fit()
    found = suggest_adapter(search, fc(64, 10, width=16, depth=1), method="subspace")
    assert search.status_ == "found"
    assert found.d90 == search.d_int_
    assert trained(found.apply(fc(64, 10, width=16, depth=1))) == found.n_trained


@pytest.mark.parametrize(
    ("measured", "options", "error", "message"),
    [
        (math.inf, {}, ValueError, "d90 is infinite"),
        (math.nan, {}, ValueError, "was not measured"),
        (0, {}, ValueError, "must be positive"),
        (-3, {}, ValueError, "must be positive"),
        (Part(None, None, "not_reached"), {}, ValueError, "no subspace that was tried"),
        (Part(None, None, "not_measured"), {}, ValueError, "was not measured"),
        (SimpleNamespace(landscape=None), {}, ValueError, "measured no model"),
        ("900", {}, TypeError, "must be a number d90"),
        (True, {}, TypeError, "must be a number d90"),
        (100, {"interval": (150, 200)}, ValueError, "does not hold"),
        (100, {"method": "dora"}, ValueError, "method must be one of"),
        (100, {"safety": -1}, ValueError, "safety"),
        (100, {"safety": math.inf}, ValueError, "safety must be finite"),
        (100, {"target_modules": ["7"]}, ValueError, "the target '7'"),
        (100, {"kinds": ("conv9d",)}, ValueError, "Did you mean 'conv"),
        (100, {"modules_to_save": r"\d"}, ValueError, "no layer is left"),
    ],
)
def test_what_gives_no_size_is_said(measured, options, error, message):
    with pytest.raises(error, match=message):
        suggest_adapter(measured, mlp(), **options)


def test_models_without_layers_to_adapt():
    with pytest.raises(ValueError, match="no Linear or Conv1d"):
        suggest_adapter(10, nn.Sequential(nn.Embedding(5, 5)))
    with pytest.raises(ValueError, match="wrap it"):
        suggest_adapter(10, nn.Linear(4, 4))


# the result


def test_it_prints_tabulates_and_travels():
    found = suggest_adapter(300, mlp(), interval=(250, 400))
    assert "d90 = 300" in found.reason
    assert "upper end 400" in found.reason
    assert f"{found.n_trained:,} trained numbers" in found.reason
    frame = found.to_frame()
    assert frame["method"][0] == found.method
    assert set(frame["method"]) == set(METHODS)
    assert str(found).splitlines()[3].startswith(f"*{found.method:>8}")
    assert "<table" in found._repr_html_()
    again = AdapterSuggestion.from_json(found.to_json())
    assert again.ranks == found.ranks
    assert again.option("flora").n_trained == found.option("flora").n_trained
    assert trained(again.apply(mlp(), "flora")) == found.option("flora").n_trained
    json.loads(found.to_json())


def test_bytes_follow_the_precision():
    single, half = suggest_adapter(300, mlp()), suggest_adapter(300, mlp().bfloat16())
    assert single.n_bytes == 4 * single.n_trained
    assert half.n_bytes == 2 * half.n_trained


def test_the_model_is_not_changed():
    model = mlp()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    suggest_adapter(300, model, modules_to_save=["4"])
    assert all(torch.equal(before[k], t) for k, t in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())
