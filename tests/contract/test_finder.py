"""The suite finds what the cards offer, knows its kind, and says what to add where an example is missing."""

from dataclasses import dataclass, replace

import pytest
import torch
from sklearn.base import BaseEstimator
from torch import nn

from lodim import geometry
from lodim.catalog import find_card, load_cards
from lodim.results import Result

from .examples import EXAMPLES
from .finder import KINDS, everything, found_in, kind_of, missing


@pytest.mark.parametrize("kind", KINDS)
def test_every_entry_point_has_an_example(kind):
    said = missing(everything(kind), EXAMPLES)
    assert not said, said


@pytest.mark.parametrize("kind", KINDS)
def test_every_example_is_of_its_kind(kind):
    assert all(kind_of(thing) == kind for thing in EXAMPLES[kind])


class Estimates(BaseEstimator):
    pass


class Generates(nn.Module):
    def loss(self, x):
        return x.mean()

    def sample(self, n, *, generator=None):
        return torch.randn(n, 2, generator=generator)


@dataclass(frozen=True)
class Answer(Result):
    value: float


class Holds:
    def __init__(self, model, n):
        pass


def converts(model, n) -> nn.Linear:
    return model


def measures(model) -> Answer:
    return Answer(1.0)


@pytest.mark.parametrize(
    ("thing", "kind"),
    [(Estimates, "estimators"), (Generates, "generators"), (nn.Linear, "layers"), (Holds, "layers"),
     (converts, "layers"), (Answer, "results"), (measures, None), (len, None), (dict, None)],
)  # fmt: skip
def test_kinds(thing, kind):
    assert kind_of(thing) == kind


def test_a_new_card_is_found_and_its_missing_examples_are_named(monkeypatch):
    """A generator and a function whose result nobody has shown yet."""
    monkeypatch.setattr(geometry, "__all__", [*geometry.__all__, "Generates", "measures"])
    monkeypatch.setattr(geometry, "Generates", Generates, raising=False)
    monkeypatch.setattr(geometry, "measures", measures, raising=False)
    card = replace(
        find_card("flora"),
        slug="new-one",
        entry_points=("lodim.geometry.Generates", "lodim.geometry.measures"),
    )
    said = missing(found_in([card]), EXAMPLES)
    assert "lodim.geometry.Generates (card 'new-one') is one of the generators and has no example" in said
    assert "GENERATORS in tests/contract/examples.py" in said
    assert "Answer (card 'new-one') is one of the results" in said
    shown = {**EXAMPLES, "generators": {Generates: ()}, "results": {**EXAMPLES["results"], Answer: None}}
    assert not missing(found_in([card]), shown)


def test_planned_cards_are_not_asked():
    planned = [card for card in load_cards() if card.status == "planned"]
    assert planned
    assert found_in(planned) == ()
