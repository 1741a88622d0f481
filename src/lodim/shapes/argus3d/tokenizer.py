r"""Shapes as short sequences of codes, and back: :class:`ShapeTokenizer`, the first stage of Argus3D.

N points on a surface become S tokens, and these an occupancy that can be asked anywhere:

1. each point gets features from a small network, which before each block but the first is told the largest features of
   the points in the same cell of each plane; they are averaged into three planes of R x R cells (xz, xy, yz), and one
   U-Net goes over each;
2. *coupling*: the planes are put one behind the other on the channels and mixed by convolutions into one map, which d
   convolutions of stride 2 bring to a side of R / 2^d;
3. each of its vectors is projected to 4 numbers and becomes the nearest of the codes
   (:class:`~lodim.nets.VectorQuantizer`). Row by row their numbers are the tokens, S = (R / 2^d)^2 of them, where a
   grid of the same detail has (R / 2^d)^3;
4. backwards: codes to a map, U-Net, d times doubled, three planes, one U-Net over each; a point reads the planes
   (:func:`~lodim.shapes.triplane.sample_triplane`), and a network turns what it reads into a logit o of being inside.

.. math:: L = \frac{1}{B} \sum_{b, q} \mathrm{BCE}\big(o_b(x_q), [x_q \text{ inside}]\big)
              + \mathrm{mean}\,|z - \mathrm{sg}\, z_q|^2 + \beta\, \mathrm{mean}\,|z_q - \mathrm{sg}\, z|^2,

the sum going over the points asked and the mean over shapes; :math:`\beta` weighs the codebook's term as in the
authors' code.

===================  =====================================
symbol in the paper  name here
===================  =====================================
R, C, E              ``plane_resolution``, ``channels``, ``latent_channels``
N                    points, ``points.shape[1]``
z, z_q               ``latents``, codes of ``quantizer``
===================  =====================================

Sizes of the paper: R=256, C=32, E=512, 8192 codes, 3 halvings (1024 tokens), ``hidden=32``, ``n_blocks=5``,
``unet_width=32``, ``unet_depth=4``, 30,000 points. Defaults are for shapes of a few parts and one processor.

Sources: X. Qian and others, 2024, arXiv 2402.12225; S. Peng and others, 2020, arXiv 2003.04618 (point encoder, U-Net,
occupancy). Departures: points are put in order first, so that sums round alike and the tokens do not depend on theirs
(on a GPU sums have no order, and a vector halfway between two codes may go to either); convolutions start as
:func:`~lodim.nets.dense.he_normal` has them, since by torch's start some thirty of them one behind the other leave
nothing of what shapes differ in; the width of the map's U-Net, which is not told, is that of the planes' at the same
detail. ``latent="grid"`` is the ablation: one volume in place of
the planes, every convolution in 3-D.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, grid_sample, relu

from lodim.nets import VectorQuantizer
from lodim.nets.dense import he_normal
from lodim.randomness import RandomState, build_seeded, root_seed
from lodim.shapes.extraction import extract_surface
from lodim.shapes.triplane import PLANES, sample_triplane
from lodim.validation import check_choice, check_counts, check_in_range, check_tensor, checked

__all__ = ["ShapeTokenizer"]

# of the cube's side, what to_unit_cube fills
SHARE = 0.9


class _Residual(nn.Module):
    """Two linear layers and what they add to; adds nothing at first."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(n_in, n_out), nn.Linear(n_out, n_out)
        self.skip = nn.Linear(n_in, n_out, bias=False) if n_in != n_out else nn.Identity()
        nn.init.zeros_(self.fc2.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.fc2(relu(self.fc1(relu(x))))


class _Occupancy(nn.Module):
    """A point and what it reads of the fields, to a logit."""

    def __init__(self, channels: int, hidden: int, n_blocks: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, hidden), nn.Linear(hidden, 1)
        self.read = nn.ModuleList(nn.Linear(channels, hidden) for _ in range(n_blocks))
        self.blocks = nn.ModuleList(_Residual(hidden, hidden) for _ in range(n_blocks))

    def forward(self, points: Tensor, features: Tensor) -> Tensor:
        h = self.first(points)
        for read, block in zip(self.read, self.blocks, strict=True):
            h = block(h + read(features))
        return self.last(relu(h))[..., 0]


class _UNet(nn.Module):
    """Convolutions over 2 or 3 axes, on ever coarser levels and back, each level of the way up seeing the way down."""

    def __init__(self, dim: int, channels: int, width: int, depth: int) -> None:
        super().__init__()
        conv, up = (nn.Conv2d, nn.ConvTranspose2d) if dim == 2 else (nn.Conv3d, nn.ConvTranspose3d)
        widths = [width * 2**i for i in range(depth)]

        def twice(a: int, b: int) -> nn.Sequential:
            return nn.Sequential(conv(a, b, 3, padding=1), nn.ReLU(), conv(b, b, 3, padding=1), nn.ReLU())

        self.down = nn.ModuleList(twice(a, b) for a, b in pairwise([channels, *widths]))
        self.doubled = nn.ModuleList(up(b, a, 2, stride=2) for a, b in reversed([*pairwise(widths)]))
        self.up = nn.ModuleList(twice(2 * a, a) for a in reversed(widths[:-1]))
        self.halve = nn.MaxPool2d(2) if dim == 2 else nn.MaxPool3d(2)
        self.last = conv(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for i, block in enumerate(self.down):
            x = block(self.halve(x) if i else x)
            kept.append(x)
        kept.pop()
        for double, block in zip(self.doubled, self.up, strict=True):
            x = block(torch.cat([double(x), kept.pop()], 1))
        return self.last(x)


class _PointFeatures(nn.Module):
    """Points (batch, n, 3) to features (batch, n, channels), by blocks that see the maxima of the cells around."""

    def __init__(self, channels: int, hidden: int, n_blocks: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 2 * hidden), nn.Linear(hidden, channels)
        self.blocks = nn.ModuleList(_Residual(2 * hidden, hidden) for _ in range(n_blocks))

    def forward(self, points: Tensor, cells: list[Tensor]) -> Tensor:
        # numbers of those cells alone that have points
        groups = [torch.unique(c, return_inverse=True) for c in cells]
        h: Tensor | None = None
        for block in self.blocks:
            h = block(self.first(points) if h is None else torch.cat([h, _maxima(h, groups)], -1))
        return self.last(h)


def _maxima(h: Tensor, groups: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Return, for each point, the largest features in its cell, summed over the planes."""
    rows = h.flatten(0, 1)
    total = torch.zeros_like(rows)
    for cells, which in groups:
        index = which[:, None].expand_as(rows)
        found = rows.new_zeros(len(cells), rows.shape[1])
        total = total + found.scatter_reduce(0, index, rows, "amax", include_self=False)[which]
    return total.view_as(h)


@checked
class ShapeTokenizer(nn.Module):
    """An auto-encoder between points on surfaces and sequences of codes.

    Parameters
    ----------
    plane_resolution : int
        R, a multiple of 2^(downsamples + unet_depth - 1).
    channels : int
        Of the planes.
    latent_channels : int
        Of the map before it is projected to codes.
    code_dim : int
        Numbers of a code; few keep the codes in use.
    n_codes : int
    downsamples : int
        How often the map is halved.
    hidden, n_blocks : int
        Width and number of the residual blocks that points and queries go through.
    unet_width, unet_depth : int
        Channels of the finest level, doubled with each further one, and number of levels.
    beta, beta_on
        See :class:`~lodim.nets.VectorQuantizer`.
    latent : {"vector", "grid"}
        One map coupled from three planes, or a volume: (R / 2^d)^2 or (R / 2^d)^3 tokens.
    padding : float
        By how much planes are wider than the cube [-0.5, 0.5]^3, as a share.
    random_state : int, Generator or None
        Of all weights.

    Attributes
    ----------
    n_tokens, n_codes : int
    side : int
        Of the map, R / 2^d.
    bound : float
        Coordinates of points and queries are at most as large.

    Raises
    ------
    ValueError
        Numbers out of range, or a resolution that cannot be halved so often.

    Examples
    --------
    >>> ShapeTokenizer(random_state=0).encode(torch.rand(2, 300, 3) - 0.5).shape
    torch.Size([2, 64])
    """

    def __init__(
        self,
        plane_resolution: int = 32,
        channels: int = 32,
        *,
        latent_channels: int = 128,
        code_dim: int = 4,
        n_codes: int = 512,
        downsamples: int = 2,
        hidden: int = 32,
        n_blocks: int = 5,
        unet_width: int = 16,
        unet_depth: int = 3,
        beta: float | int = 0.4,
        beta_on: str = "codebook",
        latent: str = "vector",
        padding: float | int = 0.1,
        random_state: RandomState = None,
    ) -> None:
        super().__init__()
        check_counts(
            plane_resolution=plane_resolution, channels=channels, latent_channels=latent_channels,
            code_dim=code_dim, hidden=hidden, n_blocks=n_blocks, unet_width=unet_width, unet_depth=unet_depth,
        )  # fmt: skip
        check_in_range(downsamples, "downsamples", low=0, integer=True)
        check_choice(latent, ("vector", "grid"), "latent")
        check_in_range(padding, "padding", low=0.0, high=1.0)
        halvings = downsamples + unet_depth - 1
        if plane_resolution % 2**halvings:
            raise ValueError(
                f"plane_resolution must be a multiple of {2**halvings}, 2^(downsamples + unet_depth - 1), "
                f"got {plane_resolution}"
            )
        self.resolution, self.latent = int(plane_resolution), latent
        self.bound = (1 + float(padding)) / 2
        self.axes = PLANES if latent == "vector" else ((0, 1, 2),)
        dim, n_fields = len(self.axes[0]), len(self.axes)
        self.side = self.resolution // 2**downsamples
        self.n_tokens, self.n_codes = self.side**dim, int(n_codes)
        conv: Any = nn.Conv2d if dim == 2 else nn.Conv3d
        widths = [channels * 2**i for i in range(downsamples + 1)]

        def build() -> None:
            self.point_features = _PointFeatures(channels, hidden, n_blocks)
            self.field_unet = _UNet(dim, channels, unet_width, unet_depth)
            wide = n_fields * channels
            self.couple = nn.Sequential(
                conv(wide, wide, 3, padding=1), nn.ReLU(),
                conv(wide, channels, 3, padding=1), nn.ReLU(),
                conv(channels, channels, 1),
                *(layer for a, b in pairwise(widths) for layer in (conv(a, b, 2, stride=2), nn.ReLU())),
                conv(widths[-1], latent_channels, 1),
            )  # fmt: skip
            self.reduce_dim = nn.Linear(latent_channels, code_dim)
            self.quantizer = VectorQuantizer(n_codes, code_dim, beta=beta, beta_on=beta_on)
            self.raise_dim = nn.Linear(code_dim, latent_channels)
            self.map_unet = _UNet(dim, latent_channels, unet_width * 2**downsamples, unet_depth)
            up = [latent_channels, *reversed(widths[:-1])]
            self.uncouple = nn.Sequential(
                *(layer for a, b in pairwise(up)
                  for layer in (nn.Upsample(scale_factor=2), conv(a, b, 3, padding=1), nn.ReLU())),
                conv(up[-1], channels, 1),
                conv(channels, wide, 3, padding=1), nn.ReLU(),
                conv(wide, wide, 3, padding=1),
            )  # fmt: skip
            self.out_unet = _UNet(dim, channels, unet_width, unet_depth)
            self.occupancy = _Occupancy(channels, hidden, n_blocks)
            for part in (self.field_unet, self.couple, self.map_unet, self.uncouple, self.out_unet):
                he_normal(part)

        build_seeded(build, root_seed(random_state))

    def _within(self, points: Tensor, name: str, n_shapes: int | None = None) -> Tensor:
        """Return points as the network's numbers if they are in the padded cube, and of as many shapes."""
        batch = len(points) if n_shapes is None else n_shapes
        if check_tensor(points, name).ndim != 3 or points.shape[::2] != (batch, 3):
            raise ValueError(
                f"{name} must have shape ({'batch' if n_shapes is None else batch}, n, 3), got {tuple(points.shape)}"
            )
        points = points.to(self.reduce_dim.weight.dtype)
        # NaN is not within either
        if points.numel() and not bool((points.abs() <= self.bound).all()):
            hint = (
                "move the shape there with to_unit_cube, or encode with normalize=True"
                if n_shapes is None
                else "ask only there: what is beyond is outside"
            )
            raise ValueError(
                f"{name} must lie in the padded cube, with coordinates of at most {self.bound:g}, got up to "
                f"{float(points.abs().max()):g}; {hint}"
            )
        return points

    def latents(self, points: Float[Tensor, "batch n xyz"]) -> Float[Tensor, "batch tokens code"]:
        """Return the vectors that become codes, of points (batch, n, 3) in the padded cube; else a ValueError."""
        points = _in_order(self._within(points, "points"))
        if not points.shape[1]:
            raise ValueError(f"a shape needs a point at least, got points of shape {tuple(points.shape)}")
        batch = len(points)
        place = ((points / self.bound + 1) / 2 * self.resolution).long().clamp(0, self.resolution - 1)
        dim = len(self.axes[0])
        n_cells = self.resolution**dim
        strides = self.resolution ** torch.arange(dim, device=points.device)
        first = n_cells * torch.arange(batch, device=points.device)[:, None]
        cells = [((place[..., axes] * strides).sum(-1) + first).flatten() for axes in self.axes]
        found = self.point_features(points, cells).flatten(0, 1)
        fields = []
        for index in cells:
            total = found.new_zeros(batch * n_cells, found.shape[1]).index_add(0, index, found)
            count = torch.bincount(index, minlength=batch * n_cells).clamp(min=1)[:, None]
            fields.append(
                (total / count).view(batch, *[self.resolution] * dim, found.shape[1]).movedim(-1, 1)
            )
        planes = self.field_unet(torch.stack(fields, 1).flatten(0, 1))
        coupled = self.couple(planes.unflatten(0, (batch, len(cells))).flatten(1, 2))
        return self.reduce_dim(coupled.flatten(2).mT)

    @torch.no_grad()
    def encode(
        self, points: Float[Tensor, "batch n xyz"], *, normalize: bool = False
    ) -> Int64[Tensor, "batch tokens"]:
        """Return the tokens of shapes given by points (batch, n, 3) on their surfaces, in any order.

        Parameters
        ----------
        normalize : bool
            Move each shape's points into the cube as :func:`~lodim.shapes.to_unit_cube` does meshes; otherwise points
            outside the padded cube are a ValueError.
        """
        if normalize and points.numel():
            low, high = points.amin(1, keepdim=True), points.amax(1, keepdim=True)
            longest = (high - low).amax(2, keepdim=True)
            points = SHARE * (points - (low + high) / 2) / torch.where(longest > 0, longest, 1)
        return self.quantizer.encode(self.latents(points))

    def features(self, tokens: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch fields channels ..."]:
        """Return the planes (batch, 3, channels, R, R) of tokens, or the volume (batch, 1, channels, R, R, R)."""
        if tokens.shape[1] != self.n_tokens:
            raise ValueError(f"tokens must have shape (batch, {self.n_tokens}), got {tuple(tokens.shape)}")
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.n_codes:
            raise ValueError(
                f"tokens must be in [0, {self.n_codes}), got {int(tokens.min())} to {int(tokens.max())}"
            )
        return self._features(self.quantizer.decode(tokens.long()))

    def _features(self, codes: Tensor) -> Tensor:
        dim = len(self.axes[0])
        found = self.raise_dim(codes).mT.unflatten(2, (self.side,) * dim)
        found = self.uncouple(self.map_unet(found))
        found = found.unflatten(1, (len(self.axes), -1))
        return self.out_unet(found.flatten(0, 1)).unflatten(0, found.shape[:2])

    def _logits(self, fields: Tensor, queries: Tensor) -> Tensor:
        if self.latent == "vector":
            found = sample_triplane(fields, queries, self.bound, "sum")
        else:
            at = (queries / self.bound)[:, None, None]
            found = grid_sample(fields[:, 0], at, padding_mode="border", align_corners=True)[:, :, 0, 0].mT
        return self.occupancy(queries, found)

    def decode(
        self, tokens: Int[Tensor, "batch tokens"], queries: Float[Tensor, "shapes n xyz"]
    ) -> Float[Tensor, "shapes n"]:
        """Return the logits of queries (batch, n, 3) being inside, positive inside."""
        return self._logits(self.features(tokens), self._within(queries, "queries", len(tokens)))

    def loss(
        self, points: Float[Tensor, "batch n xyz"], queries: Float[Tensor, "shapes m xyz"], occupancy: Tensor
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the loss, and what it is made of.

        Parameters
        ----------
        points : Tensor, shape (batch, n, 3)
            On the surfaces.
        queries, occupancy : Tensor, shapes (batch, m, 3) and (batch, m)
            Any points, and 1 or True where they are inside.

        Returns
        -------
        loss : Tensor, shape ()
        parts : dict
            ``bce`` and ``vq``, which add up to it, ``perplexity`` and ``used`` of the codes in this batch.
        """
        queries = self._within(queries, "queries", len(points))
        inside = check_tensor(occupancy, "occupancy").to(queries)
        if inside.shape != queries.shape[:2]:
            raise ValueError(
                f"occupancy must have shape {tuple(queries.shape[:2])}, got {tuple(inside.shape)}"
            )
        if not inside.numel():
            raise ValueError(f"a loss needs a shape and a query at least, got queries {tuple(queries.shape)}")
        # NaN is not within either
        if not bool(((inside >= 0) & (inside <= 1)).all()):
            raise ValueError("occupancy must be 1 or True where a query is inside, 0 or False elsewhere")
        found = self.quantizer(self.latents(points))
        logits = self._logits(self._features(found.vectors), queries)
        bce = binary_cross_entropy_with_logits(logits, inside, reduction="none").sum(1).mean()
        parts = {"bce": bce, "vq": found.loss, "perplexity": found.perplexity, "used": found.used}
        return bce + found.loss, parts

    @torch.no_grad()
    def to_mesh(
        self, tokens: Int[Tensor, " tokens"], resolution: int = 64, threshold: float | int = 0.5
    ) -> Any:
        """Return the surface of the shape of ``n_tokens`` tokens, as a ``trimesh.Trimesh`` in the cube [-0.5, 0.5]^3.

        Parameters
        ----------
        resolution : int
            Cells along a side of the cube.
        threshold : float
            Probability from which on a point is inside, between 0 and 1. Nowhere as probable: a mesh without faces, and
            a warning.
        """
        if not 0 < check_in_range(threshold, "threshold") < 1:
            raise ValueError(f"threshold must be between 0 and 1, got {threshold}")
        if tokens.shape != (self.n_tokens,):
            raise ValueError(
                f"tokens must be those of one shape, of shape ({self.n_tokens},), got {tuple(tokens.shape)}"
            )
        fields = self.features(tokens[None])
        level = torch.logit(torch.tensor(float(threshold), dtype=torch.float64)).item()

        def values(points: Any) -> Any:
            queries = torch.from_numpy(points).to(fields)[None]
            return level - self._logits(fields, queries)[0].double().cpu().numpy()

        return extract_surface(values, resolution)


def _in_order(points: Tensor) -> Tensor:
    """Put the points of each shape in the order of x, then y, then z."""
    order = points[..., 2].argsort(dim=1, stable=True)
    for axis in (1, 0):
        order = order.gather(1, points[..., axis].gather(1, order).argsort(dim=1, stable=True))
    return points.gather(1, order[..., None].expand_as(points))
