"""The maps of subspaces: drawn by kind, one for each tensor, or a given basis; and which weights they may move.

A subspace module saves v, a description of origin and map, and what lies outside the subspace, but not the D weights:
``theta0`` and P come back from their seeds, and the description tells whether they did.
"""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lodim.landscape.objective_landscapes.structure import Grouping, StructureAware, group_tensors
from lodim.nets import FlatSpec
from lodim.randomness import derive_seed, torch_generator
from lodim.sketch import KINDS, RandomProjection, make_projection
from lodim.validation import check_choice

__all__ = [
    "Basis",
    "PerTensor",
    "build_projection",
    "compact_state",
    "complete_state",
    "describe",
    "describe_projection",
    "direct_names",
    "direct_size",
    "fixed_numbers",
    "kept_outside",
    "rate_factor",
    "refuse_quantised",
    "refuse_shared",
    "structured_projection",
    "to_array",
    "trajectory_basis",
]


class Basis(nn.Module):
    """The linear map of a given matrix, kept in the state.

    Unit columns are expected where the learning rate is scaled as for ``scale="column"``.
    """

    kind, scale, seed, round = "basis", "column", 0, 0
    columns: Tensor

    def __init__(self, matrix: Float[Tensor, "D d"], *, persistent: bool = True) -> None:
        super().__init__()
        self.D, self.d = matrix.shape
        self.register_buffer("columns", matrix.detach().clone(), persistent=persistent)

    def forward(self, v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch D"]:
        """Return ``P v``."""
        return v @ self.columns.T

    def adjoint(self, g: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch d"]:
        """Return ``P^T g``."""
        return g @ self.columns

    def fingerprint(self) -> str:
        """A constant: the matrix itself is in the state."""
        return self.kind


class PerTensor(nn.Module):
    """One independent map of unit columns for each tensor, all fed the same d numbers.

    A tensor with fewer than d numbers gets a Gaussian map.
    """

    def __init__(
        self,
        kind: str,
        sizes: Sequence[int],
        d: int,
        *,
        seed: int,
        scale: str,
        dtype: torch.dtype,
        device: Any = None,
    ) -> None:
        super().__init__()
        self.kind, self.scale, self.d, self.D, self.seed = f"per_tensor:{kind}", scale, d, sum(sizes), seed
        self.round = 0
        self.factor = 1.0 if scale == "column" else (self.D / d) ** 0.5
        maps: list[Any] = []
        for index, size in enumerate(sizes):
            part = derive_seed(seed, "tensor", index)
            if size >= d:
                maps.append(make_projection(kind, size, d, seed=part, dtype=dtype, device=device))
            else:
                drawn = torch.randn(size, d, dtype=torch.float64, generator=torch_generator(part))
                maps.append(
                    Basis((drawn / drawn.norm(dim=0)).to(device=device, dtype=dtype), persistent=False)
                )
        self.maps: Any = nn.ModuleList(maps)

    def forward(self, v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch D"]:
        """Return the concatenation of every ``P_i v``."""
        return torch.cat([P(v) for P in self.maps], dim=-1) * self.factor

    def adjoint(self, g: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch d"]:
        """Return the sum of every ``P_i^T g_i``."""
        parts = g.split([P.D for P in self.maps], dim=-1)
        return torch.stack([P.adjoint(part) for P, part in zip(self.maps, parts)]).sum(0) * self.factor

    def fingerprint(self) -> str:
        """A hash of the drawn numbers."""
        text = "".join(P.fingerprint() for P in self.maps)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def build_projection(
    projection: Any, spec: FlatSpec, d: int, seed: int, scale: str, per_tensor: bool, theta0: Tensor
) -> Any:
    """Make the map of a subspace from its kind, or check a given one; see :class:`~lodim.landscape.SubspaceModule`.

    ``theta0`` gives device and precision.
    """
    options: dict[str, Any] = {"seed": seed, "scale": scale, "device": theta0.device}
    options["dtype"] = torch.float64 if theta0.dtype == torch.float64 else torch.float32
    if not isinstance(projection, str):
        if per_tensor:
            raise ValueError("per_tensor=True needs a projection given by its kind")
        if (projection.D, projection.d) != (spec.numel, d):
            raise ValueError(
                f"the projection maps {projection.d} to {projection.D} numbers, wanted are d={d} and D={spec.numel}"
            )
        return projection.to(theta0.device)
    check_choice(projection, KINDS, "projection")
    if not 1 <= d <= spec.numel:
        raise ValueError(
            f"the subspace needs 1 <= d <= D, got d={d}; the module has D={spec.numel} parameters"
        )
    if per_tensor:
        return PerTensor(projection, spec.sizes, d, **options)
    return make_projection(projection, spec.numel, d, **options)


def describe_projection(P: nn.Module) -> dict[str, Any]:
    """Return what :func:`lodim.sketch.make_projection` needs to draw the same map again; ValueError for a given one."""
    if not isinstance(P, RandomProjection) or P.kind not in KINDS:
        raise ValueError(
            "a TaskVector keeps the factors of structure-aware directions (said=), nothing else here does"
            if isinstance(P, StructureAware)
            else f"only projections of lodim.sketch are made again from their seed, not a {type(P).__name__}: build "
            "the subspace with projection= one of their kinds, without per_tensor or a given basis"
        )
    common = set(inspect.signature(RandomProjection.__init__).parameters)
    own = [
        name for name in inspect.signature(type(P).__init__).parameters if name not in common | {"options"}
    ]
    return {
        "kind": P.kind,
        "seed": P.seed,
        "scale": P.scale,
        "dtype": str(P.dtype).removeprefix("torch."),
        "round": P.round,
        **{name: getattr(P, name) for name in own},
    }


def trajectory_basis(points: Float[Tensor, "t D"], d: int) -> Basis:
    """Return the leading directions of a trajectory, seen from its first point, as a basis with orthonormal columns."""
    moves = (points[1:] - points[:1]).double()
    _, sizes, directions = torch.linalg.svd(moves, full_matrices=False)
    cutoff = float(sizes[:1].sum()) * max(moves.shape) * torch.finfo(points.dtype).eps
    rank = int((sizes > cutoff).sum())
    if not 1 <= d <= rank:
        raise ValueError(
            f"the trajectory of {len(points)} checkpoints has {rank} independent directions, d={d} were asked for; "
            "record more checkpoints"
        )
    return Basis(directions[:d].T.to(points.dtype))


def structured_projection(said: Grouping, said_lr: float, spec: FlatSpec, d: int, build: Any) -> Any:
    """Make the map of d trained numbers, some of which scale groups of tensors.

    ``build(n)`` makes a map of n directions.
    """
    if said is None or said is False:
        return build(d)
    m = len(set(group_tensors(said, spec.names)))
    if d <= m:
        raise ValueError(
            f"structure-aware directions need d > m: m={m} of the d numbers scale the {m} groups of tensors, and d={d} "
            "leaves none for the directions; give a larger d, or coarser groups (said='layer')"
        )
    return StructureAware(build(d - m), spec, said, said_lr)


def direct_names(module: nn.Module, wanted: Sequence[str]) -> set[str]:
    """Return the parameters that names of parameters or modules stand for; ValueError if one matches nothing.

    A tied parameter may be meant by any of its names, and is returned by the one of ``named_parameters``.
    """
    if isinstance(wanted, str):
        wanted = [wanted]
    own = {id(p): name for name, p in module.named_parameters()}
    aliases = {name: own[id(p)] for name, p in module.named_parameters(remove_duplicate=False)}
    found = set()
    for want in wanted:
        matches = {own for name, own in aliases.items() if name == want or name.startswith(want + ".")}
        if not matches:
            raise ValueError(
                f"train_directly names {want!r}, but the module has no such parameter or module: {list(aliases)}"
            )
        found |= matches
    return found


def direct_size(module: nn.Module, wanted: Sequence[str]) -> int:
    """Return how many numbers the parameters hold that ``wanted`` stands for."""
    names = direct_names(module, wanted)
    return sum(p.numel() for name, p in module.named_parameters() if name in names)


def fixed_numbers(
    module: nn.Module, spec: FlatSpec, direct: Sequence[str], said: Grouping
) -> tuple[int, int]:
    """Return how many numbers are trained directly, and how many with the factors of ``said`` are no directions."""
    outside = direct_names(module, direct)
    inside = [name for name in spec.names if name not in outside]
    size = direct_size(module, direct)
    return size, size + (len(set(group_tensors(said, inside))) if said else 0)


def rate_factor(scale: str, n_weights: int, n_directions: int) -> float:
    """Return what a direct learning rate is multiplied with: ``sqrt(D/d)`` for unit columns, else 1."""
    return math.sqrt(n_weights / n_directions) if scale == "column" else 1.0


def kept_outside(module: nn.Module) -> dict[str, Tensor]:
    """Return what training a subspace's network changes besides v: its buffers, and directly trained parameters."""
    return dict(module.named_buffers()) | {n: p for n, p in module.named_parameters() if p.requires_grad}


def to_array(tensor: Tensor) -> np.ndarray:
    """Return a copy as an array; bfloat16, which NumPy lacks, in single precision, which holds it exactly."""
    plain = tensor.detach().float() if tensor.dtype == torch.bfloat16 else tensor.detach()
    return plain.cpu().numpy().copy()


def refuse_shared(module: nn.Module, other: nn.Module) -> None:
    """Raise ValueError if two modules that should have been made one after the other have a parameter in common."""
    if {id(p) for p in module.parameters()} & {id(p) for p in other.parameters()}:
        raise ValueError(
            "the function that makes the model returned the same weights again: what trains one run would train the "
            "next one too. It must make a new module at each call, for a given one: lambda: copy.deepcopy(module)"
        )


def refuse_quantised(module: nn.Module) -> None:
    """Raise TypeError if weights of the module are small integers, which cannot be moved by real numbers."""
    for name, parameter in module.named_parameters():
        kind = type(parameter)
        packed = kind.__module__.startswith("torchao")
        if packed or parameter.is_quantized or not (parameter.is_floating_point() or parameter.is_complex()):
            what = kind.__name__ if packed else str(parameter.dtype)
            raise TypeError(_QUANTISED.format(f"parameter {name!r} is {what}"))
    for name, layer in module.named_modules():
        if type(layer).__module__.startswith("torch.ao.nn.quantized"):
            raise TypeError(_QUANTISED.format(f"layer {name!r} is a quantised {type(layer).__name__}"))


_QUANTISED = (
    "{}: quantised weights cannot be moved by small real steps; dequantise the model first, or put adapters on it and "
    "choose those with params="
)


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
            "the same seed and in the same precision, or save with save_theta0=True"
        )


def _probe(theta: Tensor) -> float:
    """One number that tells two origins apart: a sum with fixed, uneven coefficients."""
    uneven = torch.arange(1, theta.numel() + 1, dtype=torch.float64).mul_(0.7548776662466927).frac_()
    return float(theta.detach().cpu().double() @ (uneven - 0.5))
