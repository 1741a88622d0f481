r"""Images, shapes and scenes as a small network behind an encoding: :class:`NeuralField`, and three ways to fit one.

* :func:`fit_image`: position to colour, squared error at random pixels;
* :func:`fit_sdf`: position to signed distance, absolute error at points drawn uniformly and near the surface;
* :func:`fit_volume`: position to colour and density, squared error of rendered rays.

Adam moves the tables at ``lr`` with :math:`\beta = (0.9, 0.99)` and :math:`\epsilon = 10^{-15}`, so that rows which are
hardly ever looked up move as far as others; the network moves at ``mlp_lr``. Nothing decays.

Source: Y. Wen, Y. Yang, 2023, arXiv 2311.15439; T. Müller and others, arXiv 2201.05989, sections 4 and 5.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lodim.metrics import psnr
from lodim.randomness import RandomState, as_generator, build_seeded, derive_seed, root_seed
from lodim.results import Result
from lodim.shapes import meshes
from lodim.shapes.rendering import (
    background_colour,
    composite,
    cube_interval,
    pinhole_rays,
    stratified_depths,
)
from lodim.shapes.simplex_encoding.encoding import KINDS, HashEncoding
from lodim.training import DescentRecipe, DescentResult, descend
from lodim.training.descent import Progress
from lodim.training.recipe import ended
from lodim.validation import (
    check_choice,
    check_counts,
    check_device,
    check_fraction,
    check_in_range,
    check_numbers,
    check_tensor,
    checked,
    plain_array,
    to_numpy,
)

__all__ = ["FieldReport", "NeuralField", "fit_image", "fit_sdf", "fit_volume", "render_image", "render_views"]

LOSSES = ("l2", "l1", "mape")
_AT_ONCE = 2**16
_GRID = 64
_IN_3D = {"n_levels": 8, "n_min": 8, "n_max": 128}


@checked
class NeuralField(nn.Module):
    """A function of points of [0, 1]^d: an encoding, and a perceptron on its features.

    Parameters
    ----------
    encoding : HashEncoding, or another module
        With ``in_dim`` and ``out_dim``.
    out_dim : int
        Numbers a point.
    hidden, n_hidden : int
        Width and number of the hidden layers, ReLU; with none the answer is linear in the features.
    out_activation : callable, optional
        Of the answers, such as ``torch.sigmoid``.
    random_state : int, Generator or None
        Of the perceptron's weights.

    Examples
    --------
    >>> from lodim.shapes.simplex_encoding import HashEncoding
    >>> field = NeuralField(HashEncoding(2), 3, random_state=0)
    >>> field(torch.rand(5, 2)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        encoding: nn.Module,
        out_dim: int,
        hidden: int = 64,
        n_hidden: int = 2,
        out_activation: Callable[[Tensor], Tensor] | None = None,
        random_state: RandomState = None,
    ) -> None:
        super().__init__()
        check_counts(out_dim=out_dim, hidden=hidden)
        check_in_range(n_hidden, "n_hidden", low=0, integer=True)
        self.encoding, self.out_dim, self.out_activation = encoding, int(out_dim), out_activation
        features: Any = encoding.out_dim
        widths = [int(features), *[int(hidden)] * n_hidden, int(out_dim)]

        def layers() -> nn.Sequential:
            made: list[nn.Module] = []
            for a, b in itertools.pairwise(widths):
                made += [nn.Linear(a, b), nn.ReLU()]
            return nn.Sequential(*made[:-1])

        self.mlp = build_seeded(layers, root_seed(random_state))

    def forward(self, x: Any) -> Any:
        """Return the values at points, shapes (n, d) and (n, out_dim)."""
        y = self.mlp(self.encoding(x).to(self.mlp[0].weight.dtype))
        return y if self.out_activation is None else self.out_activation(y)

    def loss(self, x: Any, y: Any, kind: str = "l2") -> Any:
        """Return the mean error at points x with values y, shape (n, out_dim).

        ``kind`` is "l2" (squared), "l1" (absolute) or "mape" (absolute, divided by ``abs(y) + 0.01``).
        """
        check_choice(kind, LOSSES, "kind")
        found = self(x)
        if check_tensor(y, "y").shape != found.shape:
            raise ValueError(
                f"y must have the shape of the field's values, {tuple(found.shape)}, got {tuple(y.shape)}"
            )
        error = found - y
        if kind == "l2":
            return error.square().mean()
        return (error.abs() / (y.abs() + 0.01) if kind == "mape" else error.abs()).mean()

    def param_groups(self, lr: float | int = 1e-2, mlp_lr: float | int = 2e-3) -> list[dict[str, Any]]:
        """Return an Adam's groups: the tables, and the perceptron.

        Raises
        ------
        ValueError
            Tables of ``torch.float16``, which has no number as small as Adam's epsilon.
        """
        tables = [*self.encoding.parameters()]
        if any(table.dtype == torch.float16 for table in tables):
            raise ValueError(
                "in torch.float16 Adam divides by zero; train in single precision, then call half()"
            )
        return [
            {"params": tables, "lr": float(lr), "betas": (0.9, 0.99), "eps": 1e-15},
            {"params": [*self.mlp.parameters()], "lr": float(mlp_lr), "betas": (0.9, 0.99)},
        ]

    @torch.no_grad()
    def predict(self, points: Any, batch_size: int = _AT_ONCE) -> Any:
        """Return the values at any number of points, an array for an array, ``batch_size`` at once."""
        check_counts(batch_size=batch_size)
        is_tensor = isinstance(points, Tensor)
        weight = self.mlp[0].weight
        dtype = np.float64 if weight.dtype == torch.float64 else np.float32
        x = points if is_tensor else torch.tensor(check_numbers(points, "points", dtype=dtype))
        check_tensor(x, "points")
        found = torch.cat([self(part.to(weight.device)).to(x.device) for part in x.split(batch_size)])
        return found if is_tensor else to_numpy(found)


