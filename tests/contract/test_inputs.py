"""What went wrong once: values that over- or underflow, numbers that are none, arrays that hide or hold no numbers."""

import functools

import numpy as np
import pytest
import torch

import lodim
import lodim.geometry as geometry
import lodim.landscape as landscape
import lodim.metrics as metrics
import lodim.neighbors as neighbors
import lodim.sketch as sketch
from lodim.nets import mlp
from lodim.training import Recipe, Task, fit

from .examples import RESULTS, classifier, net, result_of, table
from .finder import refused

X, Y = table()
NUMBERS = torch.ones(4)
MASKED = np.ma.masked_array(X, np.eye(60, 3, dtype=bool))
META, SPARSE = torch.ones(60, 3, device="meta"), torch.eye(60, 3).to_sparse()


# ---------------------------------------------------------------------------------------------------- extreme units


def dimension_of(method):
    return lambda Z: geometry.IntrinsicDimension(method, random_state=0).fit(Z).dimension_


def streamed(Z):
    model = geometry.StreamingDimension(random_state=0)
    model.update(Z)
    return model.compute()


UNITLESS = {
    "profile": lambda Z: lodim.profile(Z, budget=1.0).data.dimension,
    "profile with labels": lambda Z: lodim.profile(Z, Y, "none", budget=1.0).data.dimension,
    "survey": lambda Z: geometry.intrinsic_dimensions(Z, ("twonn", "mle"), random_state=0).dimension,
    "streaming": streamed,
    "stream": lambda Z: geometry.stream_dimension(Z, "twonn", random_state=0).dimension_,
    **{method: dimension_of(method) for method in ("twonn", "mle", "gride", "tle", "lpca", "fishers", "consensus")},
    "leverage scores": geometry.leverage_scores,
    "Lewis weights": lambda Z: geometry.lewis_weights(Z, 1.0),
    "sensitivities": lambda Z: geometry.lp_sensitivities(Z, 3.0, random_state=0),
    "difficulty": lambda Z: (
        geometry.GeneralizationDifficulty(n_pairs=500, k=10, n_bootstrap=0, random_state=0).fit(Z, Y).log10_bits_
    ),
    "neighbours": lambda Z: neighbors.NeighborGraph.from_data(Z, 3).idx,
    "shards": lambda Z: neighbors.search_shards([Z[:20], Z[20:]], Z[:3], 2)[1],
    "index": lambda Z: neighbors.NeighborIndex("l2").fit(Z).kneighbors(Z[:3], 2)[1],
    "distinct rows": neighbors.n_distinct,
    "c2st": lambda Z: metrics.c2st(Z, Z[::-1] * 1.5, random_state=0).value,
    "precision": lambda Z: metrics.precision_recall(Z, Z[::-1] * 1.1, random_state=0).precision,
}  # fmt: skip
WITH_UNIT = {
    "margin": lambda Z: geometry.class_margin(Z, Y, n_pairs=500, k=10, random_state=0).delta,
    "distances": lambda Z: neighbors.NeighborGraph.from_data(Z, 3).dist,
    "Wasserstein": lambda Z: metrics.sliced_wasserstein(Z, Z[::-1] * 1.1, random_state=0).value,
    "exact Wasserstein": lambda Z: metrics.wasserstein(Z, Z[::-1] * 1.1).value,
}
REFUSED = {
    "sharpness": lambda Z: geometry.LabelSharpness(exact=True).fit(Z, Y),
    "density": lambda Z: geometry.HighDimKDE(n_queries=50, random_state=0).fit(Z),
    "regime": geometry.density_regime,
    "pairs": lambda Z: neighbors.stream_pairs(Z, reducers=[neighbors.TopK(2)]),
}
units = pytest.mark.parametrize("unit", [2.0**532, 2.0**-997], ids=["1e160", "1e-300"])


@functools.cache
def in_its_unit(name):
    return UNITLESS[name](X)


@units
@pytest.mark.parametrize("name", UNITLESS)
def test_what_has_no_unit_is_the_same_in_an_extreme_one(name, unit):
    np.testing.assert_allclose(UNITLESS[name](X * unit), in_its_unit(name), rtol=1e-6)


@units
@pytest.mark.parametrize("name", WITH_UNIT)
def test_what_has_a_unit_has_it(name, unit):
    np.testing.assert_allclose(WITH_UNIT[name](X * unit) / unit, WITH_UNIT[name](X), rtol=1e-6)


