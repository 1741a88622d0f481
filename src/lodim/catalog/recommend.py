"""From a problem to methods: what fits, why, and what was left out because of which condition.

1. *Conditions* exclude: kind of data, rows at hand, a GPU that is missing, areas, status. Each exclusion is listed.
2. *Rankings* order the rest: by words, by meaning (extra ``semantic``), and by the figures of the problem, where each
   figure speaks for methods with a tag (:mod:`lodim.catalog.facts`).
3. *Fusion* by reciprocal rank, as in searches. A method that no ranking names is not recommended.
4. *What can be used today* leads what is planned where it fits comparably: some ranking gives it at least the share
   :data:`COMPARABLE` of its best score. A planned method that fits much better stays before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lodim.catalog.cards import Card, load_cards, suggestion
from lodim.catalog.facts import Fact, facts_of, figure, is_profile, measured_by
from lodim.catalog.query import Query, parse_query
from lodim.catalog.search import fuse, resolve_mode, scores_of, shared_index
from lodim.catalog.vocabulary import AREAS, DATA_KINDS, PROBLEM_TAGS
from lodim.results import Result

__all__ = ["Exclusion", "Problem", "Recommendation", "Recommendations", "recommend"]

# Of the best score: BM25 for words, cosine for meaning, summed weights for figures. Cosines of unrelated texts are well
# above zero, so that half of the best one says nothing.
COMPARABLE = {"lexical": 0.5, "semantic": 0.75, "facts": 0.5}
_MOST_WORDS_SHOWN, _CLOSE_IN_MEANING = 5, 5


@dataclass(frozen=True)
class Problem(Result):
    """A problem in terms of the catalogue.

    A method must take one of the ``data_kinds`` and be of one of the ``areas``; empty means any. ``text`` is in plain
    words, with filters as in searches; ``n_rows`` counts the samples at hand; ``gpu=False`` says that there is none;
    ``tags`` count towards the ranking; ``status="available"`` asks for methods that can be used today.
    """

    text: str = ""
    data_kinds: tuple[str, ...] = ()
    n_rows: int | None = None
    gpu: bool | None = None
    areas: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    status: str | None = None


@dataclass(frozen=True)
class Recommendation(Result):
    """A method that fits, and the reasons why it is here; the score is comparable within one answer only."""

    slug: str
    title: str
    area: str
    one_line: str
    status: str
    reasons: tuple[str, ...]
    score: float


@dataclass(frozen=True)
class Exclusion(Result):
    """A method that a condition excluded: ``data_kinds``, ``n_rows``, ``gpu``, ``areas``, ``status``, ``text`` or
    ``measured``.
    """

    slug: str
    condition: str
    reason: str


@dataclass(frozen=True)
class Recommendations(Result):
    """Methods for a problem, and those that were excluded.

    Attributes
    ----------
    problem : Problem
        As it was understood; ``notes`` tell what was not.
    mode : str
        How texts were compared: ``hybrid``, ``lexical`` or ``semantic``; ``figures`` if there was no text.
    recommended : tuple of Recommendation
        First the available ones that fit about as well as any, then all others; each part best first.
    excluded : tuple of Exclusion
        By slug; each with the first condition that it did not meet.
    n_fitting : int
        Methods that met all conditions.
    """

    problem: Problem
    mode: str
    recommended: tuple[Recommendation, ...]
    excluded: tuple[Exclusion, ...] = ()
    n_fitting: int = 0
    notes: tuple[str, ...] = field(default=())

    @property
    def excluded_by(self) -> dict[str, list[str]]:
        """Slugs of the excluded methods by condition."""
        found: dict[str, list[str]] = {}
        for out in self.excluded:
            found.setdefault(out.condition, []).append(out.slug)
        return found

    def to_frame(self) -> Any:
        """Return the recommendations as a data frame, one a row."""
        import pandas as pd

        return pd.DataFrame([r.to_dict() for r in self.recommended])

    def __str__(self) -> str:
        lines = []
        for i, found in enumerate(self.recommended, 1):
            lines.append(f"{i}. {found.slug} ({found.area}, {found.status}): {found.one_line}")
            lines += [f"   - {reason}" for reason in found.reasons]
        if not lines:
            lines.append("Nothing fits.")
        lines += [f"Excluded by {name}: {', '.join(slugs)}" for name, slugs in self.excluded_by.items()]
        return "\n".join([*lines, *self.notes])


def _words_of(value: Any, known: Mapping[str, str], name: str) -> tuple[str, ...]:
    """Return one word or several as a tuple, each checked against a vocabulary."""
    words = (value,) if isinstance(value, str) else tuple(value)
    for word in words:
        if word not in known:
            hint = suggestion(word, known)
            raise ValueError(f"{name}: {word!r} is unknown.{hint} There are: {', '.join(known)}")
    return words


def _from_mapping(given: Mapping[str, Any]) -> Problem:
    """Read a problem from a dictionary, singular and plural keys alike."""
    plural = {"data_kind": "data_kinds", "area": "areas", "tag": "tags"}
    values = {plural.get(key, key): value for key, value in given.items() if value is not None}
    known = Problem.__dataclass_fields__
    unknown = [key for key in values if key not in known]
    if unknown:
        raise ValueError(f"a problem has no {unknown[0]!r}; it may have: {', '.join(known)}")
    for key, words in (("data_kinds", DATA_KINDS), ("areas", AREAS), ("tags", PROBLEM_TAGS)):
        if key in values:
            values[key] = _words_of(values[key], words, key)
    if not isinstance(values.get("text", ""), str):
        raise TypeError(f"text must be text, got {values['text']!r}")
    if not isinstance(values.get("gpu", False), bool):
        raise TypeError(f"gpu must be True or False, got {values['gpu']!r}")
    n_rows = values.get("n_rows", 1)
    if isinstance(n_rows, bool) or not isinstance(n_rows, int) or n_rows < 1:
        raise ValueError(f"n_rows must be a whole number from 1, got {n_rows!r}")
    if values.get("status") not in (None, "available", "planned"):
        raise ValueError(f"status must be 'available' or 'planned', got {values['status']!r}")
    return Problem(**values)


def _from_profile(profile: Any) -> Problem:
    """Read the conditions from a profile: its kind of data, its rows, whether a model was looked at."""
    kind = "image" if figure(profile, "image_shape") else "tabular"
    kinds = (kind, "model") if figure(profile, "landscape") else (kind,)
    return Problem(data_kinds=kinds, n_rows=int(figure(profile, "n_samples")))


def _unmet(card: Card, problem: Problem) -> tuple[str, str] | None:
    """Return the first condition that a card does not meet and why, or None."""
    if problem.areas and not set(problem.areas) & set(card.areas):
        return "areas", f"it belongs to {card.area}"
    if problem.data_kinds and not card.handles(problem.data_kinds):
        return "data_kinds", f"it takes {', '.join(card.data_kinds)}"
    if problem.n_rows is not None and problem.n_rows < card.needs.min_rows:
        return "n_rows", f"it wants at least {card.needs.min_rows:,} rows"
    if problem.gpu is False and card.needs.gpu == "yes":
        return "gpu", "it needs a GPU at any useful size"
    if problem.status is not None and card.status != problem.status:
        return "status", f"it is {card.status}"
    return None


def _excluded(problem: Problem, query: Query, measured: Mapping[str, str]) -> dict[str, Exclusion]:
    """Return the exclusions by slug."""
    allowed = shared_index().allowed(query)
    found = {}
    for card in load_cards():
        unmet = _unmet(card, problem)
        if unmet is None and card.slug not in allowed:
            unmet = "text", "a filter, phrase or exclusion in the text"
        if unmet is None and card.slug in measured:
            unmet = "measured", measured[card.slug]
        if unmet is not None:
            found[card.slug] = Exclusion(card.slug, *unmet)
    return found


def _by_facts(facts: Sequence[Fact]) -> dict[str, float]:
    """Return the cards that facts speak for with their total weights, the greatest first, ties by slug."""
    weight = {fact.tag: 0.0 for fact in facts}
    for fact in facts:
        weight[fact.tag] += fact.weight
    totals = {card.slug: sum(weight.get(tag, 0.0) for tag in card.problem_tags) for card in load_cards()}
    found = [slug for slug, total in totals.items() if total > 0]
    return {slug: totals[slug] for slug in sorted(found, key=lambda slug: (-totals[slug], slug))}


def _ranked(query: Query, mode: str, facts: Sequence[Fact]) -> dict[str, dict[str, float]]:
    """Return each ranking as scores by slug, best first: of the words, of their meaning, of the figures."""
    found = scores_of(query, mode) if query.looked_for else {}
    if facts:
        found["facts"] = _by_facts(facts)
    return found or {"all": dict.fromkeys((card.slug for card in load_cards()), 1.0)}  # conditions only


def _comparable(rankings: Mapping[str, Mapping[str, float]]) -> set[str]:
    """Return the slugs that some ranking finds about as fitting as its best."""
    return {
        slug
        for name, scores in rankings.items()
        for slug, score in scores.items()
        if score >= COMPARABLE.get(name, 1.0) * max(scores.values()) > 0
    }


def _reasons(card: Card, query: Query, facts: Sequence[Fact], by_meaning: Sequence[str]) -> tuple[str, ...]:
    """Return why a card is recommended."""
    said = [f"{fact.reason} ({fact.tag})" for fact in facts if fact.tag in card.problem_tags]
    index = shared_index()
    words = [part for part in query.looked_for if card.slug in index.matching(part)]
    if words:
        said.append(f"its card speaks of {', '.join(words[:_MOST_WORDS_SHOWN])}")
    if card.slug in by_meaning[:_CLOSE_IN_MEANING]:
        said.append("close to your words in meaning")
    return tuple(said) or ("its meaning is nearer to your words than most",)


def recommend(problem: Any, k: int = 5, *, mode: str = "auto", **conditions: Any) -> Recommendations:
    """Recommend at most ``k`` methods for a problem, with reasons, and say which were excluded by what. A key, word or
    number that makes no sense, or nothing to go by, raises a ValueError or TypeError.

    Parameters
    ----------
    problem : str, mapping or Profile
        Plain words; a dictionary with any of ``text``, ``data_kinds``, ``n_rows``, ``gpu``, ``areas``, ``tags`` and
        ``status`` (see :class:`~lodim.catalog.recommend.Problem`); or the answer of :func:`lodim.profile`, as an object
        or as the dictionary of its JSON, whose figures then take the place of words.
    mode : {"auto", "hybrid", "lexical", "semantic"}
        How texts are compared; see :func:`~lodim.catalog.search`.
    **conditions
        The dictionary's keys again; they override what ``problem`` says.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    understood, facts, measured = _understand(problem, conditions)
    query = parse_query(understood.text)
    facts = (*facts, *(Fact(tag, 1.0, "asked for") for tag in understood.tags))
    conditioned = query.filters or query.excluded or replace(understood, text="") != Problem()
    if not (facts or query.looked_for or conditioned):
        raise ValueError(
            "nothing to go by: describe the problem in words, or give data_kinds, tags or a profile"
        )
    excluded = _excluded(understood, query, measured)
    chosen = resolve_mode(mode) if query.looked_for else "figures"
    rankings = {
        name: {slug: score for slug, score in scores.items() if slug not in excluded}
        for name, scores in _ranked(query, chosen, facts).items()
    }
    by_meaning = list(rankings.get("semantic", ()))
    cards, comparable = shared_index().cards, _comparable(rankings)
    fused = sorted(
        fuse(rankings.values()),
        key=lambda found: not (found[0] in comparable and cards[found[0]].status == "available"),
    )
    recommended = tuple(
        Recommendation(
            slug,
            cards[slug].title,
            cards[slug].area,
            cards[slug].one_line,
            cards[slug].status,
            ("meets the conditions",)
            if "all" in rankings
            else _reasons(cards[slug], query, facts, by_meaning),
            score,
        )
        for slug, score in fused[:k]
    )
    out = tuple(excluded[slug] for slug in sorted(excluded))
    return Recommendations(
        understood, chosen, recommended, out, len(load_cards()) - len(excluded), query.notes
    )


def _understand(
    problem: Any, conditions: Mapping[str, Any]
) -> tuple[Problem, tuple[Fact, ...], dict[str, str]]:
    """Return the problem in the catalogue's terms, what its figures suggest, and what is measured already."""
    facts: tuple[Fact, ...] = ()
    measured: dict[str, str] = {}
    if isinstance(problem, str):
        understood = Problem(text=problem)
    elif is_profile(problem):
        understood, facts, measured = _from_profile(problem), facts_of(problem), measured_by(problem)
    elif isinstance(problem, Mapping):
        understood = _from_mapping(problem)
    else:
        raise TypeError(f"a problem is text, a dictionary or a profile, got {type(problem).__name__}")
    given = _from_mapping(conditions)
    return (
        replace(understood, **{k: v for k, v in vars(given).items() if v != getattr(Problem(), k)}),
        facts,
        measured,
    )
