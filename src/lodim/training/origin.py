"""What a run is, part by part, so that a checkpoint of another one is refused by saying what differs.

Every part has a name that a user knows and a short text: the value itself of numbers and names, a hash of anything
else. What moves during a run (a model's attributes, what a loss counts) may be as it was when the run began or as the
checkpoint left it; a new process has the first, the same objects used again have the second.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from lodim import __version__
from lodim.identity import code_hash, content_hash
from lodim.training.players import Moving
from lodim.training.recipe import DescentRecipe

__all__ = ["code_parts", "differences", "named", "same_weights", "settings", "told", "weights"]

_HASH = "#"
_SHORT = 40


def told(value: Any, hash_of: Callable[[Any], str] = content_hash) -> str:
    """Return a short plain value as it is written, numbers of all types alike, and a hash of any other."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(int(value) if value == value // 1 and math.isfinite(value) else value)
    if (
        value is None
        or isinstance(value, bool | torch.dtype)
        or (isinstance(value, str) and len(value) < _SHORT)
    ):
        return repr(value)
    return _HASH + hash_of(value)


def settings(recipe: DescentRecipe, seed: int, players: Sequence[Moving], **others: Any) -> dict[str, str]:
    """Tell what was asked for in numbers and names: the recipe's fields, the players' optimisers, and ``others``."""
    parts = {f.name: told(getattr(recipe, f.name), code_hash) for f in dataclasses.fields(recipe)}
    parts |= {"seed": told(seed), **{name: told(value) for name, value in others.items()}}
    for of, player in _numbered(players):
        groups = [
            {k: v for k, v in group.items() if k not in ("params", "lr")}
            for group in player.optimizer.param_groups
        ]
        parts[f"optimizer{of}"] = told((type(player.optimizer), groups), code_hash)
        parts[f"lr{of}"], parts[f"every{of}"] = told(player.lr), told(player.every)
    parts["lodim"], parts["torch"] = told(__version__), told(str(torch.__version__))
    return parts


def code_parts(players: Sequence[Moving], score: Any) -> dict[str, str]:
    """Tell what models, losses and the score do."""
    trained = [module for player in players for module in player.modules]
    frozen_too = partial(code_hash, trained=trained)
    parts = {"score": told(score, frozen_too)}
    for of, player in _numbered(players):
        parts[f"model{of}"] = told(player.modules, code_hash)
        parts[f"mode (training or evaluation) of the model{of}"] = told(
            [part.training for module in player.modules for part in module.modules()]
        )
        parts[f"loss{of}"] = told(player.loss, frozen_too)
    return parts


def named(identity: Any, taken: Mapping[str, str]) -> dict[str, str]:
    """Tell what a user says must agree: of a mapping each entry under its name."""
    if identity is None:
        return {}
    entries = identity if isinstance(identity, Mapping) else {"identity": identity}
    return {f"{name} (identity)" if name in taken else str(name): told(v) for name, v in entries.items()}


def weights(states: Sequence[Mapping[str, Any]]) -> str:
    """Tell the parameters and buffers in states of players."""
    return content_hash([([list(m.items()) for m in s["modules"]], s["loose"]) for s in states])


def same_weights(found: str, began: str, left: Sequence[Any]) -> bool:
    """Whether they are those that the run began with, or one of those that it was left with."""
    return found == began or any(states is not None and found == weights(states) for states in left)


def differences(now: Mapping[str, str], began: Mapping[str, str], left: Mapping[str, str]) -> list[str]:
    """Name the parts that differ, with both values where they are short."""
    names = [
        name
        for name in sorted(now.keys() | began.keys())
        if now.get(name) not in (began.get(name), left.get(name, began.get(name)))
    ]
    # a loss and a score hold whatever they use: where that is named already, they say nothing more
    others = [name for name in names if name.partition(" of player ")[0] not in ("loss", "score")]
    return [_compared(name, began.get(name), now.get(name)) for name in others or names]


def _compared(name: str, before: str | None, now: str | None) -> str:
    if before is None or now is None or _HASH in (before[0], now[0]):
        return name
    return f"{name} ({before} there, {now} here)"


def _numbered(players: Sequence[Moving]) -> list[tuple[str, Moving]]:
    return [(f" of player {i}" if len(players) > 1 else "", player) for i, player in enumerate(players)]
