"""Which methods of lodim can be used and what is recorded of their claims, and when that changed.

The state of a method comes from the installed library (:mod:`lodim.catalog.baseline`); it changes when lodim is
updated. The catalogue keeps a log of it, so that a digest can tell what is different.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from lodim.catalog.cards import Card, evidence_of, load_cards
from lodim.catalog.feed.statements import run
from lodim.catalog.feed.store import LONG, Store
from lodim.results import Result

__all__ = ["Change", "changes_between", "record_states"]


@dataclass(frozen=True)
class Change(Result):
    """A method whose state changed, said in one line: ``can now be used; claims: 7 hold``."""

    slug: str
    title: str
    said: str


def record_states(store: Store, now: str, cards: Iterable[Card] | None = None) -> int:
    """Note the state of every method that differs from its last note, and return how many do."""
    known = load_cards() if cards is None else cards
    states = {card.slug: (card.status, evidence_of(card)) for card in known}
    with store.reading() as connection:
        if not _differing(connection, states):
            return 0
    with store.writing(patience=LONG) as connection:
        differing = _differing(connection, states)
        for slug in differing:
            run(
                connection,
                "INSERT INTO method_state (slug, status, evidence, noted_at) "
                "VALUES (:slug, :status, :evidence, :now)",
                slug=slug,
                status=states[slug][0],
                evidence=states[slug][1],
                now=now,
            )
        return len(differing)


def _differing(connection: sa.Connection, states: dict[str, tuple[str, str]]) -> list[str]:
    rows = run(
        connection,
        "SELECT slug, status, evidence FROM method_state "
        "WHERE id IN (SELECT max(id) FROM method_state GROUP BY slug)",
    )
    last = {slug: (status, evidence) for slug, status, evidence in rows}
    return [slug for slug, state in states.items() if last.get(slug) != state]


def changes_between(
    connection: sa.Connection, since: str, until: str, areas: Sequence[str] = ()
) -> tuple[Change, ...]:
    """Return the methods (of these areas, if any are named) whose state at one moment (UTC) differs from that at
    another, in the order of their titles. A method that was not known by ``since`` is no news.
    """
    before, after = _states_at(connection, since), _states_at(connection, until)
    cards = {card.slug: card for card in load_cards()}
    asked = {name.strip().lower() for name in areas}
    changed = []
    for slug, (status, evidence) in after.items():
        card = cards.get(slug)
        if card is None or slug not in before or before[slug] == (status, evidence):
            continue
        if not asked or asked & set(card.areas):
            changed.append(Change(slug, card.title, _in_words(before[slug], (status, evidence))))
    return tuple(sorted(changed, key=lambda change: (change.title, change.slug)))


def _states_at(connection: sa.Connection, moment: str) -> dict[str, tuple[str, str]]:
    rows = run(
        connection,
        "SELECT slug, status, evidence FROM method_state WHERE id IN "
        "(SELECT max(id) FROM method_state WHERE noted_at <= :moment GROUP BY slug)",
        moment=moment,
    )
    return {slug: (status, evidence) for slug, status, evidence in rows}


def _in_words(before: tuple[str, str], after: tuple[str, str]) -> str:
    said = []
    if before[0] != after[0]:
        said.append("can now be used" if after[0] == "available" else "cannot be used at present")
    if before[1] != after[1]:
        said.append(f"claims: {after[1]} (before: {before[1]})")
    return "; ".join(said)
