"""What callers have always given is taken by a checked function, and only what is of another kind is refused."""

import functools
import inspect
import pickle
import subprocess
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

import lodim.neighbors as neighbors
from lodim.validation import check_in_range, check_kind, checked

Numbers = Float[np.ndarray, "n d"]
TAKEN = {
    "a fraction of NumPy": (np.float32(0.5), float),
    "a rational": (Fraction(1, 2), float),
    "a fraction for a union": (0.5, float | int | None),
    "an array of no axes": (np.array(0.5), float),
    "a score, a tensor": (torch.tensor(0.5), float),
    "a parameter": (nn.Parameter(torch.tensor(0.5)), float | int),
    "a whole tensor": (torch.tensor(3), int),
    "a small unsigned": (np.uint8(3), int),
    "sizes as a tensor": (torch.tensor([3, 4]), Sequence[int]),
    "sizes as an index": (pd.Index([3, 4]), Sequence[int]),
    "a generator": ((i for i in (1, 2)), Sequence[int]),
    "a list for a pair": ([1, 2], tuple[int, int]),
    "texts of NumPy": ([np.str_("a")], Sequence[str]),
    "whole numbers as a table": (np.ones((3, 2), dtype=int), Numbers),
    "truth values as a table": (np.ones((3, 2), dtype=bool), Numbers),
    "numbers of the other byte order": (np.ones((3, 2), dtype=">f8"), Numbers),
    "numbers of long fractions": (np.ones((3, 2), dtype=np.longdouble), Numbers),
    "half precision": (torch.ones(3, 2).bfloat16(), Float[Tensor, "n d"]),
    "two axes of one name": (np.ones((3, 2)), Float[np.ndarray, "n n"]),
    "labels as bytes": (torch.ones(3, dtype=torch.uint8), Int[Tensor, " n"]),
    "the number of a GPU": (0, torch.device | str | None),
    "a partial": (functools.partial(int, base=2), Callable[[str], int]),
    "a number of any library": (np.float64(1.0), np.floating[typing.Any]),
}
REFUSED = {
    "a boolean": (True, int),
    "a boolean of NumPy": (np.bool_(True), float),
    "a truth value without axes": (torch.tensor(True), int),
    "a fraction without axes": (torch.tensor(0.5), int),
    "a number that is complex": (torch.tensor(1j), float),
    "a number without value": (torch.ones((), device="meta"), float),
    "a text for a number of any library": ("0.5", np.floating[typing.Any]),
    "a list for a mapping": ([1], Mapping[str, int]),
    "bytes for sizes": (b"auto", str | Sequence[int]),
    "an empty text for sizes": ("", Sequence[int]),
    "whole numbers as a tensor of fractions": (torch.ones(3, dtype=torch.long), Float[Tensor, " n"]),
    "fractions for whole numbers": (np.ones(3), Int[np.ndarray, " n"]),
    "one axis too many": (np.ones((3, 2, 1)), Numbers),
}


@pytest.mark.parametrize("name", TAKEN)
def test_it_is_taken(name):
    check_kind(*TAKEN[name], "x")


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_by_name(name):
    with pytest.raises(TypeError, match=r"^x must be"):
        check_kind(*REFUSED[name], "x")


def test_what_is_wanted_is_said_in_words():
    with pytest.raises(TypeError, match=r"^x must be a tuple of 2 \(each a number\) or None, got 3$"):
        check_kind(3, tuple[float | int, float | int] | None, "x")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Numbers, r"an ndarray of float numbers of shape \(n, d\)"),
        (nn.Module, "a Module"),
        (OSError, "an OSError"),
        (typing.Iterable[int], r"an iterable \(each an integer\)"),
    ],
)
def test_kinds_have_their_article(kind, said):
    with pytest.raises(TypeError, match=rf"^x must be {said}, got 3$"):
        check_kind(3, kind, "x")


def test_a_number_without_axes_has_a_range():
    assert check_in_range(torch.tensor(0.5), "x", low=0.0, high=1.0) == 0.5
    with pytest.raises(ValueError, match="x must be at most 1"):
        check_in_range(np.array(2.0), "x", high=1.0)


@checked
def taken(a: int, /, b: float = 0.5, *rest: str, c: bool = True, **others: int):
    """Say what came."""
    return a, b, rest, c, others


def test_a_checked_function_is_called_as_before():
    assert taken(1, 2, "x", c=False, d="any") == (1, 2, ("x",), False, {"d": "any"})
    assert taken(1, a=2)[-1] == {"a": 2}  # another argument than the positional one
    for wrong in (lambda: taken(), lambda: taken(1, 2.0, b=3.0)):
        with pytest.raises(TypeError, match=r"missing|multiple values"):
            wrong()
    with pytest.raises(TypeError, match=r"c must be True or False"):
        taken(1, c=1)
    assert pickle.loads(pickle.dumps(taken)) is taken
    assert list(inspect.signature(taken).parameters) == ["a", "b", "rest", "c", "others"]
    assert taken.__doc__ == "Say what came."


GIVEN = """
import numpy as np, torch
from lodim import geometry, landscape, nets, neighbors
assert abs(float(landscape.relative_gap(torch.tensor(0.9), np.array(0.8))) - 0.5) < 1e-6
assert neighbors.n_distinct(np.array([[1, 2], [1, 2], [3, 4]])) == 2
model = nets.mlp(torch.tensor([3, 4, 2]))
X, y = torch.rand(5, 3), torch.tensor([0, 1, 0, 1, 0])
assert torch.equal(geometry.fgsm(model, X, y, torch.tensor(0.1)), geometry.fgsm(lambda x: model(x), X, y, 0.1))
"""


def test_public_functions_take_scores_and_sizes_as_they_come():
    """In a process of its own: users have no run-time type checks, which would refuse before the library does."""
    done = subprocess.run([sys.executable, "-c", GIVEN], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_some_rows_are_asked_for_by_a_list():
    X = np.random.default_rng(0).random((9, 2))
    ((squares, _),) = neighbors.stream_pairs(X, reducers=[neighbors.TopK(2)], query_idx=[1, 2])
    assert squares.shape == (2, 2)
