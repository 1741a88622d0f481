"""Arrays: the same numbers give the same answer in any layout and dtype, and masked ones are refused.

Held to this is every argument that is documented as an array, of whatever the cards' modules export.
"""

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
    "PBN.fit",
    "SelfAttentionClassifier.fit",
    "ProbabilisticNet.fit",
    "memorization_curve",
    "optimize_points",
    "train_denoiser",
)


def each():
    """One parameter for each argument of each example."""
    for thing, example in ARRAYS.items():
        for name in example.arrays:
            marks = pytest.mark.trains if thing.__qualname__ in TRAINING else ()
            yield pytest.param(example, name, id=f"{thing.__qualname__}-{name}", marks=marks)


arguments = pytest.mark.parametrize(("example", "name"), list(each()))


def ready(example):
    for library in example.needs:
        pytest.importorskip(library)
    return flat(example.call(**example.arrays))


def layouts(values):
    """The same numbers in other places, orders and hands."""
    yield "backwards", values[::-1].copy()[::-1]
    yield "last axis backwards", np.ascontiguousarray(values[..., ::-1])[..., ::-1]
    yield "columns first", np.asfortranarray(values)
    yield "every other", np.repeat(values, 2, axis=-1)[..., ::2]
    fixed = values.copy()
    fixed.flags.writeable = False
    yield "read-only", fixed
    yield "bytes swapped", values.astype(values.dtype.newbyteorder())
    record = np.zeros(values.shape, dtype=[("odd", "u1"), ("value", values.dtype)])
    record["value"] = values
    yield "field of a record", record["value"]


def dtypes(values, *, strict, plain):
    """The same numbers in other dtypes that hold them."""
    kinds = ["u1", "i2", "i8", "u8"] if strict else ["u1", "i2", "i8", "f2", "f4", "g", "O"]
    for kind in kinds:
        yield kind, values.astype(kind)
    if plain:
        return
    yield "list", values.tolist()
    for kind in (
        torch.uint8,
        torch.int64,
        *(() if strict else (torch.float16, torch.bfloat16, torch.float64)),
    ):
        yield str(kind), torch.tensor(values).to(kind)


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


@arguments
def test_masked_entries_are_refused_and_a_mask_of_none_is_not(example, name):
    expected, values = ready(example), example.arrays[name]
    whole = np.ma.masked_array(values, mask=np.zeros(values.shape, dtype=bool))
    np.testing.assert_array_equal(flat(example.call(**{**example.arrays, name: whole})), expected)
    mask = np.zeros(values.shape, dtype=bool)
    mask.flat[-1] = True
    with pytest.raises(ValueError, match="masked"):
        example.call(**{**example.arrays, name: np.ma.masked_array(values, mask=mask)})


@arguments
def test_any_layout_of_the_same_numbers_gives_the_same_answer(example, name):
    expected = ready(example)
    assert len(expected)
    for how, values in layouts(example.arrays[name]):
        found = flat(example.call(**{**example.arrays, name: values}))
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12, err_msg=how)


@arguments
@pytest.mark.filterwarnings("ignore:.*half precision")
def test_any_dtype_that_holds_the_numbers_gives_the_same_answer(example, name):
    """To single precision, in which half precision is computed."""
    expected, values = ready(example), example.arrays[name]
    if values.dtype == bool:
        return
    for kind, given in dtypes(values, strict=name in example.strict, plain=example.plain):
        found = flat(example.call(**{**example.arrays, name: given}))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, err_msg=kind)
