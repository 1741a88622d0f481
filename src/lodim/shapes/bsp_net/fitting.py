r"""Training :class:`BSPNet`: the planes of one shape (:func:`fit_shape`), or of many (:func:`fit_autoencoder`).

One shape needs no network. With planes that may bound any convex, phase 0 learns a T that is nearly the same for all
convexes, and cutting it leaves few of them: ``init="phases"``. By default every convex has planes of its own
(``connections="private"``), which start as random polytopes about centres of k-means of the inside, and phase 1 alone
fits them. Two things make its convexes as large as the shape and its corners sharp:

- ``shift=0.5`` puts the planes, not the middle of the ramp outside them, on the boundary, see
  :mod:`lodim.shapes.bsp_net.model`. It wants points as dense on one side of the boundary as on the other, so none are
  drawn for being inside; what is near the boundary is drawn more often, on both sides alike.
- all planes are multiplied by a *sharpness* that grows from 1 to ``sharpness`` in the course of training. Ramps are
  long at first, so that every plane feels far points, and short in the end: where two planes meet, values add, and the
  level 1/2 cuts the corner by about the length of the ramp.

Source: Z. Chen, A. Tagliasacchi, H. Zhang, 2019, arXiv 1911.06971, sections 3.1 and 4. Departures: fitting without a
network, k-means, sharpness.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import binary_dilation
from torch import Tensor, nn

from lodim.nets import mlp
from lodim.randomness import RandomState, as_generator, build_seeded, derive_seed, root_seed
from lodim.shapes.bsp_net.convexes import cells_of, cells_to_points
from lodim.shapes.bsp_net.model import PHASES, BSPNet, VoxelEncoder
from lodim.shapes.meshes import contains, mesh_in_cube
from lodim.training import DescentRecipe, DescentResult, descend
from lodim.validation import (
    check_choice,
    check_counts,
    check_in_range,
    check_numbers,
    check_tensor,
    checked,
)

__all__ = ["ImplicitNet", "fit_autoencoder", "fit_image_encoder", "fit_shape", "sample_both_sides"]

SLOPE = 20.0
RADIUS = 0.05
NEAR = 0.7
MEAN_STEPS, MEAN_POINTS, MEAN_LR = 500, 2000, 0.05
CELLS = {2: 256, 3: 44}


def _inside_of(shape: Any, dim: int) -> Callable[[np.ndarray], np.ndarray]:
    """Turn a shape into a function of points: bool."""
    if dim == 2:
        if not callable(shape):
            raise TypeError(f"a shape in 2-D must be a function of points (n, 2), got {type(shape).__name__}")
        return lambda points: contains(lambda x: shape(x[:, :2]), np.pad(points, ((0, 0), (0, 1))))
    if not callable(shape) and (hasattr(shape, "faces") or not hasattr(shape, "contains")):
        shape = mesh_in_cube(shape)
    return lambda points: contains(shape, points)


def _centres(n: int, dim: int) -> np.ndarray:
    return cells_to_points(cells_of(n, dim), n)


@checked
def sample_both_sides(
    shape: Any, cells: int, dim: int = 3, near: float | int = NEAR, random_state: RandomState = None
) -> tuple[Float[np.ndarray, "n dim"], Bool[np.ndarray, " n"]]:
    """Draw points in the cube, with their occupancy: one in each cell of a grid, and more in cells near the boundary.

    Near are the cells at which the answer changes and their neighbours; they lie on both sides alike, which
    ``shift=0.5`` needs.

    Parameters
    ----------
    shape : function of points, solid, mesh, path or (vertices, faces)
        As of :func:`~lodim.shapes.contains`; in 2-D a function, whose answer is bool (inside) or float (inside where
        <= 0).
    cells : int
        Along a side of the grid.
    near : float
        Share of the points that lie near the boundary, in [0, 0.95].

    Raises
    ------
    ValueError
        A shape without a point inside, one that fills the cube, or a mesh beyond it.
    """
    check_counts(cells=cells)
    check_choice(dim, (2, 3), "dim")
    near = float(check_in_range(near, "near", low=0.0, high=0.95))
    rng = as_generator(random_state)
    inside_of = _inside_of(shape, dim)
    points = _centres(int(cells), dim)
    points = points + rng.uniform(-0.5, 0.5, points.shape) / cells
    inside = inside_of(points)
    if inside.all() or not inside.any():
        what = "fills the cube" if inside.any() else "has no point inside the cube"
        raise ValueError(
            f"the shape {what} [-0.5, 0.5]^{dim}, as far as {len(points):,} points tell; scale it into the cube "
            "(lodim.shapes.to_unit_cube for meshes), or raise cells if it is thin"
        )
    grid = inside.reshape((int(cells),) * dim)
    changes = np.zeros_like(grid)
    for axis in range(dim):
        here, there = ([slice(None)] * dim for _ in range(2))
        here[axis], there[axis] = slice(1, None), slice(None, -1)
        differ = grid[tuple(here)] != grid[tuple(there)]
        changes[tuple(here)] |= differ
        changes[tuple(there)] |= differ
    band = points[binary_dilation(changes).ravel()]
    more = band[rng.integers(len(band), size=round(len(points) * near / (1 - near)))]
    # off their own places by 3/4 of a cell: beyond the cube, where nothing is known, they would come back as copies
    more = np.clip(more + rng.uniform(-0.75, 0.75, more.shape) / cells, -0.5, 0.5)
    return np.concatenate([points, more]), np.concatenate([inside, inside_of(more)])


def _random_polytopes(
    inside: np.ndarray, n_convexes: int, n_planes: int, seed: int
) -> Float[np.ndarray, "dim1 p"]:
    """Planes of private convexes about the centres of k-means, with random normals."""
    from sklearn.cluster import KMeans

    rng, dim = as_generator(seed), inside.shape[1]
    n_clusters = min(n_convexes, len(np.unique(inside, axis=0)))
    chosen = inside[rng.permutation(len(inside))[: max(5000, n_clusters)]]
    n_clusters = min(n_clusters, len(chosen))
    centres = (
        KMeans(n_clusters, n_init=3, random_state=derive_seed(seed, "k-means")).fit(chosen).cluster_centers_
    )
    centres = centres[np.arange(n_convexes) % n_clusters]
    normals = rng.normal(size=(n_convexes, n_planes // n_convexes, dim))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    offsets = -(normals * centres[:, None]).sum(-1) - RADIUS
    return SLOPE * np.concatenate([normals, offsets[..., None]], -1).reshape(-1, dim + 1).T


class _Sharpness:
    """A factor of all planes that grows geometrically with the share of the training that is done."""

    def __init__(self, last: float, on_step: Callable[[Any], Any] | None) -> None:
        self.last, self.on_step, self.now = last, on_step, 1.0

    def __call__(self, run: Any) -> None:
        self.now = self.last**run.share_done
        if self.on_step is not None:
            self.on_step(run)

    def state_dict(self) -> dict[str, float]:
        return {"now": self.now}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.now = state["now"]


@checked
def fit_shape(
    shape: Any,
    n_planes: int = 256,
    n_convexes: int = 16,
    *,
    dim: int = 3,
    init: str = "kmeans",
    steps: int = 4000,
    batch_size: int = 3000,
    lr: float | int = 0.1,
    shift: float | int = 0.5,
    sharpness: float | int = 20.0,
    cells: int | None = None,
    random_state: RandomState = None,
    progress: Callable[[float, str], Any] | None = None,
    deadline: float | None = None,
    on_step: Callable[[Any], Any] | None = None,
) -> tuple[BSPNet, Tensor]:
    """Fit the planes of one shape.

    Parameters
    ----------
    shape
        As of :func:`sample_both_sides`, inside the cube [-0.5, 0.5]^dim.
    n_planes, n_convexes : int
        With ``init="kmeans"`` the first is a multiple of the second. Not all convexes live to the end.
    init : {"kmeans", "phases"}
        Private planes about centres of k-means and phase 1; or free planes and a learned T: a half of the steps in
        phase 0, a quarter each in phases 1 and 3, at a tenth of ``lr``, without sharpness.
    steps, batch_size, lr
        Points a step; Adam, whose rate falls as a cosine.
    shift, sharpness : float
        See the module; 0 and 1 are the paper's.
    cells : int, optional
        Of :func:`sample_both_sides`; 44 in 3-D and 256 in 2-D by default.
    progress, deadline, on_step
        As in :func:`~lodim.training.descend`.

    Returns
    -------
    net : BSPNet
        Without an encoder, in the phase that was reached; ``net.training_`` says how that went.
    planes : Tensor, shape (1, dim + 1, n_planes)

    Raises
    ------
    ValueError
        A shape with nothing inside the cube, or numbers out of range.
    """
    check_choice(init, ("kmeans", "phases"), "init")
    check_choice(dim, (2, 3), "dim")
    check_counts(n_planes=n_planes, n_convexes=n_convexes, steps=steps, batch_size=batch_size)
    sharpness = float(check_in_range(sharpness, "sharpness", low=1.0, high=1e4))
    seed = root_seed(random_state)
    private = init == "kmeans"
    net = BSPNet(
        n_planes, n_convexes, dim, encoder=None, phase=1 if private else 0, shift=shift,
        connections="private" if private else "learned", random_state=derive_seed(seed, "weights"),
    )  # fmt: skip
    points, inside = sample_both_sides(
        shape, CELLS[dim] if cells is None else cells, dim, random_state=derive_seed(seed, "points")
    )
    data = torch.from_numpy(points).float(), torch.from_numpy(inside)
    groups = n_convexes if private else n_planes
    start = _random_polytopes(points[inside], groups, n_planes, derive_seed(seed, "start"))
    planes = nn.Parameter(torch.from_numpy(start).float()[None])
    grow = _Sharpness(sharpness, on_step)
    stages = [(1, 1.0)] if private else [(0, 0.5), (1, 0.25), (3, 0.25)]
    done = 0.0
    for phase, share in stages:
        net.set_phase(phase)
        # T is trained where it is trained at all; in phase 1 it stands still, and W after phase 0
        moving = (
            [planes]
            if private
            else [planes, *([net.T] if phase != 1 else []), *([net.W] if phase == 0 else [])]
        )
        recipe = DescentRecipe(
            steps=max(1, round(steps * share)), lr=lr if private else lr / 10, batch_size=batch_size,
            schedule="cosine",
        )  # fmt: skip
        net.training_ = descend(
            lambda x, f: net.loss(planes * grow.now, x, f), moving, recipe, data,
            random_state=derive_seed(seed, "training", phase), deadline=deadline,
            on_step=grow if private else on_step, progress=_share(progress, done, share),
        )  # fmt: skip
        done += share
        if net.training_.stopped != "budget":
            break
    return net, (planes * grow.now).detach()


def _share(progress: Callable[[float, str], Any] | None, done: float, share: float) -> Any:
    return None if progress is None else lambda part, text: progress(done + share * part, text)


@checked
class ImplicitNet(nn.Module):
    """The peer of :class:`BSPNet` with the same encoder: a plain implicit decoder, as in IM-Net.

    Code and point go together through fully connected layers to the occupancy, whose surface needs marching cubes.

    Source: Z. Chen, H. Zhang, 2018, arXiv 1812.02822; smaller, and without its skip connections.
    """

    encoder: VoxelEncoder
    decoder: nn.Sequential

    def __init__(
        self, code_dim: int = 256, *, resolution: int = 64, width: int = 32, hidden: Sequence[int] = (256, 256, 128),
        random_state: RandomState = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.training_: DescentResult | None = None

        def build() -> None:
            self.encoder = VoxelEncoder(3, resolution, width, code_dim)
            self.decoder = mlp((code_dim + 3, *hidden, 1))

        build_seeded(build, root_seed(random_state))

    def forward(self, points: Tensor, codes: Tensor) -> Float[Tensor, "batch n"]:
        """Return the probability that points (batch, n, 3) are inside."""
        # the first layer is linear, so that the code's part of it is the same for all points of a shape
        first: Any = self.decoder[0]
        code, place = first.weight.split([codes.shape[1], 3], 1)
        found = (2 * points) @ place.T + ((2 * codes - 1) @ code.T + first.bias)[:, None]
        return torch.sigmoid(self.decoder[1:](found)[..., 0])

    def loss(self, voxels: Tensor, points: Tensor, occupancy: Tensor) -> Float[Tensor, ""]:
        """Return the mean squared error of the occupancy."""
        found = self(points, self.encoder(voxels))
        return (found - occupancy.to(found)).square().mean()


@checked
def fit_autoencoder(
    model: BSPNet | ImplicitNet,
    voxels: Any,
    points: Any = None,
    occupancy: Any = None,
    *,
    stages: Sequence[tuple[int, int | None, int]] = ((0, 16, 1000), (0, 32, 1000), (3, None, 1000)),
    batch_size: int = 16,
    n_points: int = 2048,
    lr: float | int = 1e-3,
    sharpness: float | int = 1.0,
    start: bool = True,
    random_state: RandomState = 0,
    progress: Callable[[float, str], Any] | None = None,
    deadline: float | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    on_step: Callable[[Any], Any] | None = None,
) -> DescentResult:
    """Train an auto-encoder of shapes, a :class:`BSPNet` or :class:`ImplicitNet`, in stages.

    Parameters
    ----------
    model
    voxels : array or Tensor, shape (n, r, ..., r)
        What the encoder sees, 1 or True inside.
    points, occupancy : arrays, shapes (n, m, dim) and (n, m), optional
        Labelled points of each shape, such as from :func:`sample_both_sides`; ``n_points`` of them are drawn in a step.
        Without them the centres of the voxels are.
    stages : sequence of (phase, resolution, steps)
        One after another. With a resolution, the points are the cell centres of such a grid, a cell being inside
        if half of its voxels are; None: the points given. The paper goes from 16 to 32 and 64 in phase 0.
    batch_size, n_points
        Shapes in a step, and points of each.
    sharpness : float
        Of planes at the end of the last stage, over which it grows from 1; see the module.
    start : bool
        Whether private planes begin at those that fit all shapes at once, which begin at k-means; False to go on with
        a model that was trained before.
    checkpoint
        Of the last stage, as in :func:`~lodim.training.descend`; the others' have ``.stage0``, ... behind the name.

    Returns
    -------
    DescentResult
        Of the last stage, or the one that a deadline or Ctrl-C cut short; kept as ``model.training_`` too.

    Raises
    ------
    ValueError
        Shapes that do not agree, or numbers out of range.
    """
    check_counts(batch_size=batch_size, n_points=n_points)
    sharpness = float(check_in_range(sharpness, "sharpness", low=1.0, high=1e4))
    seed = root_seed(random_state)
    seen, own = _checked_training(model, voxels, points, occupancy, stages)
    total, done, result = sum(stage[2] for stage in stages), 0.0, None
    for k, (phase, resolution, steps) in enumerate(stages):
        if isinstance(model, BSPNet):
            model.set_phase(phase)
        last = k == len(stages) - 1
        grow = _Sharpness(sharpness if last else 1.0, on_step)
        place, labels = own if own and resolution is None else _centres_of(seen, resolution or seen.shape[1])
        if k == 0 and start and isinstance(model, BSPNet) and model.connections == "private":
            _start_at_mean(model, seen, place, labels, derive_seed(seed, "start"))
        recipe = DescentRecipe(
            steps=steps, lr=lr, batch_size=batch_size, schedule="cosine" if last else "constant"
        )
        result = descend(
            _Batch(model, seen, place, labels, n_points, grow), [p for p in model.parameters() if p.requires_grad],
            recipe, torch.arange(len(seen)), random_state=derive_seed(seed, "stage", k), deadline=deadline,
            on_step=grow, progress=_share(progress, done, steps / total), keep={"sharpness": grow},
            checkpoint=None if checkpoint is None else checkpoint if last else f"{os.fspath(checkpoint)}.stage{k}",
        )  # fmt: skip
        done += steps / total
        if result.stopped != "budget":
            break
    if isinstance(model, BSPNet):
        with torch.no_grad():
            for p in model.decoder[-1].parameters():
                p.mul_(grow.now)
    assert result is not None
    model.training_ = result
    return result


def _checked_training(
    model: BSPNet | ImplicitNet, voxels: Any, points: Any, occupancy: Any,
    stages: Sequence[tuple[int, int | None, int]],
) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:  # fmt: skip
    """Return the voxels, and the points with their labels where any are given, once all goes together."""
    if model.encoder is None:
        raise ValueError(
            "this model has no encoder: build it with encoder='voxel', or fit one shape by fit_shape"
        )
    side, given = model.encoder.shape, check_numbers(voxels, "voxels", dtype=np.float32)
    dim = len(side)
    if given.shape[1:] != side or not len(given):
        raise ValueError(f"voxels must have shape (n, {', '.join(map(str, side))}), got {given.shape}")
    if np.isnan(given).any():
        raise ValueError(f"voxels has {int(np.isnan(given).sum())} NaN; 1 is inside and 0 outside")
    seen = torch.from_numpy(np.ascontiguousarray(given > 0.5))
    if not bool(seen.flatten(1).any(1).all()):
        raise ValueError("some shapes have no voxel inside; leave them out")
    if (points is None) != (occupancy is None):
        raise ValueError("give points and occupancy, or neither")
    own = None
    if points is not None:
        x, full = check_numbers(points, "points", dtype=np.float32), check_numbers(occupancy, "occupancy")
        if x.ndim != 3 or (len(x), x.shape[2]) != (len(seen), dim) or full.shape != x.shape[:2]:
            raise ValueError(
                f"points and occupancy must have shapes ({len(seen)}, m, {dim}) and ({len(seen)}, m), got "
                f"{x.shape} and {full.shape}"
            )
        if not (np.isfinite(x).all() and np.isfinite(full).all()):
            raise ValueError("points and occupancy must be finite, got NaN or infinite numbers")
        own = torch.tensor(x), torch.tensor(full > 0.5)
    for stage in stages:
        check_counts(steps=stage[2])
        if not isinstance(model, ImplicitNet):
            check_choice(stage[0], PHASES, "phase of a stage")
        if stage[1] is not None:
            check_in_range(stage[1], "resolution of a stage", low=2, high=seen.shape[1], integer=True)
            if seen.shape[1] % stage[1]:
                raise ValueError(f"resolution {stage[1]} does not divide that of the voxels, {seen.shape[1]}")
    if not stages:
        raise ValueError("there must be a stage at least, (phase, resolution, steps)")
    return seen, own


class _Batch:
    """The loss of shapes by their numbers, at points drawn anew."""

    def __init__(
        self, model: Any, voxels: Tensor, points: Tensor, labels: Tensor, n_points: int, grow: _Sharpness
    ) -> None:
        self.model, self.voxels, self.points, self.labels = model, voxels, points, labels
        self.n_points, self.grow = min(n_points, points.shape[-2]), grow

    def __call__(self, which: Tensor) -> Tensor:
        chosen = torch.randint(self.points.shape[-2], (len(which), self.n_points))
        here = which.cpu()
        rows = torch.arange(len(here))[:, None]
        points = self.points[chosen] if self.points.ndim == 2 else self.points[here][rows, chosen]
        labels = self.labels[here][rows, chosen]
        voxels, points, labels = (v.to(which.device) for v in (self.voxels[here], points, labels))
        points = points.to(next(self.model.parameters()).dtype)
        if not isinstance(self.model, BSPNet):
            return self.model.loss(voxels, points, labels)
        return self.model.loss(self.model.planes(voxels) * self.grow.now, points, labels)


def _centres_of(voxels: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """Cell centres of a coarser grid, and which cells are half full."""
    dim, factor = voxels.ndim - 1, voxels.shape[1] // resolution
    pool = nn.functional.avg_pool3d if dim == 3 else nn.functional.avg_pool2d
    full = torch.cat([pool(part[:, None].float(), factor)[:, 0] >= 0.5 for part in voxels.split(64)])
    return torch.from_numpy(_centres(resolution, dim)).float(), full.flatten(1)


def _start_at_mean(model: BSPNet, voxels: Tensor, points: Tensor, labels: Tensor, seed: int) -> None:
    """Let the decoder's last bias be the planes of all shapes at once, fitted as those of one shape are.

    From random polytopes the loss is so steep at first that the codes of all shapes become one.
    """
    at = voxels.nonzero()
    chosen = at[torch.from_numpy(as_generator(seed).integers(len(at), size=20_000))]
    inside = (chosen[:, 1:].double().numpy() + 0.5) / voxels.shape[1] - 0.5
    start = _random_polytopes(inside, model.n_convexes, model.n_planes, seed)
    planes = nn.Parameter(torch.from_numpy(start).float()[None])

    def loss() -> Tensor:
        shapes = torch.randint(len(voxels), (MEAN_POINTS,))
        which = torch.randint(points.shape[-2], (MEAN_POINTS,))
        x = points[which] if points.ndim == 2 else points[shapes, which]
        return model.loss(planes, x, labels[shapes, which])

    # without a deadline: a run that was cut short here would begin elsewhere than the one that goes on with it
    recipe = DescentRecipe(steps=MEAN_STEPS, lr=MEAN_LR, schedule="cosine")
    descend(loss, [planes], recipe, random_state=derive_seed(seed, "mean"), interruptible=False)
    last: Any = model.decoder[-1]
    with torch.no_grad():
        last.bias.copy_(planes.flatten())


@checked
def fit_image_encoder(
    model: BSPNet,
    encoder: nn.Module,
    images: Tensor,
    voxels: Tensor,
    *,
    steps: int = 1000,
    batch_size: int = 32,
    lr: float | int = 1e-3,
    random_state: RandomState = 0,
    progress: Callable[[float, str], Any] | None = None,
    deadline: float | None = None,
) -> DescentResult:
    """Single-view reconstruction: train an encoder of images towards the codes of a trained auto-encoder.

    ``model.planes(encoder(images))`` are then the planes; the decoder stays as it is.

    Parameters
    ----------
    encoder : nn.Module
        Images to codes (batch, code_dim), such as ``lodim.nets.resnet`` with as many outputs.
    images, voxels : Tensor, shapes (n, ...) and (n, r, r, r)
        Of the same shapes.

    Raises
    ------
    ValueError
        Not as many images as shapes, or an encoder that does not return codes.
    """
    check_tensor(images, "images")
    if not 0 < len(images) == len(voxels):
        raise ValueError(f"every image needs its voxels: got {len(images)} images, {len(voxels)} shapes")
    with torch.no_grad():
        codes = torch.cat([model.codes(part) for part in voxels.split(64)])

    def loss(x: Tensor, z: Tensor) -> Tensor:
        found = encoder(x)
        if found.shape != z.shape:
            raise ValueError(f"encoder must return codes, shape {tuple(z.shape)}, got {tuple(found.shape)}")
        return nn.functional.mse_loss(found, z)

    recipe = DescentRecipe(steps=steps, lr=lr, batch_size=batch_size, schedule="cosine")
    return descend(
        loss, encoder, recipe, (images, codes),
        random_state=random_state, progress=progress, deadline=deadline,
    )  # fmt: skip
