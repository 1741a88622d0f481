r"""Training any module inside a random subspace of its weights.

**Problem.** How many numbers must training be free to choose? Let a module have D weights, initialised at
:math:`\theta_0`. Draw a fixed linear map P from d to D numbers and train only v:

.. math:: \theta = \theta_0 + P v, \qquad \partial L / \partial v = P^\top \, \partial L / \partial \theta, \qquad v = 0
   \text{ at the start.}

If the solutions form a set of dimension s, a random d-plane through :math:`\theta_0` meets it once :math:`d \ge D - s`.

==============================  =======================================================
Symbol                          Here
==============================  =======================================================
:math:`\theta_0`                ``SubspaceModule.theta0``
:math:`P`                       ``SubspaceModule.projection`` (see :mod:`lodim.sketch`)
:math:`v`, :math:`\theta^{(d)}` ``SubspaceModule.theta_d``
:math:`D, d`                    ``SubspaceModule.D``, ``SubspaceModule.d``
:math:`\sqrt{D/d}`              ``SubspaceModule.lr_factor``
==============================  =======================================================

One map covers all parameters together, so a unit step of v moves the weights by one unit in all. With unit columns the
gradient of v is shorter than that of the weights by about :math:`\sqrt{d/D}`, and v has to travel as far as the weights
would: learning rates must grow by :math:`\sqrt{D/d}`, which :meth:`SubspaceModule.param_groups` does.

Beyond the paper: an origin after some direct steps (train the module first, then wrap it with ``save_theta0=True``)
and a basis from a recorded training run, both of B. Larsen and others, How many degrees of freedom do we need to train
deep networks, arXiv 2107.05802; subspaces redrawn on the way.

References
----------
C. Li, H. Farkhoor, R. Liu, J. Yosinski, Measuring the intrinsic dimension of objective landscapes, arXiv 1804.08838.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from lodim.landscape.objective_landscapes import bases
from lodim.landscape.objective_landscapes.bases import compact_state, complete_state, describe
from lodim.landscape.objective_landscapes.structure import (
    Grouping,
    Recompute,
    StructureAware,
    produce,
    without_autocast,
)
from lodim.nets.flat import FlatSpec, ParameterFilter, flat_spec
from lodim.nets.kinds import WeightOwner
from lodim.validation import check_choice, checked

__all__ = ["Subspace", "SubspaceModule"]


@checked
class SubspaceModule(nn.Module):
    """A module whose weights are ``theta0 + P v``, of which only v is trained.

    The wrapped module's parameters are frozen and become views of ``theta0``; its buffers (running statistics) stay
    its own and keep updating, outside the subspace.

    Parameters
    ----------
    module : nn.Module
        Initialised as usual (all-zero weights would keep hidden units alike), or pre-trained.
    d : int
        Trained numbers, ``1 <= d <= D``.
    projection : str or RandomProjection
        A kind of :func:`lodim.sketch.make_projection`, or a map of your own with its ``D`` and ``d``.
    seed : int
        Of the projection.
    scale : {"column", "row", "isotropic"}
        Of a projection given by its kind, see :mod:`lodim.sketch`.
    params : callable, optional
        ``params(name, tensor) -> bool`` chooses the parameters of the subspace, by default all that require a
        gradient. The others are frozen.
    penalty : {"theta", "v"}
        What :meth:`l2_penalty` measures by default: the produced weights (the paper's choice) or v.
    train_directly : sequence of str
        Parameters, or modules whose parameters are trained as they are, outside the subspace: a new head.
    per_tensor : bool
        One map of unit columns for each tensor, all fed the same v, as some programs have it. For comparison only:
        the columns of the whole then have length ``sqrt(n_tensors)``.
    said : {"tensor", "layer"} or callable, optional
        Structure-aware directions: m of the d numbers become factors of v's effect, one for each parameter tensor, each
        layer (block), or each value of ``said(name)``. See :mod:`lodim.landscape.objective_landscapes.structure`.
    said_lr : float
        Rate of these factors as a share of v's, exact for Adam and its relatives.
    save_theta0 : bool
        Whether :meth:`state_dict` holds the D numbers of the origin too. Without, the state is d numbers and a
        description, and loading expects a module built with the same origin.

    Attributes
    ----------
    theta_d : Parameter, shape (d,)
        v, zero at first.
    theta0 : Tensor, shape (D,)
        The origin.
    spec : FlatSpec
        Where each parameter lies in the D numbers.

    Raises
    ------
    ValueError
        ``d < 1``, ``d > D``, ``d <= m`` with ``said``, no trainable parameter, an unknown kind, a lazy parameter, a
        name in ``train_directly`` that matches nothing.
    TypeError
        A complex parameter, or quantised weights.
    MemoryError
        A dense kind that would not fit.

    Notes
    -----
    Under autocast the projection is computed in full precision. Under ``DistributedDataParallel`` every rank draws the
    same P from the seed; pass ``broadcast_buffers=False`` unless the module has running statistics, or the origin is
    sent at every step.

    Examples
    --------
    >>> from torch import nn, ones
    >>> net = SubspaceModule(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), d=5)
    >>> net.D, net.n_trainable, net.redundancy
    (58, 5, 53)
    >>> net(ones(3, 4)).shape
    torch.Size([3, 2])
    """

    weight_owner: ClassVar[WeightOwner] = WeightOwner(
        method="a subspace",
        state="produces its weights from coordinates in a subspace",
        release="take the plain module that its materialize() returns",
    )
    theta0: Tensor

    def __init__(
        self,
        module: nn.Module,
        d: int,
        *,
        projection: str | nn.Module = "cyclic",
        seed: int = 0,
        scale: str = "column",
        params: ParameterFilter | None = None,
        penalty: str = "theta",
        train_directly: Sequence[str] = (),
        per_tensor: bool = False,
        said: Grouping = None,
        said_lr: float | int = 1.0,
        save_theta0: bool = False,
    ) -> None:
        super().__init__()
        self.penalty = check_choice(penalty, ("theta", "v"), "penalty")
        if params is None:
            bases.refuse_quantised(module)
        direct = bases.direct_names(module, train_directly)
        choose = params or (lambda name, tensor: tensor.requires_grad)
        self.spec: FlatSpec = flat_spec(module, lambda name, p: name not in direct and choose(name, p))
        theta0 = self.spec.flatten(module)
        self.projection = bases.structured_projection(
            said,
            float(said_lr),
            self.spec,
            int(d),
            lambda n: bases.build_projection(projection, self.spec, n, int(seed), scale, per_tensor, theta0),
        )
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name in direct)
        self.module = module
        self.save_theta0 = save_theta0
        self.register_buffer("theta0", theta0, persistent=False)
        precision = torch.promote_types(theta0.dtype, torch.float32)
        self.theta_d = nn.Parameter(torch.zeros(self.projection.d, dtype=precision, device=theta0.device))
        self.recompute = Recompute(module)
        self._link()
        self.register_state_dict_post_hook(compact_state)
        self.register_load_state_dict_pre_hook(complete_state)

    @property
    def D(self) -> int:
        """Number of weights produced."""
        return self.spec.numel

    @property
    def d(self) -> int:
        """Dimension of the subspace."""
        return self.theta_d.numel()

    @property
    def n_trainable(self) -> int:
        """Numbers that training changes: d, and those of directly trained parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    @property
    def n_buffers(self) -> int:
        """Numbers in the wrapped module's buffers, outside the subspace."""
        return sum(b.numel() for b in self.module.buffers())

    @property
    def redundancy(self) -> int:
        """D - d, the directions that training cannot take."""
        return self.D - self.d

    @property
    def lr_factor(self) -> float:
        """What a direct learning rate is multiplied with: ``sqrt(D/d)`` for unit columns (d of v alone), else 1."""
        return bases.rate_factor(self.projection.scale, self.D, self.d - len(self.layer_scales_))

    @property
    def layer_scales_(self) -> dict[str, float]:
        """The factor lambda of each group of tensors; empty without ``said``."""
        return self.projection.scales(self.theta_d) if isinstance(self.projection, StructureAware) else {}

    def param_groups(self, lr: float) -> list[dict[str, Any]]:
        """Return an optimiser's parameter groups; ``lr`` suits direct training, and is scaled to the subspace for v."""
        groups: list[dict[str, Any]] = [{"params": [self.theta_d], "lr": lr * self.lr_factor}]
        direct = [p for p in self.module.parameters() if p.requires_grad]
        return [*groups, {"params": direct, "lr": lr}] if direct else groups

    def theta(self) -> Float[Tensor, " D"]:
        """Return the produced weights ``theta0 + P v``, differentiable in v."""
        with without_autocast(self.theta_d.device.type):
            return (self.theta0 + self.projection(self.theta_d)).to(self.theta0.dtype)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the wrapped module at the produced weights."""
        with without_autocast(self.theta_d.device.type):
            weights = produce(self.projection, self.theta_d, self.theta0, self.spec)
        self.recompute.weights = weights
        try:
            return functional_call(
                self.module, self.spec.everywhere(weights), args, kwargs, tie_weights=False
            )
        finally:
            self.recompute.weights = None

    def l2_penalty(self, on: str | None = None) -> Float[Tensor, ""]:
        """Return the squared Euclidean norm of what the penalty acts on.

        Parameters
        ----------
        on : {"theta", "v"}, optional
            The produced weights or v; by default the ``penalty`` given at construction. Directly trained
            parameters are part of both.
        """
        penalised = check_choice(on or self.penalty, ("theta", "v"), "on")
        total = (self.theta() if penalised == "theta" else self.theta_d).square().sum()
        for parameter in self.module.parameters():
            if parameter.requires_grad:
                total = total + parameter.square().sum()
        return total

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: Mapping[str, Any] | None = None
    ) -> None:
        """Recompute activations in the backward pass, in a wrapped module of the transformers library.

        Elsewhere: ``torch.utils.checkpoint.checkpoint(f, x, use_reentrant=False, context_fn=subspace.recompute)``.
        """
        self.recompute.enable(gradient_checkpointing_kwargs)

    def materialize(self) -> nn.Module:
        """Return a plain copy of the wrapped module with the produced weights written into it."""
        module = copy.deepcopy(self.module)
        self.spec.assign(module, self.theta().detach())
        inside = set(self.spec.names)
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(parameter.requires_grad or name in inside)
        return module

    def subspace(self) -> Subspace:
        """Return the functional form for methods without gradients; it shares the origin and the map."""
        return Subspace(self.theta0, self.projection, self.module, self.spec)

    @torch.no_grad()
    def move_origin(self, re_init: bool = True, seed: int | None = None) -> SubspaceModule:
        """Make the weights reached the new origin, and set v to zero.

        Training in one subspace after another leaves every single one of them; start a fresh optimiser, since its
        averages belong to the former directions. The origin is part of the state from now on.

        Parameters
        ----------
        re_init : bool
            Whether to draw new directions.
        seed : int, optional
            Of the new directions; by default the next round of the same seed.

        Raises
        ------
        ValueError
            ``re_init`` for a map that cannot be drawn anew: a given one, or one of ``per_tensor``. Nothing moves then.
        """
        P = self.projection
        drawn = P.projection if isinstance(P, StructureAware) else P
        if re_init and not hasattr(drawn, "reseed"):  # before anything has moved
            raise ValueError(f"a {type(drawn).__name__} cannot be drawn anew; use re_init=False")
        self.theta0.copy_(self.theta())
        self.theta_d.zero_()
        self.save_theta0 = True
        if re_init:
            if seed is not None:
                P.seed = int(seed)
            P.reseed(0 if seed is not None else P.round + 1)
        return self

    @classmethod
    def from_trajectory(
        cls, module: nn.Module, checkpoints: Sequence[Tensor | dict[str, Tensor]], d: int, **options: Any
    ) -> SubspaceModule:
        """Make the subspace of the leading directions of a recorded training run (arXiv 2107.05802, Section 4).

        The origin is the first checkpoint; the directions are the first right singular vectors of the other
        checkpoints' differences from it. They have seen the data: what they reach is a lower limit of d, not a
        measure of the problem.

        Parameters
        ----------
        checkpoints : sequence
            Flat vectors (shape (D,), see :meth:`lodim.nets.FlatSpec.flatten`) or state dicts, the first one before
            training.
        d : int
            At most the number of checkpoints after the first.
        **options
            Of :class:`SubspaceModule`.

        Raises
        ------
        ValueError
            Fewer independent directions than d.
        """
        spec = flat_spec(module, options.get("params"))
        points = [
            torch.cat([c[name].reshape(-1) for name in spec.names]) if isinstance(c, dict) else c
            for c in checkpoints
        ]
        basis = bases.trajectory_basis(torch.stack(points), int(d))
        spec.assign(module, points[0])
        return cls(module, d, projection=basis, **{"save_theta0": True, **options})

    def extra_repr(self) -> str:
        """Sizes."""
        return f"D={self.D}, d={self.d}, n_trainable={self.n_trainable}, n_buffers={self.n_buffers}"

    def get_extra_state(self) -> dict[str, Any]:
        """Describe the origin and the map: what :meth:`load_state_dict` compares."""
        return describe(self)

    def set_extra_state(self, state: Any) -> None:
        """Accept a description; it was compared before anything was loaded."""
        return None

    def _link(self) -> None:
        """Let the frozen parameters be views of theta0, so that the D numbers are kept once."""
        parameters = dict(self.module.named_parameters())
        for name, view in self.spec.unflatten(self.theta0).items():
            parameters[name].data = view

    def __getstate__(self) -> dict[str, Any]:
        """The D numbers once: parameters inside the subspace are views of theta0, each of which would take it along."""
        inside = [p for name, p in self.module.named_parameters() if name in set(self.spec.names)]
        empty = {id(p): nn.Parameter(p.data.new_empty(0), requires_grad=False) for p in inside}
        state = super().__getstate__() | {"recompute": None}
        state["_modules"] = state["_modules"] | {"module": copy.deepcopy(self.module, empty)}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.recompute = Recompute(self.module)
        self._link()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SubspaceModule:
        super()._apply(fn, recurse)
        self._link()
        return self


@dataclass(frozen=True, eq=False)
class Subspace:
    """The map v -> theta0 + P v by itself, for methods that only evaluate (evolution strategies, sampling).

    Parameters
    ----------
    theta0 : Tensor, shape (D,)
    projection : RandomProjection
    module : nn.Module, optional
        Needed by :meth:`to_module`.
    spec : FlatSpec, optional
        Layout of ``theta0``; by default that of the module's trainable parameters.
    """

    theta0: Tensor
    projection: Any
    module: nn.Module | None = None
    spec: FlatSpec | None = None

    @property
    def d(self) -> int:
        """Dimension of the subspace."""
        return int(self.projection.d)

    @torch.no_grad()
    def vector(self, v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch D"]:
        """Return the weights at v."""
        return self.theta0 + self.projection(v.to(self.theta0))

    def to_module(self, v: Float[Tensor, " d"]) -> nn.Module:
        """Return a copy of the module, if one was given, with the weights at v."""
        if self.module is None:
            raise ValueError("to_module needs the network: Subspace(theta0, projection, module)")
        module = copy.deepcopy(self.module)
        (self.spec or flat_spec(self.module)).assign(module, self.vector(v))
        return module