@dataclass(frozen=True)
class FieldReport(Result):
    """What a fit came to.

    Attributes
    ----------
    task : {"image", "sdf", "volume"}
    kind : str
        Of the encoding.
    psnr : float
        In decibel: of the whole image, or of all the views; NaN of shapes, and of a field that has diverged.
    iou : float
        Of the shapes' insides, at the centres of 64^3 cells; NaN of others.
    seconds : float
        Of training alone.
    steps : int
    n_parameters, n_table_parameters : int
        Of all, and of the tables.
    n_bytes : int
        Of all parameters.
    loss : ndarray, shape (steps,)
    stopped : str
        As of :class:`~lodim.training.DescentResult`.
    """

    task: str
    kind: str
    psnr: float
    iou: float
    seconds: float
    steps: int
    n_parameters: int
    n_table_parameters: int
    n_bytes: int
    loss: Float[np.ndarray, " steps"]
    stopped: str

    def plot(self, ax: Any = None) -> Any:
        """Draw the loss over the steps, and return the axes."""
        from lodim.plots import COLORS, new_axes

        ax = new_axes(ax)
        ax.semilogy(np.arange(1, len(self.loss) + 1), self.loss, color=COLORS[0])
        ax.set(xlabel="step", ylabel="loss", title=str(self))
        return ax

    def __str__(self) -> str:
        quality = f"IoU {self.iou:.4f}" if self.task == "sdf" else f"{self.psnr:.2f} dB"
        size = f"{self.n_parameters:,} parameters ({self.n_bytes / 2**20:.2f} MiB)"
        time = f"{self.steps} steps in {self.seconds:.1f} s{ended(self.stopped)}"
        return f"{self.task}, {self.kind}: {quality}, {size}, {time}"