@units
@pytest.mark.parametrize("name", REFUSED)
def test_squares_beyond_the_range_are_said_with_what_to_do(name, unit):
    with pytest.raises(ValueError, match=r"X.*beyond the range of numbers: divide X"):
        REFUSED[name](X * unit)


# ---------------------------------------------------------------------------------------------------- refusals


def frozen():
    return mlp([3, 8, 2]).requires_grad_(False)


def narrow():
    return mlp([3, 8, 1])


def problem():
    return Task.from_arrays(X, Y, X, Y)


def projected(x, transpose=False):
    """Past the run-time type checks of the tests, which users have not."""
    return sketch.make_projection("cyclic", 9, 4)._apply_map(x, transpose)


CASES = {
    # masked entries
    "masked table": (lambda: lodim.profile(MASKED, budget=1.0), "X has 3 masked"),
    "masked labels": (lambda: Task.from_arrays(X, np.ma.masked_array(Y, Y == 1), X, Y), "y has 30 masked"),
    "masked validation": (lambda: Task.from_arrays(X, Y, MASKED, Y), "X_val has 3 masked"),
    "masked samples": (lambda: metrics.kid(X, MASKED), "reference has 3 masked"),
    "masked modes": (lambda: metrics.mode_coverage(X, MASKED, 1.0), "modes has 3 masked"),
    "masked duplicates": (lambda: neighbors.n_distinct(MASKED), "X has 3 masked"),
    "masked pairs": (lambda: neighbors.stream_pairs(MASKED, reducers=[neighbors.TopK(1)]), "X has 3 masked"),
    "masked radii": (lambda: neighbors.CountBelow(np.ma.masked_array([1.0, 2.0], [True, False])), "radii has 1 mask"),
    "masked symbols": (
        lambda: landscape.arithmetic_code_length(np.ma.masked_array([1, 2], [True, False])), "symbols has 1 masked",
    ),
    # meta, sparse, bfloat16, complex
    "meta table": (lambda: geometry.IntrinsicDimension().fit(META), "X is on the meta device"),
    "meta projected": (lambda: projected(NUMBERS.to("meta")), "v is on the meta device"),
    "meta logits": (lambda: metrics.accuracy(META, torch.zeros(60)), "logits is on the meta device"),
    "sparse table": (lambda: geometry.density_regime(SPARSE), "X is sparse"),
    "complex table": (lambda: lodim.profile(X + 1j, budget=1.0), "X must hold real numbers"),
    "complex tensor": (lambda: geometry.lewis_weights(torch.ones(9, 2) + 1j, 1.0), "A must hold real numbers"),
    "complex labels": (lambda: Task.from_arrays(X, Y + 1j, X, Y), "y must hold labels or real"),
    "complex logits": (lambda: metrics.accuracy(torch.ones(3, 2) + 1j, torch.zeros(3)), "logits must hold real"),
    "dates as numbers": (lambda: geometry.density_regime(np.full((60, 3), np.datetime64("2020-01-01"))), "X must hold"),
    # numbers
    "d=1.9": (lambda: landscape.SubspaceModule(net(), 1.9), "d must be an integer, got 1.9"),
    "d=1.9 of a projection": (lambda: sketch.make_projection("cyclic", 9, 1.9), "d must be an integer, got 1.9"),
    "d=1.9 in theory": (lambda: geometry.kde_theory(100, 1.9), "d must be an integer, got 1.9"),
    "negative eps": (lambda: geometry.adversarial_accuracy(classifier(), X, Y, -0.1), "eps.* at least 0"),
    "eps of text": (lambda: geometry.sample_size("0.5", d=4), "eps must be a number, got '0.5'"),
    "n=0": (lambda: geometry.structured_matrix("gaussian", 0, 3), "n must be at least 3, got 0"),
    "a boolean number": (lambda: geometry.lp_sensitivities(X, True), "p must be a number, got True"),
    "a boolean seed": (lambda: geometry.LabelSharpness(random_state=True).fit(X, Y), "random_state must be"),
    "a negative seed": (lambda: neighbors.NeighborGraph.from_data(X, 2, random_state=-1), "random_state must be at"),
    "k of an array": (lambda: geometry.IntrinsicDimension("mle", k=np.ones(2)).fit(X), "k must be an integer"),
    "k beyond the rows": (lambda: neighbors.NeighborGraph.from_data(X, 60), "k=60 neighbours need"),
    "an infinite budget": (lambda: lodim.profile(X, budget=np.inf), "budget must be .* got inf"),
    "a budget of NaN": (lambda: lodim.profile(X, budget=np.nan), "budget must be .* got nan"),
    "a negative budget": (lambda: lodim.profile(X, budget=-1), "budget must be .* got -1"),
    "no budget": (lambda: lodim.profile(X, budget=0), "budget must be .* got 0"),
    "a budget of text": (lambda: lodim.profile(X, budget="10"), "budget must be a number, got '10'"),
    "no processes": (lambda: lodim.profile(X, budget=1.0, n_jobs=0), "n_jobs must be"),
    "a learning rate of NaN": (lambda: fit(classifier(), problem(), Recipe(epochs=1), lr=np.nan), "lr must be"),
    # choices
    "a misspelt method": (lambda: geometry.IntrinsicDimension("twon").fit(X), "method must be .*Did you mean 'twonn'"),
    "a misspelt kind": (lambda: sketch.make_projection("fastfod", 9, 4), "kind must be .*Did you mean 'fastfood'"),
    "a list for a choice": (lambda: sketch.make_projection(["cyclic"], 9, 4), "kind must be a string"),
    "an array for a choice": (lambda: geometry.LabelSharpness(normalize=np.ones(2)).fit(X, Y), "normalize must be one"),
    "a misspelt device": (lambda: neighbors.stream_pairs(X, reducers=[], device="gpu"), "device must be a device"),
    "an unknown option": (lambda: sketch.make_projection("cyclic", 9, 4, densty=0.1), "densty"),
    # models and tensors
    "too few outputs": (lambda: fit(narrow(), problem(), Recipe(epochs=1), lr=0.1), "must give 2 outputs a sample"),
    "too few outputs of a profile": (lambda: lodim.profile(X, Y, narrow, budget=1.0), r"gives \(2, 1\), expected"),
    "a frozen model": (lambda: lodim.profile(X, Y, frozen, budget=1.0), "has no parameter to train: all are frozen"),
    "a frozen subspace": (lambda: landscape.SubspaceModule(frozen(), 4), "all frozen"),
    "a model for a number": (lambda: landscape.SubspaceModule(3, 4), "module must be a Module, got 3"),
    "an array projected": (lambda: projected(np.ones(4)), "v must be a tensor.*from_nu"),
    "an array sketched": (lambda: projected(np.ones(9), True), "g must be a tensor.*from_numpy"),
    "labels of two kinds": (lambda: Task.from_arrays(X, [object()] * 60, X, Y), "y must hold labels of one kind"),
    "more labels than rows": (lambda: geometry.class_margin(X, Y[:9]), "y has 9 entries but X has 60"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_and_the_argument_named(name):
    act, words = CASES[name]
    with pytest.raises((ValueError, TypeError), match=words):
        act()


def test_half_precision_is_computed_in_single():
    half = torch.from_numpy(X).bfloat16()
    found = geometry.IntrinsicDimension(random_state=0).fit(half).dimension_
    assert found == pytest.approx(geometry.IntrinsicDimension(random_state=0).fit(half.float()).dimension_)


# ---------------------------------------------------------------------------------------------------- results as JSON

DEEP = 100_000
TEXTS = {
    "lists": "[" * DEEP + "]" * DEEP,
    "objects": '{"a":' * DEEP + "1" + "}" * DEEP,
    "a list": "[1]",
    "nothing": "null",
    "no field": "{}",
    "no JSON": "{",
    "no text": None,
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("result", RESULTS, ids=lambda thing: thing.__name__)
def test_text_that_is_no_result_is_refused(result, name):
    with pytest.raises(ValueError, match=result.__name__):
        result.from_json(TEXTS[name])


def read_twice(result, data, read):
    """Append what the data give, and what that gives."""
    for _ in range(2):
        data = result.from_dict(data).to_dict()
        read.append(data)


@pytest.mark.parametrize("result", RESULTS, ids=lambda thing: thing.__name__)
def test_a_field_of_another_kind_is_refused_or_read(result):
    """Each field in turn: what is read prints and travels again."""
    data = result_of(result).to_dict()
    for field in data:
        for value in ("text", 3, [1], {"a": 1}, True, None):
            read = []
            act = functools.partial(read_twice, result, {**data, field: value}, read)
            if not refused(act, field, result.__name__):
                assert read[0] == read[1]
