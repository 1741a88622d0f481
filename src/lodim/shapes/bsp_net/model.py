r"""Planes, convexes, union: :class:`BSPNet`, and the five losses it is trained by, one phase after another.

A plane (n, d) has the value :math:`n \cdot x + d`, at most 0 in its half-space. With P the p planes of a shape,

.. math::

    h^1 = \max([x, 1] P, 0), \qquad h^2 = h^1 T, \qquad
    S^+ = \mathrm{clamp}\Big(\sum_j W_j\, \mathrm{clamp}(1 - h^2_j, 0, 1), 0, 1\Big), \qquad S^* = \min_j h^2_j.

:math:`h^2_j` is 0 inside convex j and grows outside; T, which planes bound which convex, is shared by all shapes and
binary in the end. :math:`S^+` is 1 inside, :math:`S^*` is 0 inside. With F the occupancy, 0 or 1, means over points:

- phase 0: :math:`\mathrm{mean}\,(S^+ - F)^2 + \sum |W - 1| + \sum \max(T - 1, 0) - \sum \min(T, 0)`;
- phase 1: T is taken as 1[T > 0.01], without a gradient, and the loss is
  :math:`\mathrm{mean}[(1 - F)(1 - \min(S^*, 1)) + F\, S^*]`;
- phase 2: phase 1 less :math:`\mathrm{mean}_{x, j}(h^2_j F B)`, where B marks the convexes that contain a point
  together with another;
- phase 3: the loss of phase 1 with T as it is, and :math:`\sum |T|` over T < 0.01, :math:`\sum |T - 1|` over the rest;
- phase 4: phases 3 and 2 together.

**Where the loss puts the boundary.** Let a plane of slope a stand a distance :math:`\beta` inside the true boundary.
Of phase 1 the loss along the normal is :math:`a \beta^2 / 2 + (1 - a \beta)^2 / (2 a)`, least at
:math:`\beta = 1 / (2 a)`: it is the level 1/2 of :math:`S^*` that goes to the boundary, and the convexes, its zero set,
come out too small on every side, by as much as the ramp is long. So does phase 0. ``shift=0.5`` lets the losses see
:math:`n \cdot x + d + 1/2` in place of each value: the ramp then lies half on either side, and the planes themselves on
the boundary. ``shift=0`` is the paper's. The same computation says that points must be as dense on one side of the
boundary as on the other: more of them inside move it outwards.

===================  ===============================================
symbol in the paper  name here
===================  ===============================================
P                    ``planes``, shape (batch, dim + 1, p)
T, W                 ``T``, ``W``
p, c                 ``n_planes``, ``n_convexes``
:math:`S^+, S^*`     the first of what ``forward`` returns, by phase
F                    ``occupancy``
===================  ===============================================

Source: Z. Chen, A. Tagliasacchi, H. Zhang, 2019, arXiv 1911.06971, section 3 and the authors' losses of later phases.
Departures: ``shift``; ``connections="private"``, where T is fixed and every convex has p / c planes of its own; a
convex without planes, which would be the whole of space, is nowhere from phase 1 on.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lodim.nets.dense import he_normal
from lodim.randomness import RandomState, build_seeded, root_seed
from lodim.shapes.bsp_net.convexes import Convexes, extract
from lodim.shapes.meshes import save_mesh
from lodim.training import DescentResult
from lodim.validation import check_choice, check_counts, check_in_range, check_tensor, checked, warn

__all__ = ["BSPNet", "VoxelEncoder"]

CONNECTED = 0.01
FAR = 1e4
PHASES = (0, 1, 2, 3, 4)
KINDS = ("union", "soup", "polygons")


class VoxelEncoder(nn.Module):
    """Voxels (batch, r, ..., r) to codes in (0, 1): convolutions of stride 2 down to a side of 4, then one more."""

    def __init__(self, dim: int, resolution: int, width: int, code_dim: int) -> None:
        super().__init__()
        check_counts(width=width, code_dim=code_dim)
        check_in_range(resolution, "resolution", low=8, integer=True)
        resolution, width, code_dim = int(resolution), int(width), int(code_dim)
        if resolution & (resolution - 1):
            raise ValueError(f"resolution must be a power of two, got {resolution}")
        self.shape = (resolution,) * dim
        Conv: Any = nn.Conv3d if dim == 3 else nn.Conv2d
        layers: list[nn.Module] = []
        before, side = 1, resolution
        while side > 4:
            layers += [Conv(before, width, 4, 2, 1), nn.LeakyReLU(0.02)]
            before, width, side = width, 2 * width, side // 2
        self.net = nn.Sequential(*layers, Conv(before, code_dim, 4), nn.Flatten(), nn.Sigmoid())
        he_normal(self.net)

    def forward(self, voxels: Tensor) -> Tensor:
        """Return the codes."""
        if voxels.shape[1:] != self.shape:
            raise ValueError(
                f"voxels must have shape (batch, {str(self.shape)[1:]}, got {tuple(voxels.shape)}"
            )
        return self.net(voxels[:, None].to(next(self.parameters())))


@checked
class BSPNet(nn.Module):
    """A network whose shapes are unions of convexes, each an intersection of half-spaces.

    Parameters
    ----------
    n_planes, n_convexes : int
    dim : {2, 3}
    code_dim : int
        Length of the code of a shape.
    encoder : {"voxel"} or None
        None: there is no code, and the planes of a shape are given, or fitted by :func:`~lodim.shapes.fit_shape`.
    phase : int
        Which of the five losses, 0 to 4; see :meth:`set_phase`.
    shift : float
        Added to the values of planes in the losses: 0 as in the paper, 0.5 puts the planes on the boundary; see the
        module.
    connections : {"learned", "private"}
        Whether T is trained, or every convex has n_planes / n_convexes planes of its own, in order.
    resolution : int
        Side of the encoder's voxels, a power of two, 8 or more.
    width : int
        Channels of the encoder's first layer; every further one has twice as many.
    hidden : sequence of int
        Widths of the decoder from codes to planes.
    random_state : int, Generator or None
        Of all weights.

    Attributes
    ----------
    phase, shift : int, float
    training_ : DescentResult or None
        Of the last training.

    Raises
    ------
    ValueError
        Numbers out of range; private planes that cannot be shared out equally.

    Examples
    --------
    >>> from lodim.shapes import fit_shape
    >>> plate = lambda x: (abs(x[:, 0]) < 0.3) & (abs(x[:, 1]) < 0.2)
    >>> net, planes = fit_shape(plate, n_planes=8, n_convexes=1, dim=2, steps=500, random_state=0)
    >>> abs(net.extract(planes).polytopes[0].volume - 0.24) < 0.01
    True
    """

    T: Tensor
    encoder: VoxelEncoder | None
    decoder: nn.Sequential

    def __init__(
        self,
        n_planes: int = 1024,
        n_convexes: int = 64,
        dim: int = 3,
        code_dim: int = 256,
        encoder: str | None = "voxel",
        phase: int = 0,
        *,
        shift: float | int = 0.0,
        connections: str = "learned",
        resolution: int = 64,
        width: int = 32,
        hidden: Sequence[int] = (512, 1024, 2048),
        random_state: RandomState = None,
    ) -> None:
        super().__init__()
        check_counts(n_planes=n_planes, n_convexes=n_convexes)
        check_choice(dim, (2, 3), "dim")
        check_choice(encoder, ("voxel", None), "encoder")
        check_choice(connections, ("learned", "private"), "connections")
        if connections == "private" and n_planes % n_convexes:
            raise ValueError(
                f"private planes must be shared out equally: n_planes={n_planes} is no multiple of "
                f"n_convexes={n_convexes}"
            )
        self.n_planes, self.n_convexes, self.dim = int(n_planes), int(n_convexes), int(dim)
        self.shift = float(check_in_range(shift, "shift", low=0.0, high=1.0))
        self.connections = connections
        self.training_: DescentResult | None = None
        self.set_phase(phase)

        def build() -> None:
            if connections == "learned":
                self.T = nn.Parameter(0.02 * torch.randn(self.n_planes, self.n_convexes))
            self.W = nn.Parameter(0.02 * torch.randn(self.n_convexes))
            self.encoder = None
            if encoder is None:
                return
            self.encoder = VoxelEncoder(self.dim, resolution, width, code_dim)
            layers: list[nn.Module] = []
            for a, b in pairwise((code_dim, *hidden, (self.dim + 1) * self.n_planes)):
                check_in_range(b, "hidden", low=1, integer=True)
                layers += [nn.Linear(a, b), nn.LeakyReLU(0.01)]
            self.decoder = nn.Sequential(*layers[:-1])
            he_normal(self.decoder)

        build_seeded(build, root_seed(random_state))
        if connections == "private":
            own = torch.eye(self.n_convexes).repeat_interleave(self.n_planes // self.n_convexes, 0)
            self.register_buffer("T", own)

    @property
    def phase(self) -> int:
        """Which loss is trained by; a part of the state."""
        return self._phase

    def set_phase(self, phase: int) -> BSPNet:
        """Go to another phase, 0 to 4, and return the model; anything else is a ValueError."""
        self._phase = int(check_choice(phase, PHASES, "phase"))
        return self

    def get_extra_state(self) -> Tensor:
        """Return the phase for the ``state_dict``; a buffer on a GPU would be waited for in every step."""
        return torch.tensor(self._phase)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the phase from a ``state_dict``."""
        self.set_phase(int(state))

    def codes(self, voxels: Tensor) -> Float[Tensor, "batch code"]:
        """Return the codes of voxels, shape (batch, r, ..., r)."""
        if self.encoder is None:
            raise ValueError("this model has no encoder; build it with encoder='voxel', or give planes")
        return self.encoder(check_tensor(voxels, "voxels"))

    def planes(self, x: Tensor) -> Float[Tensor, "batch dim1 p"]:
        """Return the planes of shapes given as voxels (batch, r, ..., r) or as codes (batch, code_dim)."""
        coded = check_tensor(x, "x").ndim == 2 and self.encoder is not None
        if coded and x.shape[1] != self.decoder[0].in_features:
            raise ValueError(
                f"codes must have shape (batch, {self.decoder[0].in_features}), got {tuple(x.shape)}; "
                "voxels have an axis more"
            )
        codes = x if coded else self.codes(x)
        return self.decoder(codes).unflatten(1, (self.dim + 1, self.n_planes))

    def connected(self) -> Float[Tensor, "p c"]:
        """Return T as shapes are made with it: cut at 0.01 in all phases but 0."""
        if self.connections == "private" or self.phase == 0:
            return self.T
        return (self.T > CONNECTED).to(self.T.dtype)

    def forward(self, points: Tensor, planes: Tensor) -> tuple[Tensor, Tensor]:
        """Return S, shape (batch, n), and h2, shape (batch, n, c), at points (batch, n, dim) or, for all, (n, dim).

        In phase 0 S is 1 inside; in the others 0 inside, and in no other place: T is binary here, also in phases 3 and
        4.
        """
        planes = self._check_planes(planes)
        h2 = self._convex_values(self._check_points(points, planes), planes, 0.0, self.connected())
        return self._union(h2), h2

    def _convex_values(self, points: Tensor, planes: Tensor, shift: float, T: Tensor) -> Tensor:
        h1 = torch.relu(points @ planes[:, :-1] + (planes[:, -1:] + shift))
        if self.connections == "private":
            return h1.unflatten(-1, (self.n_convexes, -1)).sum(-1)
        h2 = h1 @ T
        if self.phase == 0:
            return h2
        # without planes a convex would be the whole of space: it is nowhere instead
        return h2 + FAR * (self.T <= CONNECTED).all(0)

    def _union(self, h2: Tensor) -> Tensor:
        if self.phase == 0:
            return ((1 - h2).clamp(0, 1) @ self.W).clamp(0, 1)
        return h2.amin(-1)

    def loss(self, shapes: Tensor, points: Tensor, occupancy: Tensor) -> Float[Tensor, ""]:
        """Return the loss of the present phase.

        Parameters
        ----------
        shapes : Tensor
            Planes, shape (batch, dim + 1, p), or voxels, shape (batch, r, ..., r).
        points : Tensor, shape (batch, n, dim) or (n, dim)
        occupancy : Tensor, shape (batch, n) or (n,)
            1 or True inside.
        """
        given = shapes.shape[-2:] == (self.dim + 1, self.n_planes) and shapes.ndim <= 3
        planes = self._check_planes(shapes if given else self.planes(shapes))
        soft = self.phase in (3, 4)
        h2 = self._convex_values(
            self._check_points(points, planes), planes, self.shift, self.T if soft else self.connected()
        )
        S, F = self._union(h2), check_tensor(occupancy, "occupancy").to(h2)
        if F.shape[-1:] != S.shape[-1:]:
            raise ValueError(f"occupancy must be of {S.shape[-1]} points, got shape {tuple(occupancy.shape)}")
        learned = self.connections == "learned"
        if self.phase == 0:
            total = (S - F).square().mean() + (self.W - 1).abs().sum()
            return total + ((self.T - 1).clamp(min=0).sum() - self.T.clamp(max=0).sum() if learned else 0)
        total = ((1 - F) * (1 - S.clamp(max=1)) + F * torch.relu(S)).mean()
        if self.phase in (2, 4):
            within = h2 < self.shift + CONNECTED
            twice = within & (within.sum(-1, keepdim=True) >= 2)
            total = total - (h2 * F[..., None] * twice).mean()
        if soft and learned:
            total = total + torch.where(self.T < CONNECTED, self.T, self.T - 1).abs().sum()
        return total

    def _check_planes(self, planes: Any) -> Tensor:
        planes = check_tensor(planes, "planes")
        planes = planes[None] if planes.ndim == 2 else planes
        if planes.ndim != 3 or planes.shape[1:] != (self.dim + 1, self.n_planes):
            raise ValueError(
                f"planes must have shape (batch, {self.dim + 1}, {self.n_planes}), got {tuple(planes.shape)}"
            )
        return planes

    def _one_shape(self, planes: Any) -> Tensor:
        planes = self._check_planes(planes)
        if len(planes) != 1:
            raise ValueError(f"give the planes of one shape at a time, got those of {len(planes)}")
        return planes

    def _check_points(self, points: Any, planes: Tensor) -> Tensor:
        points = check_tensor(points, "points")
        if points.ndim not in (2, 3) or points.shape[-1] != self.dim:
            raise ValueError(f"points must have shape (batch, n, {self.dim}), got {tuple(points.shape)}")
        return points.to(planes.dtype)

    def halfspaces(self, planes: Tensor) -> list[np.ndarray]:
        """Return the rows (n, d) of the half-spaces of every convex of one shape, as float64 arrays (m, dim + 1).

        A convex to which nothing is connected has the row (0, 1), which nothing fulfils. In phase 0 T is not binary
        yet, and is cut at 0.01 with a warning.
        """
        rows = self._one_shape(planes)[0].detach().cpu().double().numpy().T
        if not np.isfinite(rows).all():
            raise ValueError("planes must be finite, got NaN or infinite numbers; the training has diverged")
        if self.phase == 0 and self.connections == "learned":
            warn("in phase 0 convexes are not exact: T is cut at 0.01; train in a later phase first")
        T = self.T.detach().cpu().numpy() > CONNECTED
        nothing = np.eye(self.dim + 1)[-1:]
        return [rows[own] if own.any() else nothing for own in T.T]

    def convexes(
        self, planes: Tensor, grid: int = 64, prune: bool = False
    ) -> tuple[list[Float[np.ndarray, "m dim1"]], np.ndarray]:
        """Return the half-spaces of those convexes that are there, and their numbers; see :meth:`extract`."""
        check_counts(grid=grid)
        rows = self.halfspaces(planes)
        ids = extract(rows, int(grid), prune=prune).ids
        return [rows[j] for j in ids], ids

    def extract(
        self, planes: Tensor, grid: int = 64, prune: bool = False, *, eps: float | int = 1e-4
    ) -> Convexes:
        """Return the convexes of one shape as polygons, exactly, within the cube.

        Parameters
        ----------
        planes : Tensor, shape (dim + 1, p) or (1, dim + 1, p)
        grid : int
            A convex is there if it contains one of the grid ** dim cell centres. What is thinner needs more.
        prune : bool
            Whether to leave out convexes that others hide, by the same grid.
        eps : float
            Convexes flatter than this are left out, and counted.
        """
        check_counts(grid=grid)
        eps = float(check_in_range(eps, "eps", low=0.0))
        return extract(self.halfspaces(planes), int(grid), eps=eps, prune=prune)

    def to_mesh(self, planes: Tensor, kind: str = "union", grid: int = 64, prune: bool = False) -> Any:
        """Return the surface of one shape.

        Parameters
        ----------
        kind : {"union", "soup", "polygons"}
            A ``trimesh.Trimesh`` that is the boolean union, or all convexes side by side, whose
            ``face_attributes["convex"]`` says whose a face is and whose ``metadata`` counts convexes; or a list of
            polygons, arrays (k, dim), the only kind in 2-D.
        planes, grid, prune
            As in :meth:`extract`.
        """
        check_choice(kind, KINDS, "kind")
        if self.dim == 2 and kind != "polygons":
            raise ValueError(
                f"shapes in 2-D have no {kind}; kind='polygons' gives the outline of each convex"
            )
        found = self.extract(planes, grid, prune)
        if not found.polytopes:
            warn("no convex has an inside: the shape is empty")
        if kind == "polygons":
            return [face for p in found.polytopes for face in p.polygons()]
        mesh = found.union() if kind == "union" else found.soup()
        mesh.metadata.update(n_convexes=len(found.ids), n_empty=found.n_empty, n_hidden=found.n_hidden)
        return mesh

    def save_mesh(
        self, planes: Tensor, path: str | os.PathLike[str], kind: str = "union", **options: Any
    ) -> None:
        """Write :meth:`to_mesh`, a union or a soup, to an OBJ, PLY, GLB or STL file.

        A convex has a material of its own in OBJ, a colour in PLY and GLB, and nothing in STL, which has neither. An
        empty shape is a ValueError.
        """
        check_choice(kind, KINDS[:2], "kind")
        mesh = self.to_mesh(planes, kind, **options)
        plain = os.fspath(path).lower().endswith(".stl")
        save_mesh(mesh, path, parts=None if plain else mesh.face_attributes["convex"])