class _Pixels:
    """An image's values in [0, 1] by the number of a pixel; what is held keeps its own dtype."""

    def __init__(self, image: Any) -> None:
        pixels = plain_array(image, "image")
        if (
            pixels.ndim not in (2, 3)
            or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4))
            or not pixels.size
        ):
            raise ValueError(
                f"image must have shape (h, w), or (h, w, c) with 1, 3 or 4 channels, got {pixels.shape}"
                + ("; read the file first, into an array" if not pixels.ndim else "")
                + ("; put the channels last" if pixels.ndim == 3 and pixels.shape[0] in (1, 3, 4) else "")
            )
        if pixels.dtype.kind == "f":
            low, high = float(pixels.min()), float(pixels.max())
            if not 0 <= low <= high <= 1:
                raise ValueError(
                    f"an image of fractions must lie in [0, 1], got {low:g} to {high:g}; divide it by its largest value"
                )
        elif pixels.dtype.kind != "b" and not (pixels.dtype.kind == "u" and pixels.dtype.itemsize <= 2):
            raise ValueError(
                f"image must be bool, uint8, uint16 or fractions in [0, 1], got {pixels.dtype}: its range is not known"
            )
        self.scale = 1.0 / np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1.0
        self.shape, self.height, self.width = pixels.shape, *pixels.shape[:2]
        self.flat = pixels.reshape(self.height * self.width, -1)

    def values(self, at: Any) -> Tensor:
        return torch.from_numpy(self.flat[at].astype(np.float32) * np.float32(self.scale))


def _runs(n: int) -> Iterator[Tensor]:
    """Return the numbers of n pixels, in runs that fit into memory."""
    return (torch.arange(start, min(start + _AT_ONCE, n)) for start in range(0, n, _AT_ONCE))


def _pixel_points(at: Tensor, height: int, width: int) -> Tensor:
    """Return the centres of pixels by their number: row and column by the longer side, so that pixels are squares."""
    rows = torch.div(at, width, rounding_mode="floor")
    return (torch.stack([rows, at - rows * width], 1).double() + 0.5).div(max(height, width)).float()


@checked
def fit_image(
    image: Any,
    encoding: nn.Module | str = "simplex",
    *,
    steps: int = 1000,
    batch_size: int = 2**13,
    lr: float | int = 1e-2,
    mlp_lr: float | int = 2e-3,
    hidden: int = 64,
    n_hidden: int = 2,
    random_state: RandomState = None,
    device: Any = None,
    progress: Progress | None = None,
    deadline: float | None = None,
) -> tuple[NeuralField, FieldReport]:
    """Fit a field of two dimensions to an image.

    Parameters
    ----------
    image : pixels, shape (h, w) or (h, w, c)
        An array or tensor whose dtype says what its numbers mean: bool, uint8, uint16, or fractions in [0, 1]; with 1,
        3 or 4 channels. A memory map is never held as a whole: it is read where pixels are drawn, and in runs for the
        PSNR (of fractions also for their range).
    encoding : module, or {"simplex", "grid", "kuhn"}
        A module is trained in place. By name: 12 levels of at most 2^14 rows, up to a cell a pixel.
    steps, batch_size : int
        Steps, and pixels a step.
    lr, mlp_lr : float
        Highest rates of tables and network; both fall along a cosine.

    Returns
    -------
    field : NeuralField
        Of points (row, column) by the longer side: :func:`render_image` draws it.
    report : FieldReport
        PSNR of the whole image, the field's values cut to [0, 1].
    """
    pixels = _Pixels(image)
    seed = root_seed(random_state)
    finest = max(16, pixels.height, pixels.width)
    dims = 2, pixels.flat.shape[1]
    field, device = _field(encoding, dims, hidden, n_hidden, seed, device, n_levels=12, n_max=finest)

    def loss() -> Tensor:
        at = torch.randint(pixels.height * pixels.width, (batch_size,))
        x = _pixel_points(at, pixels.height, pixels.width)
        return field.loss(x.to(device), pixels.values(at.numpy()).to(device))

    result = _descend(loss, field, steps, batch_size, lr, mlp_lr, seed, progress, deadline)
    error = 0.0
    for at in _runs(pixels.height * pixels.width):
        drawn = field.predict(_pixel_points(at, pixels.height, pixels.width)).clamp(0, 1)
        error += float((drawn - pixels.values(at.numpy())).double().square().sum())
    error /= pixels.flat.size
    return field, _report("image", field, result, psnr=-10 * math.log10(error) if error else math.inf)


