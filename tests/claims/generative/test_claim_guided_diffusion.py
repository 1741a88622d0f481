"""The claims of guided diffusion: the full scales' experiments take their first steps at sizes of seconds."""

import pytest

from lodim.claims.generative.guided_diffusion import guidance, reward, subspace
from lodim.claims.result import Progress

FEW = {"steps": 2, "seeds": 1, "place": "cpu"}


@pytest.mark.trains
def test_subspace_takes_its_first_steps():
    found = subspace.CLAIM.full(0, Progress(), **FEW, d=3, largest=20, sizes=(30, 40, 50))
    assert len(found.checks) == 7
    assert len(found.figures["rows"]) == 9


def test_guidance_takes_its_first_steps():
    small = {"data": "digits", "n": 2, "hidden": 8, "draws": 1}
    found = guidance.CLAIM.full(0, Progress(), **FEW, **small)
    assert len(found.checks) == 6
    assert found.figures["rows"][0]["n"] == 2


def test_reward_takes_its_first_steps():
    small = {"data": "digits", "n": 4, "hidden": 8, "draws": 1}
    found = reward.CLAIM.full(0, Progress(), **FEW, **small)
    assert len(found.checks) == 6
    assert [r["mode"] for r in found.figures["rows"]] == ["conditional", "lookahead", "naive"]
    assert all(len(r["energy"]) == 6 for r in found.figures["rows"])
