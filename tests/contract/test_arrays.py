"""Arrays: the same numbers give the same answer in any layout and dtype, and masked ones are refused.

Held to this is every argument that is documented as an array, of whatever the cards' modules export.
"""

import functools

import numpy as np
import pytest
import torch

from lodim.catalog import load_cards

from .examples import ARRAYS
from .finder import array_arguments, documented_arrays, flat

FOUND = array_arguments(load_cards())
TRAINING = (
    "AmbientDiffusion.fit",
    "ContrastivePretrainer.fit",
    "ConvEmbeddingClassifier.encode",
    "ConvEmbeddingClassifier.fit",
    "LQVAE.fit",
    "adversarial_training",
    "greedy_train",
    "Diffusion.fit",
    "EpiGRAF.fit",
    "MaskedDiffusion.fit",
    "fit_mle",
    "fit_autoencoder",
    "fit_volume",
    "PBN.fit",
    "SelfAttentionClassifier.fit",
    "ProbabilisticNet.fit",
    "memorization_curve",
    "optimize_points",
    "train_denoiser",
)


def each(*, argument):
    """One parameter for each example, or for each argument of each."""
    for thing, example in ARRAYS.items():
        marks = pytest.mark.trains if thing.__qualname__ in TRAINING else ()
        for name in example.arrays if argument else [None]:
            given, end = ((thing, name), f"-{name}") if argument else ((thing,), "")
            yield pytest.param(*given, id=thing.__qualname__ + end, marks=marks)


arguments = pytest.mark.parametrize(("thing", "name"), list(each(argument=True)))
examples = pytest.mark.parametrize("thing", list(each(argument=False)))


@functools.cache
def plain(thing):
    """What an example answers, as it stands."""
    found = flat(ARRAYS[thing].call(**ARRAYS[thing].arrays))
    found.flags.writeable = False
    return found


def ready(thing):
    for library in ARRAYS[thing].needs:
        pytest.importorskip(library)
    return ARRAYS[thing], plain(thing)


def layouts(values):
    """The same numbers in other places, orders and hands; masked where nothing is."""
    axes = tuple({0, values.ndim - 1})
    yield "backwards", np.flip(np.flip(values, axes).copy(), axes)
    yield "columns first", np.asfortranarray(values)
    fixed = values.copy()
    fixed.flags.writeable = False
    yield "read-only", fixed
    yield "bytes swapped", values.astype(values.dtype.newbyteorder())
    record = np.zeros(values.shape, dtype=[("odd", "u1"), ("value", values.dtype)])
    record["value"] = values
    yield "field of a record, with gaps and off the even addresses", record["value"]


# A float beside one that is wider or none, so that arguments of one call differ (``dtypes``). Other whole numbers than
# these can do less harm: a short one runs over first, one of 64 bits is not what indices and masks are taken for.
KINDS = ("f4", "list", "f2", "i8", torch.bfloat16, torch.float64, "O", torch.uint8, "g", "u1")
STRICT = ("u1", "list", "i2", torch.int64, "u8", torch.uint8, "i8")


def given_as(values, kind):
    if kind == "list":
        return values.tolist()
    return torch.tensor(values).to(kind) if isinstance(kind, torch.dtype) else values.astype(kind)


def dtypes(example):
    """Yield all arrays of an example in dtypes that hold their numbers: each in each, beside another's in another."""
    kinds = {
        name: [
            k
            for k in (STRICT if name in example.strict else KINDS)
            if not example.plain or (k != "list" and isinstance(k, str))
        ]
        for name, values in example.arrays.items()
        if values.dtype != bool
    }
    for turn in range(max(map(len, kinds.values()), default=0)):
        chosen = {name: some[(turn + i) % len(some)] for i, (name, some) in enumerate(kinds.items())}
        yield chosen, {name: given_as(example.arrays[name], kind) for name, kind in chosen.items()}


def test_every_array_argument_has_an_example():
    """It is named, with what to add."""
    missing = [
        f"{dotted} takes arrays {sorted(names)}: give one for each, in ARRAYS of tests/contract/examples.py"
        for thing, (dotted, names) in FOUND.items()
        if thing not in ARRAYS or not names <= set(ARRAYS[thing].arrays)
    ]
    assert not missing, "\n".join(missing)


def documented(model, X, w, box, grid, f=None):
    """Do nothing.

    Parameters
    ----------
    model : Module
    X : array-like or Tensor, shape (n, d)
        Not y : array-like.
    w, box : ndarray, optional
    *grid : array-like
    f : callable or array

    Returns
    -------
    ndarray
    """


def test_arrays_are_found_in_docstrings():
    assert documented_arrays(documented) == {"X", "w", "box", "grid"}
    assert documented_arrays(len) == set()


@examples
def test_a_mask_of_none_is_not_refused(thing):
    example, expected = ready(thing)
    whole = {k: np.ma.masked_array(v, mask=np.zeros(v.shape, dtype=bool)) for k, v in example.arrays.items()}
    np.testing.assert_array_equal(flat(example.call(**whole)), expected)


@arguments
def test_masked_entries_are_refused(thing, name):
    example, _ = ready(thing)
    values = example.arrays[name]
    mask = np.zeros(values.shape, dtype=bool)
    mask.flat[-1] = True
    with pytest.raises(ValueError, match="masked"):
        example.call(**{**example.arrays, name: np.ma.masked_array(values, mask=mask)})


@examples
def test_any_layout_of_the_same_numbers_gives_the_same_answer(thing):
    """Of all arguments at once: what one needs, another cannot make up for."""
    example, expected = ready(thing)
    assert len(expected)
    for changed in zip(*map(layouts, example.arrays.values()), strict=True):
        given = {name: values for name, (_, values) in zip(example.arrays, changed, strict=True)}
        found = flat(example.call(**given))
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12, err_msg=changed[0][0])


@examples
@pytest.mark.filterwarnings("ignore:.*half precision")
def test_any_dtype_that_holds_the_numbers_gives_the_same_answer(thing):
    """To single precision, in which half precision is computed."""
    example, expected = ready(thing)
    for kinds, given in dtypes(example):
        found = flat(example.call(**{**example.arrays, **given}))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, err_msg=str(kinds))
