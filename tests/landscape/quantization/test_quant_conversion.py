"""Prepare, calibrate, convert: what is replaced, what is left, what is refused."""

import copy

import pytest
import torch
from torch import nn

from lodim.landscape.quantization import (
    CodebookSpec,
    PackedWeight,
    QuantLayer,
    QuantRecipe,
    QuantSpec,
    calibrate,
    convert,
    prepare,
    quant_layers,
    quantize,
)
from lodim.landscape.quantization.layer_data import run_batch
from lodim.landscape.quantization.model.preparation import ready
from lodim.nets import fc
from lodim.randomness import build_seeded, torch_generator

INPUTS = QuantSpec(8, symmetric=False, granularity="tensor")
STATIC = QuantRecipe(QuantSpec(8), INPUTS)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed))


def network():
    return build_seeded(lambda: fc(12, 3, width=8), 0).eval()


class Tied(nn.Module):
    """A small language model: rows looked up and read out with one matrix."""

    def __init__(self):
        super().__init__()
        self.rows = nn.Embedding(11, 6)
        self.body = nn.Linear(6, 6)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.rows.weight

    def forward(self, tokens):
        return self.head(self.body(self.rows(tokens)).relu())


def test_the_model_itself_is_not_changed():
    model = network()
    state = copy.deepcopy(model.state_dict())
    prepared = calibrate(prepare(model, STATIC), normal(20, 12))
    convert(prepared)
    assert not quant_layers(model)
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())


def test_every_layer_is_wrapped_under_its_name():
    model = network()
    prepared = prepare(model, QuantSpec(4))
    linear = {name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    assert set(quant_layers(prepared)) == linear


def test_skips_and_overrides():
    model = network()
    names = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    recipe = QuantRecipe(
        QuantSpec(4), skip=(names[0],), overrides={names[1]: QuantRecipe(QuantSpec(2), INPUTS, dynamic=True)}
    )
    layers = quant_layers(prepare(model, recipe))
    assert set(layers) == set(names[1:])
    assert layers[names[1]].weight_spec.bits == 2
    assert layers[names[1]].activation_quantizer.mode == "dynamic"
    assert layers[names[2]].weight_spec.bits == 4
    assert layers[names[2]].activation_quantizer is None


@pytest.mark.parametrize("field", ["skip", "overrides"])
def test_a_pattern_that_matches_nothing_is_refused(field):
    value = ("bodi",) if field == "skip" else {"bodi": None}
    with pytest.raises(ValueError, match=r"'bodi' matches no layer.*Did you mean 'body'"):
        prepare(Tied(), QuantRecipe(**{field: value}))


def test_nothing_to_quantise_is_refused():
    with pytest.raises(ValueError, match="there is no Linear"):
        prepare(nn.Sequential(nn.ReLU()), "w8")
    with pytest.raises(ValueError, match="leaves every one in floating point"):
        prepare(nn.Sequential(nn.Linear(2, 2)), QuantRecipe(skip=("0",)))
    with pytest.raises(ValueError, match="itself a Linear"):
        prepare(nn.Linear(2, 2), "w8")
    with pytest.raises(ValueError, match="quantised already"):
        prepare(prepare(network(), "w8"), "w4")


def test_nan_in_a_weight_names_the_layer():
    model = Tied()
    with torch.no_grad():
        model.body.weight[1, 1] = float("nan")
    with pytest.raises(ValueError, match="layer 'body' holds NaN"):
        prepare(model, "w8")


def test_nan_in_an_input_names_the_layer():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    x = normal(3, 4)
    x[1] = float("nan")
    with pytest.raises(ValueError, match="input of layer '0'"):
        calibrate(prepare(model, STATIC), x)


def test_converting_before_calibrating_names_the_layers():
    prepared = prepare(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), STATIC)
    with pytest.raises(RuntimeError, match="'0', '1' need calibration"):
        convert(prepared)
    with pytest.raises(ValueError, match="no batch"):
        calibrate(prepared, [])
    with pytest.raises(ValueError, match="prepare"):
        convert(nn.Sequential(nn.Linear(4, 4)))
    with pytest.raises(ValueError, match="mode must be one of"):
        convert(calibrate(prepared, normal(4, 4)), "int8")