@checked
def render_image(field: NeuralField, shape: tuple[int, int]) -> Float[np.ndarray, "h w channels"]:
    """Return a field of two dimensions at the pixels of an image of that height and width, cut to [0, 1].

    More pixels than the field was fitted to show what it does between them.
    """
    height, width = shape
    check_counts(height=height, width=width)
    runs = _runs(height * width)
    drawn = torch.cat([field.predict(_pixel_points(at, height, width)) for at in runs])
    return drawn.clamp(0, 1).reshape(height, width, -1).numpy()


@checked
def fit_sdf(
    shape: Any,
    encoding: nn.Module | str = "simplex",
    *,
    steps: int = 1000,
    batch_size: int = 2**13,
    near_surface: float | int = 0.5,
    spread: float | int = 0.02,
    n_pool: int = 2**16,
    loss: str = "l1",
    lr: float | int = 1e-2,
    mlp_lr: float | int = 2e-3,
    hidden: int = 64,
    n_hidden: int = 2,
    random_state: RandomState = None,
    device: Any = None,
    progress: Progress | None = None,
    deadline: float | None = None,
) -> tuple[NeuralField, FieldReport]:
    """Fit a field to the signed distance of a shape in the cube [-0.5, 0.5]^3, at most 0 inside.

    Parameters
    ----------
    shape : mesh, path, ``(vertices, faces)``, solid, or callable
        A callable turns points (n, 3) of the cube into signed distances (n,). Of meshes see
        :func:`~lodim.shapes.meshes.as_mesh`; they must lie in the cube (:func:`~lodim.shapes.meshes.to_unit_cube`).
    encoding : module, or {"simplex", "grid", "kuhn"}
        A module is trained in place. By name: 8 levels of at most 2^14 rows, cells of 1/8 to 1/128.
    near_surface : float
        Share of the points that lie near the surface; the others are uniform in the cube.
    spread : float
        Deviation of these points from it, in units of the cube.
    n_pool : int
        Of a mesh, whose distances take long (of one that is not watertight, a minute): so many points are drawn once,
        before the first step and whatever the deadline. A callable's are drawn anew in each step.
    loss : {"l1", "mape", "l2"}
        See :meth:`NeuralField.loss`.

    Returns
    -------
    field : NeuralField
        Of points of [0, 1]^3: those of the cube plus 0.5.
    report : FieldReport
        IoU of the insides; NaN where the centre of no cell is in either.
    """
    check_choice(loss, LOSSES, "loss")
    check_counts(n_pool=n_pool, batch_size=batch_size)
    seed = root_seed(random_state)
    field, device = _field(encoding, (3, 1), hidden, n_hidden, seed, device, **_IN_3D)
    check_in_range(spread, "spread", low=0.0)
    n_near = round(check_fraction(near_surface, "near_surface") * batch_size)
    cells = meshes.cell_centres(_GRID)
    if callable(shape) and not hasattr(shape, "mesh"):

        def distance(points: np.ndarray) -> np.ndarray:
            values = plain_array(shape(points), "the shape's answer")
            if values.dtype.kind != "f" or values.shape != (len(points),):
                raise ValueError(
                    "the shape must turn points (n, 3) into signed distances (n,), fractions, got "
                    f"{values.dtype} of shape {values.shape}"
                )
            if not np.isfinite(values).all():
                raise ValueError("the shape's signed distances must be finite")
            return values

        draws = as_generator(derive_seed(seed, "points"))

        def batch() -> tuple[np.ndarray, np.ndarray]:
            points = draws.uniform(-0.5, 0.5, (batch_size, 3))
            if n_near:
                points[:n_near] = _onto_surface(distance, points[:n_near], spread, draws)
            return points, distance(points)

        inside = distance(cells) <= 0
    else:
        batch, inside = _mesh_batches(shape, n_pool, n_near, batch_size, spread, cells, seed)

    def error() -> Tensor:
        points, values = batch()
        x = torch.from_numpy((points + 0.5).astype(np.float32))
        y = torch.from_numpy(values.astype(np.float32))[:, None]
        return field.loss(x.to(device), y.to(device), loss)

    result = _descend(error, field, steps, batch_size, lr, mlp_lr, seed, progress, deadline)
    found = field.predict(cells + 0.5)[:, 0] <= 0
    either = int((found | inside).sum())
    iou = float((found & inside).sum() / either) if either else math.nan
    return field, _report("sdf", field, result, iou=iou)


