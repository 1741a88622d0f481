"""What a subspace module saves: v, a description of origin and map, and what lies outside the subspace.

The D weights are left out: ``theta0`` and P come back from their seeds, and the description tells whether they did.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["compact_state", "complete_state", "describe"]


def describe(subspace: Any) -> dict[str, Any]:
    """Describe the origin and the map of a SubspaceModule in plain data."""
    P = subspace.projection
    return {
        "D": subspace.D,
        "d": subspace.d,
        "kind": P.kind,
        "seed": P.seed,
        "scale": P.scale,
        "said": getattr(P, "structure", None),
        "round": P.round,
        "fingerprint": P.fingerprint(),
        "layout_hash": subspace.spec.layout_hash,
        "origin": _probe(subspace.theta0),
    }


def compact_state(subspace: Any, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    """Leave out the weights that theta0 and v determine (a hook of ``state_dict``)."""
    for name in _names_inside(subspace):
        state.pop(f"{prefix}module.{name}", None)
    if subspace.save_theta0:
        state[f"{prefix}theta0"] = subspace.theta0


def complete_state(subspace: Any, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    """Compare the description, take the origin if it was saved, and put the weights back (a hook of loading).

    ValueError, and nothing is loaded, if the state is another subspace's, or its seed regenerates another map
    here.
    """
    saved = state.get(f"{prefix}_extra_state")
    origin = state.pop(f"{prefix}theta0", None)
    if saved is not None:
        _compare(saved, describe(subspace), has_origin=origin is not None)
        if saved["round"] != subspace.projection.round:
            subspace.projection.reseed(saved["round"])
        if saved["fingerprint"] != subspace.projection.fingerprint():
            raise ValueError(
                "the seed regenerates another projection here than the one that was saved; this version of torch "
                "draws other numbers"
            )
    if origin is not None:
        with torch.no_grad():
            subspace.theta0.copy_(origin)
        subspace.save_theta0 = True
        subspace._link()
    parameters = dict(subspace.module.named_parameters(remove_duplicate=False))
    for name in _names_inside(subspace):
        state[f"{prefix}module.{name}"] = parameters[name].detach()


def _names_inside(subspace: Any) -> list[str]:
    """Every name of the subspace's parameters; a tied one has several."""
    module: nn.Module = subspace.module
    own = dict(module.named_parameters())
    inside = {id(own[name]) for name in subspace.spec.names}
    return [name for name, p in module.named_parameters(remove_duplicate=False) if id(p) in inside]


def _compare(saved: dict[str, Any], own: dict[str, Any], *, has_origin: bool) -> None:
    for key in ("D", "d", "kind", "seed", "scale", "layout_hash", "said"):
        if saved.get(key) != own[key]:
            raise ValueError(
                f"the saved subspace has {key}={saved.get(key)!r}, this one {own[key]!r}; build it with the same "
                "module, d, projection, seed, scale and said"
            )
    if not has_origin and not math.isclose(saved["origin"], own["origin"], rel_tol=1e-5, abs_tol=1e-6):
        raise ValueError(
            "the saved subspace started from another origin theta0 than this module has; initialise the module with "
            "the same seed, or save with save_theta0=True"
        )


def _probe(theta: Tensor) -> float:
    """One number that tells two origins apart: a sum with fixed, uneven coefficients."""
    uneven = torch.arange(1, theta.numel() + 1, dtype=torch.float64).mul_(0.7548776662466927).frac_()
    return float(theta.detach().cpu().double() @ (uneven - 0.5))