def test_other_kinds_of_layers_are_named_once_and_stay():
    model = nn.Sequential(nn.ConvTranspose1d(2, 3, 3), nn.ConvTranspose1d(3, 4, 3), nn.Conv1d(4, 2, 3))
    with pytest.warns(UserWarning, match=r"stay in floating point: ConvTranspose1d \(0, 1\)") as caught:
        prepared = prepare(model, QuantSpec(4))
    assert len(caught) == 1
    assert list(quant_layers(prepared)) == ["2"]


def test_normalisations_are_nothing_to_warn_of(recwarn):
    prepare(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), QuantSpec(4))
    assert not recwarn.list


@pytest.mark.parametrize("grad", [True, False])
def test_a_transformers_fused_path_is_off(grad):
    layer = build_seeded(lambda: nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 0)
    model = nn.TransformerEncoder(layer, 2).eval()
    x = normal(3, 5, 16)
    with pytest.warns(UserWarning, match="MultiheadAttention"):
        prepared = prepare(
            model, QuantRecipe(QuantSpec(8), QuantSpec(2, granularity="token"), dynamic=True)
        ).eval()
    assert set(quant_layers(prepared)) == {f"layers.{i}.linear{j}" for i in (0, 1) for j in (1, 2)}
    calls = []
    for quantised in quant_layers(prepared).values():
        quantised.activation_quantizer.register_forward_hook(lambda *_: calls.append(1))
    with torch.set_grad_enabled(grad):
        prepared(x)
    assert len(calls) == 4


def test_shared_layers_stay_shared():
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    prepared = prepare(model, QuantSpec(4))
    assert isinstance(prepared[0], QuantLayer)
    assert prepared[0] is prepared[2]


def test_tied_weights_give_the_same_codes():
    prepared = prepare(Tied(), QuantSpec(4))
    assert torch.equal(prepared.rows.weight, prepared.head.weight)


def test_calibration_sees_the_float_model():
    model, x = network(), normal(64, 12)
    prepared = calibrate(prepare(model, QuantRecipe(QuantSpec(2), INPUTS)), x)
    inputs = {}
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_pre_hook(lambda m, args, name=name: inputs.update({name: args[0]}))
    model(x)
    for name, layer in quant_layers(prepared).items():
        assert layer.activation_quantizer.observer.high.item() == pytest.approx(inputs[name].max().item())


def test_batches_of_many_kinds():
    model, x = network(), normal(40, 12)
    scales = []
    for data in (x, x.split(10), [(part, None) for part in x.split(7)], [x[:10], x[10:]]):
        converted = convert(calibrate(prepare(model, STATIC), data))
        scales.append([layer.activation_quantizer.scale.item() for layer in quant_layers(converted).values()])
    for other in scales[1:]:  # sums of another order
        assert other == pytest.approx(scales[0], rel=1e-5)
    few = calibrate(prepare(model, STATIC), x.split(10), n_batches=2)
    assert {layer.activation_quantizer.observer.n_batches for layer in quant_layers(few).values()} == {2}
    with pytest.raises(TypeError, match="a batch must be"):
        run_batch(model, 3.0)


def test_a_mapping_is_arguments_by_name():
    model = Tied()
    tokens = torch.tensor([[1, 2, 3]])
    assert torch.equal(run_batch(model, {"tokens": tokens}), model(tokens))


def test_calibrating_keeps_each_modules_mode():
    prepared = prepare(network(), STATIC).train()
    prepared[1].eval()
    calibrate(prepared, normal(4, 12))
    assert prepared.training
    assert not prepared[1].training