def _onto_surface(distance: Any, points: np.ndarray, spread: float | int, draws: Any) -> np.ndarray:
    """Return points moved onto the surface by one step of Newton, and from there by the spread; cut to the cube."""
    # differences towards the middle: a shape is not asked outside of the cube
    steps = np.where(points > 0, -1e-3, 1e-3)
    value = distance(points)
    slope = np.stack([distance(points + steps * e) - value for e in np.eye(3)], 1) / steps
    size = np.maximum((slope**2).sum(1, keepdims=True), 1e-6)
    moved = points - np.clip(value[:, None] * slope / size, -1, 1)
    return np.clip(moved + spread * draws.normal(size=moved.shape), -0.5, 0.5)


def _mesh_batches(
    shape: Any, n_pool: int, n_near: int, batch_size: int, spread: float, cells: np.ndarray, seed: int
) -> tuple[Callable[[], tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Return what draws batches out of a pool of points with distances, and which cells are inside."""
    mesh = meshes.mesh_in_cube(shape)
    draws = as_generator(derive_seed(seed, "pool"))
    share = n_near / batch_size
    surface, _ = meshes.sample_surface(mesh, max(round(share * n_pool), 1), random_state=draws)
    near = np.clip(surface + spread * draws.normal(size=surface.shape), -0.5, 0.5)
    pools = [near, draws.uniform(-0.5, 0.5, (max(n_pool - len(near), 1), 3))]
    values = [meshes.signed_distance(mesh, pool) for pool in pools]

    def batch() -> tuple[np.ndarray, np.ndarray]:
        picks = [
            draws.integers(len(p), size=n) for p, n in zip(pools, (n_near, batch_size - n_near), strict=True)
        ]
        points, found = (
            np.concatenate([v[i] for v, i in zip(held, picks, strict=True)]) for held in (pools, values)
        )
        return points, found

    return batch, meshes.contains(mesh, cells)


def _scene(field: nn.Module, points: Tensor) -> tuple[Tensor, Tensor]:
    """Return colour and density at points of the cube (n, 3): a logistic function, and an exponential one."""
    raw = field((points + 0.5).clamp(0, 1))
    return torch.sigmoid(raw[:, :3]), torch.exp(raw[:, 3].clamp(max=10))


def _render(
    scene: Callable[[Tensor], tuple[Tensor, Tensor]],
    origins: Tensor,
    directions: Tensor,
    n_samples: int,
    background: Any,
    jitter: bool,
) -> Tensor:
    near, far = cube_interval(origins, directions)
    depths = stratified_depths(near, far, n_samples, jitter=jitter)
    points = origins[:, None] + depths[..., None] * directions[:, None]
    rgb, sigma = scene(points.reshape(-1, 3))
    shape = depths.shape
    return composite(rgb.reshape(*shape, -1), sigma.reshape(shape), depths, far, background)[0]


@checked
@torch.no_grad()
def render_views(
    scene: Any,
    poses: Any,
    fov: float | int,
    shape: tuple[int, int],
    *,
    n_samples: int = 64,
    background: Any = "white",
) -> Float[np.ndarray, "n h w 3"]:
    """Return pictures of a scene in the cube [-0.5, 0.5]^3.

    Parameters
    ----------
    scene : NeuralField or callable
        A field of :func:`fit_volume`, or what turns points (n, 3), a tensor, into colours (n, 3) in [0, 1] and
        densities (n,) of at least 0.
    poses : array-like or Tensor, shape (n, 4, 4)
        See :func:`~lodim.shapes.rendering.camera_to_world`.
    fov : float
        Horizontal, in radians.
    shape : pair of int
        Height and width.
    n_samples : int
        Samples a ray, in the middle of equal parts of its way through the cube.
    background : {"white", "black"} or colour in [0, 1]
    """
    check_counts(n_samples=n_samples)
    origins, directions = _rays(poses, fov, *shape)
    back = _background(background)
    where = next(scene.parameters()).device if isinstance(scene, NeuralField) else torch.device("cpu")

    def told(points: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(scene, NeuralField):
            return _scene(scene, points)
        rgb, sigma = scene(points)
        low, high = (float(end) for end in check_tensor(rgb, "the scene's colours").aminmax())
        if rgb.shape != points.shape or not 0 <= low <= high <= 1:
            raise ValueError(
                f"the scene's colours must be in [0, 1], shape {tuple(points.shape)}, got {low:g} to {high:g}, "
                f"shape {tuple(rgb.shape)}"
            )
        if not bool((check_tensor(sigma, "the scene's densities") >= 0).all()):
            raise ValueError("the scene's densities must not be negative or NaN")
        return rgb, sigma

    drawn = [
        _render(told, o.to(where), d.to(where), n_samples, back, False).cpu()
        for o, d in zip(
            *(rays.split(max(_AT_ONCE // n_samples, 1)) for rays in (origins, directions)), strict=True
        )
    ]
    # sums of colours round to a little over 1
    return torch.cat(drawn).clamp(0, 1).reshape(-1, *shape, 3).numpy()


@checked
def fit_volume(
    images: Any,
    poses: Any,
    fov: float | int,
    encoding: nn.Module | str = "simplex",
    *,
    background: Any = "white",
    n_samples: int = 32,
    steps: int = 1000,
    batch_size: int = 2**10,
    lr: float | int = 1e-2,
    mlp_lr: float | int = 2e-3,
    hidden: int = 64,
    n_hidden: int = 2,
    random_state: RandomState = None,
    device: Any = None,
    progress: Progress | None = None,
    deadline: float | None = None,
) -> tuple[NeuralField, FieldReport]:
    """Fit a field of colour and density to pictures of a scene in the cube [-0.5, 0.5]^3.

    Parameters
    ----------
    images : pixels, shape (n, h, w, 3)
        uint8, uint16, or fractions in [0, 1], before the background given.
    poses : array-like or tensor, shape (n, 4, 4)
        Camera to world; cameras stand outside the cube, look along their -z axis, y is up.
    fov : float
        Horizontal field of view in radians.
    encoding : module, or {"simplex", "grid", "kuhn"}
        A module is trained in place. By name: 8 levels of at most 2^14 rows, cells of 1/8 to 1/128.
    background : {"white", "black"} or colour in [0, 1]
    n_samples : int
        Samples a ray, stratified over its way through the cube.
    batch_size : int
        Rays a step.

    Returns
    -------
    field : NeuralField
        :func:`render_views` draws it.
    report : FieldReport
        PSNR over the given views, drawn with twice the samples.

    Raises
    ------
    ValueError
        Images and poses that do not go together, a camera inside the cube, or none that sees it.
    """
    views = plain_array(images, "images")
    if views.ndim != 4 or views.shape[3] != 3 or not views.size:
        raise ValueError(f"images must have shape (n, h, w, 3), got {views.shape}")
    n, height, width, _ = views.shape
    pixels = _Pixels(views.reshape(n * height, width, 3))
    origins, directions = _rays(poses, fov, height, width)
    if len(origins) != n * height * width:
        raise ValueError(
            f"there are {n} images and {len(origins) // (height * width)} poses; give one an image"
        )
    inside = (origins[:: height * width].abs() < 0.5).all(1)
    if bool(inside.any()):
        raise ValueError(
            f"camera {int(inside.nonzero()[0])} is inside the scene's cube [-0.5, 0.5]^3; scale the poses so that all "
            "stand outside"
        )
    near, far = cube_interval(origins, directions)
    # rays that miss the cube show the background whatever the field is
    meets = (far > near).nonzero()[:, 0]
    if not len(meets):
        raise ValueError(
            "no ray meets the cube [-0.5, 0.5]^3: cameras look along their -z axis; check poses and fov"
        )
    seed = root_seed(random_state)
    field, device = _field(encoding, (3, 4), hidden, n_hidden, seed, device, **_IN_3D)
    back = _background(background)

    def loss() -> Tensor:
        at = meets[torch.randint(len(meets), (batch_size,))]
        rays = origins[at].to(device), directions[at].to(device)
        drawn = _render(lambda p: _scene(field, p), *rays, n_samples, back, True)
        return (drawn - pixels.values(at.numpy()).to(device)).square().mean()

    result = _descend(loss, field, steps, batch_size, lr, mlp_lr, seed, progress, deadline)
    drawn = render_views(field, poses, fov, (height, width), n_samples=2 * n_samples, background=background)
    truth = pixels.values(slice(None)).numpy()
    quality = math.nan
    # a field that has diverged has no quality
    if np.isfinite(drawn).all():
        quality = float(psnr(drawn.reshape(n * height, -1), truth.reshape(n * height, -1)))
    return field, _report("volume", field, result, psnr=quality)


def _background(background: Any) -> Tensor:
    colour = background_colour(background, torch.empty(3))
    if not bool(((colour >= 0) & (colour <= 1)).all()):
        raise ValueError(f"background must be in [0, 1] like the colours, got {background}")
    return colour


def _rays(poses: Any, fov: float | int, height: int, width: int) -> tuple[Tensor, Tensor]:
    held = check_numbers(poses, "poses", dtype=np.float32)
    if held.shape[1:] != (4, 4) or not len(held) or not np.isfinite(held).all():
        raise ValueError(f"poses must be finite matrices, camera to world, shape (n, 4, 4), got {held.shape}")
    origins, directions = pinhole_rays(torch.tensor(held), fov, height, width)
    return origins.reshape(-1, 3), directions.reshape(-1, 3)


def _field(
    encoding: nn.Module | str, dims: tuple[int, int], hidden: int, n_hidden: int, seed: int, device: Any,
    **sizes: Any,
) -> tuple[NeuralField, torch.device]:  # fmt: skip
    """Return the field, of an encoding or one by name, and where it is: the device asked for, or the encoding's."""
    d, out_dim = dims
    if isinstance(encoding, str):
        check_choice(encoding, KINDS, "encoding")
        encoding = HashEncoding(d, kind=encoding, random_state=derive_seed(seed, "tables"), **sizes)
    elif getattr(encoding, "in_dim", d) != d:
        raise ValueError(f"the encoding is of {encoding.in_dim} dimensions, but {d} are needed")
    own = next(encoding.parameters(), torch.empty(0)).device
    where = own if device is None else check_device(device)
    field = NeuralField(encoding, out_dim, hidden, n_hidden, random_state=derive_seed(seed, "network"))
    return field.to(where), where


def _descend(
    loss: Callable[[], Tensor],
    field: NeuralField,
    steps: int,
    batch_size: int,
    lr: float | int,
    mlp_lr: float | int,
    seed: int,
    progress: Progress | None,
    deadline: float | None,
) -> DescentResult:
    check_counts(steps=steps, batch_size=batch_size)
    if not 0 < check_in_range(mlp_lr, "mlp_lr") < math.inf:
        raise ValueError(f"mlp_lr must be positive and finite, got {mlp_lr}")
    recipe = DescentRecipe(steps=steps, batch_size=batch_size, lr=lr, schedule="cosine")
    groups = field.param_groups(lr, mlp_lr)
    return descend(
        loss, groups, recipe, random_state=derive_seed(seed, "steps"), progress=progress, deadline=deadline
    )


def _report(
    task: str, field: NeuralField, result: DescentResult, psnr: float = math.nan, iou: float = math.nan
) -> FieldReport:
    held, tables = [*field.parameters()], [*field.encoding.parameters()]
    return FieldReport(
        task,
        str(getattr(field.encoding, "kind", type(field.encoding).__name__)),
        psnr,
        iou,
        result.seconds,
        result.steps,
        sum(p.numel() for p in held),
        sum(p.numel() for p in tables),
        sum(p.numel() * p.element_size() for p in held),
        np.asarray(to_numpy(result.losses))[:, 0],
        result.stopped,
    )
