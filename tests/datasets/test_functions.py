"""Data from ``package.module:function``."""

import itertools
import os
import sys
import textwrap

import numpy as np
import pytest

from lodim.datasets import read_function, resolve

COUNTER = itertools.count()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module into the current folder and return its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", sys.path.copy())

    def write(code):
        name = f"lodim_test_module_{next(COUNTER)}"
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(code))
        return name

    return write


HEAD = """
import numpy as np
import pandas as pd
import torch
from lodim.datasets import Dataset
X = np.arange(80.0).reshape(20, 4)
y = np.arange(20) % 2
"""


@pytest.mark.parametrize(
    ("returned", "kind"),
    [
        ("X", None),
        ("(X, y)", "classification"),
        ("[X, X[:, 0] * 0.5]", "regression"),
        ("torch.tensor(X), torch.tensor(y)", "classification"),
        ("pd.DataFrame(X), y", "classification"),
        ("Dataset(X=X, y=y, kind='classification')", "classification"),
        (
            "torch.utils.data.TensorDataset(*map(torch.tensor, (X, y)))",
            "classification",
        ),
    ],
)
def test_what_a_function_may_return(module, returned, kind):
    name = module(HEAD + f"def data():\n    return {returned}\n")
    data = read_function(f"{name}:data")
    assert data.X.shape == (20, 4)
    assert data.kind == kind
    if kind == "classification":
        np.testing.assert_array_equal(data.y, np.arange(20) % 2)


def test_frames_take_a_target_column(module):
    name = module(HEAD + "def data():\n    return pd.DataFrame(X, columns=list('abcd'))\n")
    assert read_function(f"{name}:data", target="b").kind == "regression"
    with pytest.raises(ValueError, match="no column 'x'"):
        read_function(f"{name}:data", target="x")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def data(): return None", "it returned None"),
        ("def data(): return (1, 2, 3)", "it returned 3 things"),
        ("def data(): return 'text'", "it returned 'text'"),
        ("def data(): raise KeyError('age')", "failed: KeyError: 'age'"),
        ("def data(x): return x", "failed: TypeError"),
        ("data = 3", "is a int, not a function"),
        ("def date(): return 1", "has no 'data'. Did you mean 'date'"),
        ("import nonexistent_library", "it needs 'nonexistent_library'"),
        ("raise RuntimeError('at import')", "failed: RuntimeError: at import"),
        ("def data(): return [[1.0, 2.0]], ['a', 'b']", "2 entries but the data have 1 rows"),
    ],
)
def test_functions_that_will_not_do(module, code, message):
    name = module(code)
    with pytest.raises(ValueError, match=message):
        read_function(f"{name}:data")


def test_resolve():
    assert resolve("os.path:join") is os.path.join
    assert resolve("pathlib:Path.home")
    with pytest.raises(ValueError, match=r"no module 'lodim.nowhere'"):
        resolve("lodim.nowhere:f")
    with pytest.raises(ValueError, match=r"expected package.module:name"):
        resolve("os.path")