@pytest.mark.parametrize(
    "recipe",
    [
        STATIC,
        QuantRecipe(QuantSpec(3, granularity="group", group_size=5, symmetric=False)),
        QuantRecipe(QuantSpec(3, rounding="stochastic")),
        QuantRecipe(codebook=CodebookSpec(3)),
        QuantRecipe(None, INPUTS),
    ],
    ids=["w8a8", "groups", "stochastic", "codebook", "inputs only"],
)
def test_rounded_and_packed_agree_bit_for_bit(recipe):
    model, x = network(), normal(30, 12)
    prepared = prepare(model, recipe)
    if recipe.is_static:
        calibrate(prepared, x)
    fake, packed = convert(prepared, "fake"), convert(prepared, "packed")
    assert torch.equal(fake(x), packed(x))
    assert torch.equal(convert(fake, "packed")(x), fake(x))  # what is on the grid stays there
    assert not any(p.requires_grad for p in fake.parameters())
    for layer in quant_layers(packed).values():
        if recipe.weights or recipe.codebook:
            assert isinstance(layer.weight_quantizer, PackedWeight)
            assert layer.layer.weight is None
    assert (
        torch.equal(prepared.eval()(x), fake(x)) or recipe.is_static
    )  # static inputs are still observing there


def test_batch_normalisation_is_folded_if_asked():
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
    with torch.no_grad():
        model[1].running_var.uniform_(0.5, 2)
        model[1].running_mean.normal_()
    x = normal(2, 2, 9, 9)
    folded = ready(model, QuantRecipe())
    assert isinstance(folded[1], nn.Identity)
    torch.testing.assert_close(folded(x), model(x), rtol=1e-4, atol=1e-5)
    assert isinstance(ready(model, QuantRecipe(fold_bn=False))[1], nn.BatchNorm2d)
    torch.testing.assert_close(ready(model, QuantRecipe(equalise=True))(x), model(x), rtol=1e-4, atol=1e-5)


def test_many_bits_change_next_to_nothing():
    model, x = network(), normal(50, 12)
    recipe = QuantRecipe(QuantSpec(16), QuantSpec(16, granularity="token"), dynamic=True)
    torch.testing.assert_close(convert(prepare(model, recipe))(x), model(x), rtol=1e-3, atol=1e-3)


@pytest.mark.gpu
def test_on_a_gpu_as_on_a_cpu():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    model, x = network(), normal(300, 12)
    for observer in ("minmax", "mse", "percentile", "entropy"):
        inputs = QuantSpec(8, symmetric=False, granularity="tensor", observer=observer)
        outputs = []
        for device in ("cpu", "cuda"):
            weights = QuantSpec(
                4, granularity="group", group_size=5, observer=observer, rounding="stochastic"
            )
            prepared = prepare(copy.deepcopy(model).to(device), QuantRecipe(weights, inputs))
            packed = convert(calibrate(prepared, x.to(device)), "packed")
            outputs.append(packed(x.to(device)).cpu())
        torch.testing.assert_close(*outputs, rtol=1e-3, atol=1e-3)


class OffsetRows(nn.Embedding):
    """An embedding that looks up two rows further on."""

    def forward(self, tokens):
        return super().forward(tokens + 2)


def _weight_norm(layer):
    return nn.utils.parametrizations.weight_norm(layer)


def _spectral_norm(layer):
    return nn.utils.parametrizations.spectral_norm(layer)


@pytest.mark.parametrize("wrapper", [_weight_norm, _spectral_norm])
@pytest.mark.parametrize("mode", ["fake", "packed"])
def test_a_weight_made_from_other_parameters_stays_in_float(wrapper, mode):
    model = build_seeded(
        lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4)), 0
    )
    model[0] = wrapper(model[0])
    model.eval()
    x = normal(20, 6)
    with pytest.warns(UserWarning, match=r"'0': its weight is itself computed"):
        small = quantize(model, QuantSpec(12), x, mode=mode)
    assert list(quant_layers(small.module)) == ["3"]
    torch.testing.assert_close(small(x), model(x), rtol=1e-2, atol=1e-2)
    with pytest.raises(ValueError, match="remove_parametrizations"):
        quantize(nn.Sequential(wrapper(nn.Linear(6, 5))), "w8")


