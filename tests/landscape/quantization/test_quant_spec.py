"""Specs and recipes: what they accept, what they mean, how a layer finds its own."""

import dataclasses

import numpy as np
import pytest

from lodim.landscape.quantization import PRESETS, QuantRecipe, QuantSpec, as_recipe
from lodim.landscape.quantization.spec import matches


@pytest.mark.parametrize("bits", [1, 2, 8, 16])
def test_a_grid_has_as_many_codes_as_its_bits_allow(bits):
    full = QuantSpec(bits, range="full")
    restricted = QuantSpec(bits)
    unsigned = QuantSpec(bits, symmetric=False)
    assert full.qmax - full.qmin + 1 == 2**bits
    assert unsigned.qmax - unsigned.qmin + 1 == 2**bits
    assert unsigned.qmin == 0
    assert -restricted.qmin == restricted.qmax == full.qmax


@pytest.mark.parametrize("bits", [0, 17, -1])
def test_bits_outside_1_to_16_are_refused(bits):
    with pytest.raises(ValueError, match="bits must be"):
        QuantSpec(bits)


@pytest.mark.parametrize("bits", [4.0, "4", True])
def test_bits_are_whole_numbers(bits):
    with pytest.raises(Exception, match=r"bits|integer"):  # refused by the type check or by the spec itself
        QuantSpec(bits)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"granularity": "row"}, "granularity must be one of"),
        ({"observer": "min-max"}, "Did you mean 'minmax'"),
        ({"granularity": "group"}, "group_size goes with"),
        ({"group_size": 8}, "group_size goes with"),
        ({"granularity": "group", "group_size": 0}, "group_size must be"),
        ({"percentile": 101}, "percentile must be"),
        ({"momentum": 2}, "momentum must be"),
        ({"p": 0}, "p must be positive"),
        ({"rounding": "up"}, "rounding must be one of"),
        ({"range": "half"}, "range must be one of"),
    ],
)
def test_a_spec_says_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        QuantSpec(**options)


def test_one_bit_on_a_symmetric_restricted_grid_is_refused_when_used():
    with pytest.raises(ValueError, match="leaves only zero"):
        QuantSpec(1).check_grid()
    QuantSpec(1, range="full").check_grid()
    QuantSpec(1, symmetric=False).check_grid()


def test_specs_and_recipes_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        QuantSpec().bits = 4
    with pytest.raises(dataclasses.FrozenInstanceError):
        QuantRecipe().dynamic = True


def test_numpy_integers_will_do():
    assert QuantSpec(int(np.int64(4))).qmax == 7


@pytest.mark.parametrize(
    ("activations", "dynamic", "message"),
    [
        (QuantSpec(granularity="token"), False, "needs dynamic=True"),
        (QuantSpec(granularity="group", group_size=8), True, "is for weights"),
        (QuantSpec(), False, "axis 0 of activations is the batch"),
        (None, True, "dynamic=True needs"),
    ],
)
def test_a_recipe_refuses_what_cannot_be_done_with_activations(activations, dynamic, message):
    with pytest.raises(ValueError, match=message):
        QuantRecipe(activations=activations, dynamic=dynamic)


def test_weights_by_token_are_refused():
    with pytest.raises(ValueError, match="is for activations"):
        QuantRecipe(QuantSpec(granularity="token"))


def test_a_string_is_no_list_of_names():
    with pytest.raises(TypeError, match="sequence of names"):
        QuantRecipe(skip="fc1")


def test_a_codebook_must_make_a_quantiser():
    with pytest.raises(TypeError, match="quantizer"):
        QuantRecipe(codebook="kmeans")


@pytest.mark.parametrize(
    ("name", "pattern", "expected"),
    [
        ("blocks.0.fc1", "fc1", True),
        ("blocks.0.fc1", "blocks.0.fc1", True),
        ("blocks.0.fc1", r"blocks\.\d+\.fc1", True),
        ("blocks.0.xfc1", "fc1", False),
        ("blocks.0.fc1", "blocks", False),
    ],
)
def test_patterns_match_as_in_layer_lists(name, pattern, expected):
    assert matches(name, pattern) is expected


def test_a_layer_finds_its_own_recipe():
    four = QuantRecipe(QuantSpec(4))
    recipe = QuantRecipe(skip=("head",), overrides={"fc1": four, "fc2": None})
    assert recipe.for_layer("head") is None
    assert recipe.for_layer("a.fc1") is four
    assert recipe.for_layer("a.fc2") is None
    assert recipe.for_layer("a.fc3") is recipe


def test_presets_are_what_their_names_say():
    for name, recipe in PRESETS.items():
        assert recipe.weights.bits == int(name[1])
        assert (recipe.activations is not None) == ("a8" in name)
        assert recipe.dynamic == name.endswith("dynamic")
        assert (recipe.weights.group_size == 64) == ("group64" in name or name == "w4a8-dynamic")
    with pytest.raises(ValueError, match="Did you mean 'w8a8'"):
        as_recipe("w8a9")
    assert as_recipe(QuantSpec(3)).weights.bits == 3
    assert as_recipe("w8").with_bits(3).weights == QuantSpec(3)


def test_static_ranges_are_noticed_in_overrides_too():
    inputs = QuantSpec(symmetric=False, granularity="tensor")
    assert not PRESETS["w4"].is_static
    assert PRESETS["w8a8"].is_static
    assert not PRESETS["w8a8-dynamic"].is_static
    assert QuantRecipe(overrides={"fc": QuantRecipe(activations=inputs)}).is_static


@pytest.mark.parametrize("given", [{"skip": ["*.0"]}, {"overrides": {"*": None}}])
def test_patterns_that_are_no_regular_expressions_say_so(given):
    with pytest.raises(ValueError, match=r"no regular expression.*'\.\*'"):
        QuantRecipe(**given)


def test_learnt_rounding_is_asked_for_or_given_options():
    with pytest.raises(TypeError, match="True or a mapping"):
        QuantRecipe(adaround="yes")
