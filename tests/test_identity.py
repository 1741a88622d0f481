"""Equal content has equal hashes, in every process; any change of it that could change an answer has another."""

from __future__ import annotations

import copy
import enum
import functools
import importlib
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import scipy.special
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from lodim.identity import UnidentifiableError, code_hash, content_hash

FACTOR = 3.0


def scaled(x, by=2.0):
    """Says something."""
    return by * x


def scaled_otherwise(x, by=2.0):
    """Says something else."""
    return by * x


def scaled_by_three(x, by=3.0):
    return by * x


def uses_global(x):
    return [
        FACTOR * value for value in x
    ]  # the global is looked up in a function of its own, or not, as Python likes


def calls_helper(x):
    return uses_global(x)


def factory(k):
    return lambda x: x + k


def endless(n):
    return endless(n - 1)


class Net(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        for p in self.parameters():
            p.data = torch.randn(p.shape, generator=generator)

    def forward(self, x):
        return self.second(self.first(x).relu())


@dataclass
class Settings:
    weight: float = 1.0


@dataclass(frozen=True)
class Job:
    size: int = 1

    @functools.cached_property
    def spent(self):
        return object()


def long(at=None):
    values = np.arange(5000.0)
    if at is not None:
        values[at] = -1
    return values


def differ(a, b):
    return content_hash(a) != content_hash(b)


def test_arrays_count_to_the_last_entry_with_dtype_and_shape_but_not_layout():
    assert differ(long(), long(2500))
    assert not differ(long(), long())
    assert differ(np.zeros(4), np.zeros((2, 2)))
    assert differ(np.zeros(4), np.zeros(4, np.float32))
    assert differ(np.zeros(0), np.zeros((0, 3)))
    table = np.arange(12.0).reshape(3, 4)
    assert not differ(table, np.asfortranarray(table))
    assert not differ(table[:, ::2], table[:, ::2].copy())
    assert differ(np.array(["2020-01-01"], "M8[D]"), np.array(["2020-01-02"], "M8[D]"))
    assert differ(np.array([1, "a"], object), np.array([1, "b"], object))
    assert differ(np.ma.array([1.0, 2.0], mask=[0, 1]), np.ma.array([1.0, 2.0]))


def test_tensors_count_alike():
    values = torch.arange(5000.0)
    changed = values.clone()
    changed[2500] = -1
    assert differ(values, changed)
    assert differ(values, values.to(torch.bfloat16))
    assert not differ(values[::2], values[::2].clone())
    assert differ(values, values.clone().requires_grad_())
    assert not differ(values.to_sparse(), values.to_sparse())
    assert differ(values, values.to_sparse())
    assert not differ(torch.tensor([1 + 2j]).conj(), torch.tensor([1 - 2j]))
    assert differ(torch.Generator().manual_seed(0), torch.Generator().manual_seed(1))


def test_a_function_is_its_code_its_closure_its_defaults_and_its_globals(monkeypatch):
    assert differ(sum, max)
    assert not differ(scaled, scaled_otherwise)  # they do the same
    assert differ(scaled, scaled_by_three)
    assert differ(functools.partial(scaled, by=60), functools.partial(scaled, by=2))
    assert not differ(functools.partial(dict, a=1, b=2), functools.partial(dict, b=2, a=1))
    assert differ(factory(1), factory(2))
    assert not differ(factory(1), factory(1))
    assert differ(factory(long()), factory(long(2500)))
    before = content_hash(calls_helper)
    monkeypatch.setitem(globals(), "FACTOR", 4.0)
    assert content_hash(calls_helper) != before
    assert content_hash(endless) == content_hash(endless)
    assert differ(functools.lru_cache(scaled), functools.lru_cache(scaled_by_three))
    assert differ(np.add, np.subtract)
    assert differ(scipy.special.gamma, scipy.special.gammaln)
    assert differ(np.random.standard_normal, np.random.default_rng(0).standard_normal)
    assert differ([1].append, [2].append)


def test_a_changed_default_argument_is_another_function(monkeypatch):
    before = content_hash(scaled)
    monkeypatch.setattr(scaled, "__defaults__", (60.0,))
    assert content_hash(scaled) != before


def test_a_packages_function_is_its_version_whatever_its_decorator_remembers():
    def remembering():
        calls = []

        def wrapper(x):
            calls.append(x)
            return x

        wrapper.__module__ = "lodim.nets.backbones"
        return wrapper

    function = remembering()
    function.__qualname__ = "mlp"
    before = content_hash(function)
    function(1)
    assert content_hash(function) == before
    made = remembering()  # by a call within the package: what it closes over tells it from others of its kind
    before = content_hash(made)
    made(1)
    assert content_hash(made) != before


def test_a_module_is_its_code_its_numbers_and_how_they_hang_together(monkeypatch):
    model = Net()
    before = content_hash(model)
    assert content_hash(Net()) == content_hash(copy.deepcopy(model)) == before
    assert content_hash(Net(seed=1)) != before
    assert content_hash(Net().eval()) != before
    frozen = Net()
    frozen.first.weight.requires_grad_(False)
    assert content_hash(frozen) != before
    hooked = Net()
    handle = hooked.register_forward_hook(lambda module, inputs, output: output * 2)
    assert content_hash(hooked) != before
    handle.remove()
    assert content_hash(hooked) == before
    monkeypatch.setattr(Net, "forward", lambda self, x: self.second(self.first(x).tanh()))
    assert content_hash(model) != before


def test_tied_weights_are_not_equal_ones():
    tied, alike = Net(), Net()
    tied.second.weight = tied.first.weight
    with torch.no_grad():
        alike.second.weight.copy_(alike.first.weight)
    assert differ(tied, alike)
    again = Net()
    again.second.weight = again.first.weight
    assert not differ(tied, again)


def test_a_compiled_module_is_told_from_others_by_what_it_was_compiled_from():
    assert not differ(torch.compile(Net()), torch.compile(Net()))
    assert differ(torch.compile(Net()), torch.compile(Net(seed=1)))


def test_objects_count_by_what_they_hold_and_what_their_class_does():
    assert differ(LogisticRegression(C=2.0), LogisticRegression())
    assert not differ(LogisticRegression(), LogisticRegression())
    frame = pd.DataFrame({"a": [1, 2, 3], "b": list("xyz")})
    changed = frame.copy()
    changed.loc[1, "a"] = 9
    assert differ(frame, changed)
    assert not differ(frame, frame.copy())
    assert differ(scipy.sparse.eye(4).tocsr(), scipy.sparse.eye(5).tocsr())
    assert differ(np.random.default_rng(0), np.random.default_rng(1))
    assert not differ({1, 2, 3}, {3, 2, 1})
    assert not differ({"a": 1, "b": 2}, {"b": 2, "a": 1})
    assert differ({"a": 1, "b": 2}, {"a": 2, "b": 1})
    assert differ((1, 2), [1, 2])
    assert differ(1, 1.0)
    assert differ(1, True)
    assert differ(["ab"], ["a", "b"])
    assert not differ(threading.Lock(), threading.Lock())


def test_what_has_been_worked_out_already_is_no_content():
    job = Job()
    before = content_hash(job)
    assert job.spent is job.spent
    assert content_hash(job) == before
    assert differ(Job(), Job(2))


def test_things_that_hold_themselves_end():
    loop = []
    loop.append(loop)
    other = [1]
    other.append(other)
    assert differ(loop, other)


def test_code_is_told_with_its_settings_but_without_what_it_works_on(monkeypatch):
    def same(a, b):
        return code_hash(a) == code_hash(b)

    model = Net()
    before = code_hash(factory(model), model)
    with torch.no_grad():
        model.first.weight += 1
    assert code_hash(factory(model.eval()), model) == before
    assert same(factory(long()), factory(long(2500)))
    assert same(factory(threading.Event()), factory(threading.Event()))
    assert same(factory(np.random.default_rng(0)), factory(np.random.default_rng(1)))
    assert same(factory(Path(__file__).open), factory(Path(__file__).open))
    for a, b in [(1, 2), ({"w": 1.0}, {"w": 2.0}), (Settings(), Settings(2.0)), (scaled, scaled_by_three)]:
        assert not same(factory(a), factory(b))
    assert not same(factory(long()), factory(long()[:10]))
    model.first.weight.requires_grad_(False)
    assert code_hash(factory(model), model) != before
    model.first.weight.requires_grad_(True)
    monkeypatch.setattr(Net, "forward", lambda self, x: self.second(self.first(x).tanh()))
    assert code_hash(factory(model), model) != before


def test_a_modules_constants_are_settings_and_its_parameters_are_not():
    def module(constant=1.0, unsaved=1.0, saved=1.0):
        made = nn.Module()
        made.constant = torch.full((2,), constant)
        made.register_buffer("unsaved", torch.full((2,), unsaved), persistent=False)
        made.register_buffer("saved", torch.full((2,), saved))
        return code_hash(made)

    assert module(saved=2.0) == module()
    assert module(constant=2.0) != module()
    assert module(unsaved=2.0) != module()


@pytest.mark.parametrize(
    "make", [lambda: (i for i in range(3)), Path(__file__).open], ids=["generator", "file"]
)
def test_what_cannot_be_told_is_refused_by_name(make):
    held = make()
    with pytest.raises(UnidentifiableError, match=r"cannot be told.*key"):
        content_hash({"inside": [held]})
    held.close()


def test_too_deep_is_refused_too():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(UnidentifiableError, match="nested too deeply"):
        content_hash(deep)


def test_hashes_are_the_same_in_another_process(tmp_path):
    """Whatever the order of sets, the addresses of objects and the numbers of hooks are there."""
    script = tmp_path / "other.py"
    script.write_text(
        "import sys\nsys.path.insert(0, sys.argv[1])\nimport test_identity as t\n"
        "[t.nn.Linear(1, 1).register_forward_hook(print) for _ in range(3)]\n"
        "print(t.content_hash(t.everything()))\n"
    )
    run = subprocess.run(
        [sys.executable, str(script), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "1", "PYTHONPATH": ":".join(sys.path)},
    )
    assert run.stdout.strip() == content_hash(everything())


def everything():
    hooked = Net()
    hooked.register_forward_hook(scaled)
    return [
        {"a", "b", "c"},
        hooked,
        long(),
        pd.DataFrame({"x": [1.0]}),
        calls_helper,
        Job(),
        LogisticRegression(),
    ]


class Unit(np.ndarray):
    """An array that holds more than its numbers."""

    unit = "m"


class Settled:
    """A decorator with a setting."""

    def __init__(self, function, by=2.0):
        functools.update_wrapper(self, function)
        self.by = by

    def __call__(self, x):
        return self.by * self.__wrapped__(x)


class Meta(type):
    def __call__(cls, *args):
        return 1


class Made(metaclass=Meta):
    run = scaled
    __matmul__ = functools.partialmethod(scaled, by=2.0)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class Slots:
    __slots__ = ("a",)


class Choice(enum.Flag):
    A = 1
    B = 2


@functools.singledispatch
def dispatching(x):
    return x


def doubled_in_place(x):
    return x * doubled_in_place.by


@torch.no_grad()
def without_gradient(x):
    return uses_global(x)


def test_what_hangs_on_a_function_is_part_of_it(monkeypatch):
    monkeypatch.setattr(doubled_in_place, "by", 2, raising=False)
    before = content_hash(doubled_in_place)
    monkeypatch.setattr(doubled_in_place, "by", 3)
    assert content_hash(doubled_in_place) != before
    assert differ(Settled(scaled), Settled(scaled, by=3.0))
    before = content_hash(Settled(scaled))
    monkeypatch.setattr(Settled, "__call__", lambda self, x: x)
    assert content_hash(Settled(scaled)) != before


def test_what_a_packages_decorator_makes_of_a_function_is_that_function(monkeypatch):
    compiled = torch.compile(calls_helper)
    assert not differ(torch.compile(calls_helper), compiled)
    before = content_hash(without_gradient), content_hash(compiled)
    monkeypatch.setitem(globals(), "FACTOR", 4.0)
    assert content_hash(without_gradient) != before[0]
    assert content_hash(compiled) != before[1]


def test_a_dispatching_function_is_what_it_may_call_not_what_it_has_called():
    before = content_hash(dispatching)
    dispatching(3)
    assert content_hash(dispatching) == before
    dispatching.register(float, scaled)
    assert content_hash(dispatching) != before


def test_all_that_a_class_does_counts_and_that_of_its_class(monkeypatch):
    before = content_hash(Made)
    monkeypatch.setattr(Made, "__matmul__", functools.partialmethod(scaled, by=3.0))
    other = content_hash(Made)
    assert other != before
    monkeypatch.setattr(Meta, "__call__", lambda cls, *args: 2)
    assert content_hash(Made) != other


def test_a_class_that_a_package_made_of_the_users_is_told_by_that(monkeypatch):
    model = Doubled(2, 2)
    nn.utils.parametrize.register_parametrization(model, "weight", nn.Tanh())
    before = content_hash(model)
    monkeypatch.setattr(Doubled, "forward", lambda self, x: x)
    assert content_hash(model) != before


def test_an_enumeration_is_the_same_after_use():
    before = content_hash(Choice.A)
    assert Choice.A | Choice.B
    assert content_hash(Choice.A) == before


def test_a_class_with_slots_is_told_without_the_name_of_its_module():
    """A script and the process that imports it give it two."""
    before = content_hash(Slots)
    there = {"__name__": "elsewhere"}
    exec("class Slots:\n    __slots__ = ('a',)", there)
    assert content_hash(there["Slots"]) == before


def test_arrays_hold_more_than_numbers_and_less_than_memory(tmp_path):
    metres, feet = np.arange(3.0).view(Unit), np.arange(3.0).view(Unit)
    feet.unit = "ft"
    assert differ(metres, feet)
    assert differ(np.ma.array([1.0], fill_value=0.0), np.ma.array([1.0], fill_value=9.0))
    rows = np.empty((2, 3), np.dtype([("a", "i1"), ("b", "f8")], align=True))
    rows.view(np.uint8)[0], rows.view(np.uint8)[1] = 7, 9  # what lies between the fields too
    rows["a"], rows["b"] = 1, 2.0
    assert not differ(rows[0], rows[1])
    np.save(tmp_path / "rows.npy", np.arange(5.0))
    assert not differ(np.load(tmp_path / "rows.npy", mmap_mode="r"), np.arange(5.0))


def test_dates_are_the_same_after_use():
    days = pd.Series(range(90), index=pd.date_range("2020-01-01", periods=90))
    before = content_hash(days)
    assert len(days.loc["2020-02"]) == 29
    assert content_hash(days) == before


def test_networks_of_every_make_can_be_told():
    for make in (lambda: nn.GRU(2, 2), lambda: nn.LazyLinear(2), lambda: torch.jit.script(nn.Linear(2, 2))):
        model = make()
        assert content_hash(model) == content_hash(copy.deepcopy(model))
        assert code_hash(model) == code_hash(copy.deepcopy(model).eval())
    scripted = torch.jit.script(nn.Linear(2, 2))
    before = content_hash(scripted)
    with torch.no_grad():
        scripted.weight += 1
    assert content_hash(scripted) != before
    assert differ(torch.jit.script(nn.ReLU()), torch.jit.script(nn.Tanh()))


HELPERS = {
    "lodim_test_helper.py": "import lodim_test_package\nRATE = 1\n\n\ndef f(x):\n    return x\n",
    "lodim_test_package/__init__.py": "from .core import f\n",
    "lodim_test_package/core.py": "def f(x):\n    return x\n",
    "lodim_test_script.py": """
import lodim_test_helper
import lodim_test_helper as h

def by_module(x): return h.f(x)
def by_package(x): return h.lodim_test_package.f(x)
def by_submodule(x): return h.lodim_test_package.core.f(x)
def imports_inside(x):
    from lodim_test_package.core import f
    return f(x)
def imports_all_inside(x):
    import lodim_test_package as p
    return [p.core.f(part) for part in x]
def value(x): return h.RATE * x
""",
}


def test_the_users_other_modules_count_as_loaded_and_however_they_are_reached(tmp_path, monkeypatch):
    (tmp_path / "lodim_test_package").mkdir()
    for name, text in HELPERS.items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    script = importlib.import_module("lodim_test_script")
    names = ["by_module", "by_package", "by_submodule", "imports_inside", "imports_all_inside", "value"]

    def hashes():
        return [content_hash(getattr(script, name)) for name in names]

    try:
        before = hashes()
        assert hashes() == before
        helper, core = script.h, script.h.lodim_test_package.core
        helper.RATE = 2
        helper.f = helper.lodim_test_package.f = core.f = lambda x: -x
        for name, old, new in zip(names, before, hashes(), strict=True):
            assert old != new, name
    finally:
        for name in [name for name in sys.modules if name.startswith("lodim_test_")]:
            del sys.modules[name]