def test_a_layer_with_a_forward_or_hooks_of_its_own_stays_in_float():
    model = build_seeded(lambda: nn.Sequential(OffsetRows(9, 4), nn.Linear(4, 4), nn.Linear(4, 3)), 0).eval()
    model[1].register_forward_hook(lambda module, inputs, output: 2 * output)
    tokens = torch.arange(5)
    with pytest.warns(UserWarning, match=r"a forward of its own.*forward hooks"):
        small = quantize(model, QuantSpec(12))
    assert list(quant_layers(small.module)) == ["2"]
    torch.testing.assert_close(small(tokens), model(tokens), rtol=1e-2, atol=1e-2)


def test_masks_in_training_are_finished_first():
    from lodim.landscape.nm_sparsity import NMSparsifier

    model = build_seeded(lambda: fc(12, 4, width=8), 0)
    sparsifier = NMSparsifier(model, 2, 4, "ste", targets="all", total_steps=1)
    with pytest.raises(ValueError, match="finalize"):
        quantize(model, "w8")
    sparsifier.step()
    sparsifier.finalize()
    assert all((layer.weight == 0).any() for layer in quant_layers(quantize(model, "w8").module).values())


def test_adapters_are_merged_and_subspaces_materialised_first():
    from lodim.landscape.flora import inject_flora, remove_flora
    from lodim.landscape.objective_landscapes import SubspaceModule

    x = normal(5, 12)
    adapted = inject_flora(network(), 2, target_modules="all", random_state=0)
    for refused in (lambda: quantize(adapted, "w8"), lambda: prepare(nn.Sequential(adapted), "w8")):
        with pytest.raises(ValueError, match=r"remove_flora\(model, merge=True\)"):
            refused()
    merged = remove_flora(adapted, merge=True)
    torch.testing.assert_close(quantize(merged, QuantSpec(14))(x), merged(x), rtol=1e-2, atol=1e-2)
    subspace = SubspaceModule(network(), 5)
    with pytest.raises(ValueError, match=r"materialize\(\)"):
        quantize(subspace, "w8")
    assert quantize(subspace.materialize(), "w8")(x).shape == (5, 3)


@pytest.mark.parametrize("recipe", [8, QuantSpec, None], ids=str)
def test_another_kind_of_recipe_is_refused(recipe):
    with pytest.raises(TypeError, match=r"preset.*QuantSpec"):
        quantize(network(), recipe)


def test_a_model_is_a_module():
    for refuses in (quantize, prepare):
        with pytest.raises(TypeError, match=r"nn\.Module"):
            refuses(lambda x: x, "w8")


@pytest.mark.trains
def test_arrays_calibrate_as_tensors_do():
    model, x = network(), normal(40, 12)
    recipe = QuantRecipe(QuantSpec(4), INPUTS, bias_correction=True, adaround={"steps": 5})
    wanted = quantize(model, recipe, x)
    for data in (x.numpy(), x.double().numpy()):
        given = quantize(model, recipe, data)
        assert torch.equal(given(x), wanted(x))
        assert given.report().output_sqnr == pytest.approx(wanted.report().output_sqnr)
    batches = quantize(model, STATIC, [part.numpy() for part in x.split(10)])
    assert torch.equal(batches(x), quantize(model, STATIC, x.split(10))(x))


def test_calibration_data_may_be_one_mapping():
    model, x = network(), normal(20, 12)
    given = quantize(model, "w8a8", {"input": x})
    assert torch.equal(given(x), quantize(model, "w8a8", [x])(x))
    prepared = calibrate(prepare(model, "w8a8"), {"input": x})
    assert torch.equal(convert(prepared)(x), given(x))


@pytest.mark.parametrize("n_batches", [0, -1])
def test_no_batches_are_refused(n_batches):
    with pytest.raises(ValueError, match="n_batches"):
        quantize(network(), "w8a8", [normal(4, 12)], n_batches=n_batches)
    with pytest.raises(ValueError, match="n_batches"):
        calibrate(prepare(network(), "w8a8"), [normal(4, 12)], n_batches)
    with pytest.raises(TypeError, match="batches of them, got 3"):
        quantize(network(), "w8a8", 3)
