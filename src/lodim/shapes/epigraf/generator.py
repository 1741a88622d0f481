r"""The generator: noise to three planes of features, by StyleGAN2, and a picture of the field that they hold.

A vector z becomes w by a small network, and w the planes by convolutions whose weights it scales,

.. math:: w'_{oik} = s_i w_{oik}, \qquad w''_{oik} = w'_{oik} \Big/ \sqrt{\textstyle\sum_{ik} w_{oik}'^2 + 10^{-8}},
   \qquad s = A w + 1,

computed by scaling the inputs by s and the outputs by the root, so that one convolution serves the whole batch. At a
point x of the cube the planes give the mean of their bilinear values, and two layers turn it into

.. math:: c = \mathrm{sigmoid}(r_{1:3}), \qquad
   \sigma = 10\, \mathrm{softplus}(r_4 + \text{noise} - 1).

Colours are summed along rays (:mod:`lodim.shapes.rendering`), with samples first in equal parts of a ray's way through
the cube, and then where the first ones weigh. The values at the first ones are used again: all are put in order and
summed, and gradients go through both. Rays that miss the cube are not sampled.

======================  ==============================
in the paper            here
======================  ==============================
cube_scale              ``bound``
48 + 48 samples         ``n_coarse``, ``n_fine``
512 numbers of z and w  ``z_dim``, ``w_dim``
======================  ==============================

Source: I. Skorokhodov and others, 2022, arXiv 2206.10535, section 3.1; T. Karras and others, arXiv 1912.04958
(modulation, sums of outputs of all resolutions). Departures: depths begin and end with the cube instead of at fixed
distances, and the last sample reaches its end; bilinear growth by two, which is the paper's filter but for the border;
noise inputs are drawn in training only; densities are 10 times the paper's, since the cube's side is 1.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lodim.nets.activations import evaluation_mode
from lodim.randomness import RandomState, build_seeded, root_seed
from lodim.shapes.epigraf.layers import EqualLinear, leaky
from lodim.shapes.epigraf.patches import Patch
from lodim.shapes.extraction import extract_surface
from lodim.shapes.rendering import (
    background_colour,
    composite,
    cube_interval,
    importance_depths,
    patch_rays,
    stratified_depths,
)
from lodim.shapes.triplane import sample_triplane
from lodim.validation import check_counts, check_in_range, check_tensor, checked, to_torch

__all__ = ["Rendered", "TriplaneGenerator"]

DENSITY = 10.0
# points looked at together, so that what is in between stays small
_AT_ONCE = 2**16


class Rendered(NamedTuple):
    """Pictures of a field.

    Attributes
    ----------
    images : Tensor, shape (n, 3, r, r)
        Colours in [0, 1].
    depths : Tensor, shape (n, r, r)
        Mean distance from the camera of what is seen; infinite where nothing is.
    opacity : Tensor, shape (n, r, r)
        Share of the light that does not come from the background.
    """

    images: Float[Tensor, "n 3 r r"]
    depths: Float[Tensor, "n r r"]
    opacity: Float[Tensor, "n r r"]


class ModulatedConv2d(nn.Module):
    """A convolution whose inputs are scaled by A w + 1, and its outputs brought back to unit scale (``demodulate``)."""

    def __init__(
        self, n_in: int, n_out: int, w_dim: int, kernel: int = 3, *, demodulate: bool = True
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in, kernel, kernel))
        self.affine = EqualLinear(w_dim, n_in, bias=1.0)
        self.scale, self.padding, self.demodulate = 1 / math.sqrt(n_in * kernel**2), kernel // 2, demodulate

    def forward(
        self, x: Float[Tensor, "n n_in h w"], w: Float[Tensor, "n w_dim"]
    ) -> Float[Tensor, "n n_out h w"]:
        """Return the layer's values."""
        style, weight = self.affine(w), self.weight * self.scale
        x = nn.functional.conv2d(x * style[:, :, None, None], weight, padding=self.padding)
        if self.demodulate:
            precise = torch.promote_types(x.dtype, torch.float32)
            size = style.to(precise).square() @ weight.to(precise).square().sum((2, 3)).T
            x = x * (size + 1e-8).rsqrt().to(x.dtype)[:, :, None, None]
        return x


class _Layer(nn.Module):
    """A modulated convolution, noise of learned strength (0 at first) in training, a bias and the leaky ReLU."""

    def __init__(self, n_in: int, n_out: int, w_dim: int) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(n_in, n_out, w_dim)
        self.strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor, w: Tensor, generator: torch.Generator | None) -> Tensor:
        x = self.conv(x, w)
        if self.training:
            x = x + self.strength * _normal(x[:, :1], generator)
        return leaky(x + self.bias[:, None, None])


