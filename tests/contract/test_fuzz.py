"""No input, however bad, ends in anything but a sane answer or a refusal in words (:mod:`contract.fuzz`)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .fuzz import FINE, REFUSED, Call, judge

PARTS = 4  # processes that share all inputs


def fuzzed(first, step):
    """In a process of its own: users have no run-time type checks, which would refuse before the library does."""
    done = subprocess.run(
        [sys.executable, "-m", "contract.fuzz", str(first), str(step)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout[done.stdout.index("{") :])


def test_a_few_bad_and_extreme_inputs_are_answered_or_refused_in_words():
    found = fuzzed(0, 611)
    assert not found["faults"], json.dumps(found["faults"], indent=1)
    assert found["counts"][REFUSED] > found["counts"][FINE] > 0


@pytest.mark.slow
@pytest.mark.parametrize("first", range(PARTS))
def test_all_bad_and_extreme_inputs_are_answered_or_refused_in_words(first):
    """All of them: of a sample, another would be drawn whenever a function is added, with the faults of former ones."""
    found = fuzzed(first, PARTS)
    assert not found["faults"], json.dumps(found["faults"], indent=1)


def takes_all(x):
    return 1.0


def falls_over(x):
    return {}[x]


def says_nothing(x):
    raise ValueError("no")


def is_undefined(x):
    return float("nan")


@pytest.mark.parametrize(
    ("function", "never", "fault"),
    [
        (takes_all, True, "taken silently"),
        (falls_over, False, "KeyError"),
        (says_nothing, False, "from below"),
        (is_undefined, False, "not finite"),
    ],
)
def test_faults_are_seen(function, never, fault):
    assert judge(Call("f", function, {"x": 1.0}), "x", "word", "no", never, [1.0]).startswith(fault)
    assert judge(Call("f", takes_all, {"x": 1.0}), "x", "one", 1, False, [1.0]) == FINE
