"""What all tests share: one thread a process, the same examples of hypothesis every time, no colours, and a marker.

A test that takes many steps of training is marked ``trains``: steps multiply what one processor rounds unlike another,
so these tests run again under other instructions (``.ci/run``). Who forgets the marker is told.
"""

import os

# Before NumPy and torch are loaded: the problems are small, and processes side by side would fight for the cores.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import inspect  # noqa: E402
import re  # noqa: E402
import typing  # noqa: E402

import beartype  # noqa: E402
import jaxtyping  # noqa: E402
import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402
from torch.optim.optimizer import register_optimizer_step_post_hook  # noqa: E402

_shaped = jaxtyping.jaxtyped
_plain = beartype.beartype(conf=beartype.BeartypeConf(violation_type=jaxtyping.TypeCheckError))


def _is_shape(kind):
    return getattr(kind, "__module__", "").startswith("jaxtyping") or any(
        map(_is_shape, typing.get_args(kind))
    )


def _checked(fn=None, *, typechecker):
    """Check annotations as jaxtyping does, whose binding of shapes at every call is left out where none is named.

    It would take a third of the suite's time. A function inside a function that names no shape is left to mypy: it
    would be written anew at every call of the outer one.
    """
    if fn is None:
        return lambda fn: _checked(fn, typechecker=typechecker)
    if inspect.isfunction(fn):
        words = {word for note in fn.__annotations__.values() for word in re.findall(r"\w+", str(note))}
        if not any(_is_shape(fn.__globals__.get(word)) for word in words):
            return fn if "<locals>" in fn.__qualname__ or not words else _plain(fn)
    return _shaped(fn, typechecker=typechecker)


# What the hook of its option --jaxtyping-packages writes into modules on import
jaxtyping.jaxtyped = _checked

# A busy machine may take long over any single example; and what passed here has to pass elsewhere.
settings.register_profile(
    "patient", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")

os.environ["_TYPER_FORCE_DISABLE_TERMINAL"] = "1"  # on GitHub it would colour; read when typer is imported


@pytest.fixture(scope="session", autouse=True)
def _plain_text():
    """Commands write as into a file, without the escape sequences of a terminal."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
            patch.delenv(name, raising=False)
        yield


_MANY = 10  # steps


@pytest.fixture(scope="session")
def _steps():
    """Steps of training since it was last emptied: torch's optimisers', and those of replicas that train as one."""
    from lodim.training.batch import ReplicaBatch

    taken = []
    handle = register_optimizer_step_post_hook(lambda *_: taken.append(1))
    with pytest.MonkeyPatch.context() as patch:
        step = ReplicaBatch._step
        patch.setattr(ReplicaBatch, "_step", lambda *args: taken.append(1) or step(*args))
        yield taken
    handle.remove()


@pytest.fixture(autouse=True)
def _marked_where_it_trains(request, _steps):
    """A fast test, with the fixtures made for it, takes few steps or is marked ``trains``."""
    yield
    n = len(_steps)
    _steps.clear()
    if n >= _MANY and not any(request.node.get_closest_marker(name) for name in ("trains", "slow")):
        pytest.fail(f"{n} steps of training, but the test is not marked `trains`")