def _normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    where = like.device if generator is None else generator.device
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=where).to(like.device)


@checked
class TriplaneGenerator(nn.Module):
    """Fields of colour and density in the cube [-bound, bound]^3, each from a vector of noise, and pictures of them.

    Parameters
    ----------
    z_dim, w_dim : int
        Sizes of the noise and of what the mapping network makes of it.
    plane_resolution, plane_channels : int
        Of each of the three planes. It is halved as long as it is even and above 4, and from there on resolutions
        double: take a power of two, or three times one. 127 would be learnt as a constant of that size.
    base_channels : int
        Of the convolutions up to a side of 32; beyond, fewer as the side grows.
    hidden : int
        Width of the network from features to colour and density.
    bound : float
        Half the cube's side. Cameras stand outside the cube.
    fov : float
        Field of view of the cameras, in radians.
    n_coarse, n_fine : int
        Samples a ray, in equal parts and where these weigh; ``n_fine=0`` leaves the second ones out.
    background : {"white", "black"} or colour in [0, 1]
    last_back : bool
        The light that gets through is given to the last sample instead of the background.
    random_state : int, Generator or None
        Of the weights.

    Examples
    --------
    >>> import torch
    >>> from lodim.shapes.rendering import camera_to_world
    >>> made = TriplaneGenerator(plane_resolution=16, random_state=0)
    >>> made(torch.zeros(2, 64), camera_to_world(torch.zeros(2, 2)), resolution=8).images.shape
    torch.Size([2, 3, 8, 8])
    """

    background: Tensor

    def __init__(
        self,
        z_dim: int = 64,
        w_dim: int = 64,
        plane_resolution: int = 32,
        plane_channels: int = 16,
        *,
        base_channels: int = 64,
        hidden: int = 64,
        bound: float | int = 0.5,
        fov: float | int = 0.7,
        n_coarse: int = 24,
        n_fine: int = 24,
        background: Any = "white",
        last_back: bool = False,
        random_state: RandomState = None,
    ) -> None:
        super().__init__()
        check_counts(
            z_dim=z_dim,
            w_dim=w_dim,
            plane_channels=plane_channels,
            base_channels=base_channels,
            hidden=hidden,
        )
        check_in_range(plane_resolution, "plane_resolution", low=2, integer=True)
        check_in_range(n_coarse, "n_coarse", low=2, integer=True)
        check_in_range(n_fine, "n_fine", low=0, integer=True)
        if not 0 < check_in_range(bound, "bound") < math.inf:
            raise ValueError(f"bound must be positive and finite, got {bound}")
        if not 0 < check_in_range(fov, "fov") < math.pi:
            raise ValueError(f"fov must be between 0 and pi (in radians), got {fov}")
        self.register_buffer("background", background_colour(background, torch.empty(3)).clone())
        self.z_dim, self.w_dim, self.plane_channels = int(z_dim), int(w_dim), int(plane_channels)
        self.plane_resolution, self.bound, self.fov = int(plane_resolution), float(bound), float(fov)
        self.n_coarse, self.n_fine, self.last_back = int(n_coarse), int(n_fine), last_back
        sides = [self.plane_resolution]
        while sides[0] % 2 == 0 and sides[0] > 4:
            sides.insert(0, sides[0] // 2)
        widths = [max(base_channels * min(32, side) // side, 1) for side in sides]

        def build() -> None:
            self.mapping = nn.ModuleList(
                EqualLinear(n, self.w_dim, lr_multiplier=0.01) for n in (self.z_dim, self.w_dim)
            )
            self.start = nn.Parameter(torch.randn(widths[0], sides[0], sides[0]))
            # two convolutions a resolution, the first of which grows; one at the start
            pairs = [(widths[0], widths[0])]
            for narrow, wide in itertools.pairwise(widths):
                pairs += [(narrow, wide), (wide, wide)]
            self.layers = nn.ModuleList(_Layer(*pair, self.w_dim) for pair in pairs)
            self.outputs = nn.ModuleList(
                ModulatedConv2d(n, 3 * self.plane_channels, self.w_dim, 1, demodulate=False) for n in widths
            )
            self.first, self.second = EqualLinear(self.plane_channels, hidden), EqualLinear(hidden, 4)

        build_seeded(build, root_seed(random_state))

    def planes(
        self, z: Float[Tensor, "n z_dim"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "n 3 channels side side"]:
        """Return the planes of features; in training with noise, from ``generator`` or torch's global one."""
        if check_tensor(z, "z").ndim != 2 or z.shape[1] != self.z_dim:
            raise ValueError(f"z must have shape (n, {self.z_dim}), got {tuple(z.shape)}")
        # sums of squares leave half precision
        size = z.to(torch.promote_types(z.dtype, torch.float32)).square().mean(1, keepdim=True)
        w = (z * (size + 1e-8).rsqrt()).to(self.start)
        for layer in self.mapping:
            w = leaky(layer(w))
        x = self.layers[0](self.start.expand(len(w), *self.start.shape), w, generator)
        total = self.outputs[0](x, w)
        for k in range(1, len(self.outputs)):
            x = self.layers[2 * k - 1](_grown(x), w, generator)
            x = self.layers[2 * k](x, w, generator)
            total = _grown(total) + self.outputs[k](x, w)
        return total.unflatten(1, (3, self.plane_channels))

    def field(
        self,
        planes: Float[Tensor, "n 3 channels side side"],
        points: Float[Tensor, "n points 3"],
        *,
        density_noise: float | int = 0.0,
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "n points 3"], Float[Tensor, "n points"]]:
        """Return colours in [0, 1] and densities, per unit of length, at points of the cube.

        Parameters
        ----------
        density_noise : float
            Deviation of the noise added to the raw densities.
        """
        # places and sums in single precision, whatever that of the weights
        features = sample_triplane(planes.to(points), points, self.bound)
        raw = self.second(leaky(self.first(features.to(planes)))).to(points)
        density = raw[..., 3] - 1
        if density_noise:
            density = density + density_noise * _normal(density, generator)
        return torch.sigmoid(raw[..., :3]), DENSITY * nn.functional.softplus(density)

    def forward(
        self,
        z: Float[Tensor, "n z_dim"],
        poses: Float[Tensor, "cameras rows columns"],
        patch: Patch | None = None,
        resolution: int = 64,
        *,
        jitter: bool = False,
        density_noise: float | int = 0.0,
        generator: torch.Generator | None = None,
    ) -> Rendered:
        """Return :meth:`render` of the :meth:`planes` of z."""
        return self.render(
            self.planes(z, generator),
            poses,
            patch,
            resolution,
            jitter=jitter,
            density_noise=density_noise,
            generator=generator,
        )

    def render(
        self,
        planes: Float[Tensor, "n 3 channels side side"],
        poses: Float[Tensor, "cameras rows columns"],
        patch: Patch | None = None,
        resolution: int = 64,
        *,
        jitter: bool = False,
        density_noise: float | int = 0.0,
        generator: torch.Generator | None = None,
    ) -> Rendered:
        """Return pictures of fields given by planes, one a pose.

        Parameters
        ----------
        poses : Tensor, shape (n, 4, 4)
            Camera to world.
        patch : Patch, optional
            Which parts of the images are drawn, each of ``resolution`` squared pixels; by default the whole ones.
        jitter : bool
            Samples at random in their parts, as in training, from ``generator`` or torch's global one.

        Raises
        ------
        ValueError
            A camera inside the cube, or not as many poses or patches as planes.
        RuntimeError
            Colours that are not finite: the training has diverged.
        """
        check_counts(resolution=resolution)
        n = len(planes)
        if poses.shape != (n, 4, 4):
            raise ValueError(f"poses must be one an image, shape ({n}, 4, 4), got {tuple(poses.shape)}")
        inside = (check_tensor(poses, "poses", finite=True)[:, :3, 3].abs() < self.bound).all(1)
        if bool(inside.any()):
            raise ValueError(
                f"poses[{int(inside.nonzero()[0])}] is a camera inside the cube "
                f"[-{self.bound:g}, {self.bound:g}]^3; cameras must stand outside"
            )
        noise = float(check_in_range(density_noise, "density_noise", low=0.0))
        chosen = Patch.whole(n) if patch is None else patch
        precise = torch.promote_types(planes.dtype, torch.float32)
        origins, directions = patch_rays(poses.to(planes.device, precise), self.fov, resolution, *chosen)
        flat = cube_interval(origins.reshape(-1, 3), directions.reshape(-1, 3), self.bound)
        near, far = (ends.reshape(origins.shape[:2]) for ends in flat)
        # the rays that meet the cube first, and as many of each image as in that where they are most
        meets = far > near
        n_most = int(meets.sum(1).max()) if n else 0
        order = meets.int().argsort(dim=1, descending=True, stable=True)[:, :n_most]
        size = max(_AT_ONCE // (max(n, 1) * (self.n_coarse + self.n_fine)), 1)
        drawn = []
        for part in order.split(size, 1) if n_most else ():
            ways = directions.gather(1, part[..., None].expand(-1, -1, 3))
            ends = near.gather(1, part), far.gather(1, part)
            drawn.append(self._along(planes, origins[:, :1], ways, ends, jitter, noise, generator))
        empty = origins.new_zeros(n, 0, 5)
        values = torch.cat([empty, *drawn], 1)
        if not n_most:
            # nothing is seen, and nothing is to be learnt: gradients of 0
            values = values + 0 * planes.sum()
        if not bool(values[..., :3].isfinite().all()):
            bad = ~values[..., :3].isfinite().all(2)
            raise RuntimeError(
                f"{float(bad.float().mean()):.0%} of the rays through the cube have colours that are NaN or infinite, "
                f"at density_noise={noise:g} and scales {_span(chosen.scales)}; planes {_span(planes)}: the training "
                "has diverged, begin again with a smaller lr"
            )
        unseen = torch.cat([self.background.to(origins), origins.new_tensor([math.inf, 0.0])])
        whole = unseen.expand(n, resolution**2, 5).scatter(1, order[..., None].expand(-1, -1, 5), values)
        whole = whole.transpose(1, 2).reshape(n, 5, resolution, resolution).to(planes.dtype)
        return Rendered(whole[:, :3], whole[:, 3], whole[:, 4])

    def _along(
        self,
        planes: Tensor,
        origins: Tensor,
        directions: Tensor,
        ends: tuple[Tensor, Tensor],
        jitter: bool,
        noise: float,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Return colour, depth and opacity of rays (n, m, 3) as (n, m, 5)."""
        n, m = directions.shape[:2]
        near, far = (end.reshape(-1) for end in ends)

        def values(depths: Tensor) -> tuple[Tensor, Tensor]:
            at = depths.reshape(n, m, -1, 1)
            points = (origins[:, :, None] + at * directions[:, :, None]).reshape(n, -1, 3)
            rgb, sigma = self.field(planes, points, density_noise=noise, generator=generator)
            return rgb.reshape(n * m, -1, 3), sigma.reshape(n * m, -1)

        depths = stratified_depths(near, far, self.n_coarse, jitter=jitter, generator=generator)
        rgb, sigma = values(depths)
        if self.n_fine:
            with torch.no_grad():
                weights = composite(rgb[..., :0], sigma, depths, far, 0.0)[1]
                # where the field is NaN the sum below will tell
                weights = weights.nan_to_num()
                more = importance_depths(depths, weights, self.n_fine, jitter=jitter, generator=generator)
            depths, order = torch.cat([depths, more], 1).sort(1)
            found = [torch.cat(pair, 1) for pair in zip((rgb, sigma), values(more), strict=True)]
            rgb, sigma = found[0].gather(1, order[..., None].expand(-1, -1, 3)), found[1].gather(1, order)
        colour, weights = composite(rgb, sigma, depths, far, self.background)
        opacity = weights.sum(1, keepdim=True)
        if self.last_back:
            # not where a ray misses the cube
            rest = (1 - opacity) * (far > near)[:, None]
            colour = colour + rest * (rgb[:, -1] - self.background.to(rgb))
        depth = (weights * depths).sum(1, keepdim=True) / opacity.clamp(min=1e-10)
        depth = torch.where(opacity > 1e-10, depth, math.inf)
        # sums of colours round to a little over 1
        return torch.cat([colour.clamp(0, 1), depth, opacity], 1).reshape(n, m, 5)

    @torch.no_grad()
    def extract_mesh(self, z: Any, resolution: int = 64, isovalue: float | int = 10.0) -> Any:
        """Return the surface around where the density is at least ``isovalue``, as a ``trimesh.Trimesh``.

        Needs the extra ``shapes``. The network is asked as in evaluation.

        Parameters
        ----------
        z : Tensor, shape (z_dim,) or (1, z_dim)
        """
        one = to_torch(z, "z")
        if one.numel() != self.z_dim:
            raise ValueError(
                f"z must be that of one object, {self.z_dim} numbers, got shape {tuple(one.shape)}"
            )
        with evaluation_mode(self):
            planes = self.planes(one.reshape(1, -1))

        def values(points: np.ndarray) -> np.ndarray:
            at = to_torch(points).to(planes.device, torch.promote_types(planes.dtype, torch.float32))[None]
            return isovalue - self.field(planes, at)[1][0].cpu().double().numpy()

        return extract_surface(values, resolution, bounds=self.bound)


def _grown(x: Tensor) -> Tensor:
    """Return images of twice the side, by the filter (1, 3, 3, 1) / 4."""
    return nn.functional.interpolate(x, scale_factor=2, mode="bilinear")


def _span(values: Tensor) -> str:
    low, high = values.detach().aminmax()
    return f"from {float(low):.3g} to {float(high):.3g}"
