"""An image, a mesh or a point cloud in a given number of bytes: :func:`fit`.

An image becomes a :class:`~lodim.shapes.NeuralField`, a shape a union of convexes (:class:`~lodim.shapes.BSPNet`) or a
field of signed distances. What comes back has been written to bytes and read again before its quality is measured, and
stands beside what the usual ways make of as many bytes: JPEG and WebP, or the mesh decimated.
"""

from __future__ import annotations

import io
import math
import os
import re
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.interpolate import RegularGridInterpolator

from lodim.extras import require
from lodim.files import open_whole, write_whole
from lodim.metrics import psnr
from lodim.randomness import RandomState, derive_seed, root_seed
from lodim.results import Result
from lodim.shapes.bsp_net.convexes import Convexes, draw_polygons, grid_points_inside, solid_axes
from lodim.shapes.bsp_net.fitting import fit_shape
from lodim.shapes.meshes import (
    MESH_FILES,
    _tell_user,
    cell_axis,
    cell_centres,
    cube_of,
    decimate,
    isosurface,
    load_by_trimesh,
    sample_surface,
    save_mesh,
    simplify,
    to_unit_cube,
)
from lodim.shapes.metrics import chamfer_distance, compare_meshes, normal_consistency
from lodim.shapes.packing import largest_within, pack_field, sized_encoding, unpack_field
from lodim.shapes.points import POINT_FILES, orient_normals, point_signed_distance, read_points
from lodim.shapes.simplex_encoding.fields import fit_image, fit_sdf, render_image
from lodim.training.descent import Progress
from lodim.training.recipe import ended
from lodim.validation import check_choice, check_counts, checked, plain_array

__all__ = ["ShapeFit", "SizedQuality", "fit"]

IMAGE_FILES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
KINDS = ("image", "mesh", "points")
# bytes of the union that a convex comes to, and its planes
BYTES_A_CONVEX, PLANES = 500, 16
MOST_CONVEXES = 48
# of the union's simplification, in the cube: the first is always allowed, the others where bytes are short
TOLERANCES = (0.003, 0.01, 0.02, 0.03)
GRID = 64
# a convex that alone has less than this share of the shape's cells goes
SPARED = 0.002


@dataclass(frozen=True)
class SizedQuality(Result):
    """What one way makes of a source in so many bytes; NaN and 0 where a measure does not apply.

    Attributes
    ----------
    name : str
    n_bytes : int
    psnr : float
        In decibel.
    chamfer, chamfer_floor : float
        Squared, with the longest side of the source 0.9; and between two samples of a mesh itself. Of points, from
        as many on the surface to them.
    normal_consistency, iou : float
        IoU where source and result are watertight.
    n_vertices, n_faces : int
    """

    name: str
    n_bytes: int
    psnr: float = math.nan
    chamfer: float = math.nan
    chamfer_floor: float = math.nan
    normal_consistency: float = math.nan
    iou: float = math.nan
    n_vertices: int = 0
    n_faces: int = 0

    def __str__(self) -> str:
        if not self.n_faces:
            return f"{self.name}: {self.n_bytes:,} bytes, {self.psnr:.2f} dB"
        floor, iou = (
            "" if math.isnan(value) else text
            for value, text in (
                (self.chamfer_floor, f" (floor {self.chamfer_floor:.3g})"),
                (self.iou, f", IoU {self.iou:.3f}"),
            )
        )
        return (
            f"{self.name}: {self.n_bytes:,} bytes, {self.n_faces:,} faces, chamfer {self.chamfer:.3g}{floor}, "
            f"normals {self.normal_consistency:.3f}{iou}"
        )


@dataclass(frozen=True, eq=False)
class ShapeFit:
    """A source in few bytes; see :func:`fit`.

    Attributes
    ----------
    kind : {"image", "mesh", "points"}
    method : {"field", "polygons"}
    data : bytes
        What the source became: a field (see :func:`~lodim.shapes.unpack_field`), or a file PLY.
    qualities : tuple of SizedQuality
        Of these bytes first, then of the usual ways.
    seconds : float
        Of fitting.
    stopped : str
        Why training ended, as of :class:`~lodim.training.DescentResult`.
    image : ndarray or None
        What the bytes say, in the source's dtype: shape (h, w) or (h, w, c).
    mesh : trimesh.Trimesh or None
        What the bytes say, in the source's coordinates.
    convexes : Convexes or None
        Of polygons: the pieces, in the cube.
    parts : ndarray or None
        Of polygons, shape (n_faces,): the convex of each face.
    """

    kind: str
    method: str
    data: bytes = field(repr=False)
    qualities: tuple[SizedQuality, ...]
    seconds: float
    stopped: str
    image: np.ndarray | None = field(default=None, repr=False)
    mesh: Any = field(default=None, repr=False)
    convexes: Convexes | None = field(default=None, repr=False)
    parts: np.ndarray | None = field(default=None, repr=False)

    @property
    def n_bytes(self) -> int:
        """Length of the data."""
        return len(self.data)

    @property
    def quality(self) -> SizedQuality:
        """Of the data."""
        return self.qualities[0]

    def __str__(self) -> str:
        lines = [
            f"{self.kind}, as {self.method}, in {self.seconds:.1f} s{ended(self.stopped)}",
            *map(str, self.qualities),
        ]
        return "\n".join(lines)

    def to_frame(self) -> Any:
        """Return a row for each way, with the columns that apply."""
        import pandas as pd

        frame = pd.DataFrame([vars(one) for one in self.qualities]).set_index("name")
        applies = ["psnr"] if self.kind == "image" else [name for name in frame if name != "psnr"]
        return frame[["n_bytes", *(name for name in applies if name != "n_bytes")]]

    def plot(self, ax: Any = None) -> Any:
        """Draw what the bytes say, and return the axes, those of shapes being 3-D."""
        from lodim.plots import new_axes

        if ax is not None and (ax.name == "3d") != (self.mesh is not None):
            raise ValueError("a shape needs axes made with projection='3d', an image plain ones")
        if self.convexes is not None:
            ax = self.convexes.plot(ax)
        elif self.mesh is not None:
            ax = draw_polygons(ax or solid_axes(), self.mesh.vertices[self.mesh.faces], "0.75", edges="none")
        else:
            ax = new_axes(ax)
            pixels = _for_png(self.image)
            top = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
            ax.imshow(pixels, cmap="gray", vmin=0, vmax=top)
            ax.set_axis_off()
        ax.set_title(str(self.quality).replace(": ", "\n", 1), fontsize=9)
        return ax

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what the bytes say as another program reads it, or the bytes: whole or not at all.

        Parameters
        ----------
        path : path
            Of an image PNG (grey ones of 16 bits keep them). Of a shape OBJ or PLY, STL, GLB; polygons have a material
            a convex in OBJ and a colour in GLB. With the ending ``.field`` the bytes of a field,
            with ``.ply`` those of polygons.

        Raises
        ------
        ValueError
            An ending that does not go with the source.
        """
        place = Path(path)
        kind = place.suffix.lower()
        if (kind == ".field" and self.method == "field") or (kind == ".ply" and self.method == "polygons"):
            write_whole(place, self.data)
            return
        known = (".png",) if self.kind == "image" else (".obj", ".ply", ".stl", ".glb")
        check_choice(kind, (*known, *([".field"] if self.method == "field" else [])), "the ending of path")
        if self.image is None:
            save_mesh(self.mesh, place, parts=None if kind == ".stl" else self.parts)
            return
        from PIL import Image

        with open_whole(place) as file:
            Image.fromarray(_for_png(self.image)).save(file, "PNG")


def _for_png(image: Any) -> np.ndarray:
    """Return pixels as PNG takes them: bool and 16 bits stay so where they are grey, all others have 8 bits."""
    pixels = image[..., 0] if image.shape[2:] == (1,) else image
    if pixels.dtype == np.uint8 or (pixels.ndim == 2 and pixels.dtype.kind in "ub"):
        return pixels
    top = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
    return np.rint(pixels.astype(np.float64) / top * 255).astype(np.uint8)


@checked
def fit(
    source: Any,
    max_bytes: int = 16_384,
    *,
    kind: str = "auto",
    method: str = "auto",
    steps: int | None = None,
    random_state: RandomState = None,
    progress: Progress | None = None,
    deadline: float | None = None,
) -> ShapeFit:
    """Make of an image, a mesh or a point cloud what fits into so many bytes, and say how good it is.

    Parameters
    ----------
    source : path, image, mesh or points
        An image: a file that Pillow reads, a ``PIL.Image``, or an array (h, w) or (h, w, c) as of
        :func:`~lodim.shapes.fit_image`. A mesh: see :func:`~lodim.shapes.as_mesh`. Points: see
        :func:`~lodim.shapes.read_points`; without normals they are estimated.
    max_bytes : int
        Of what comes back.
    kind : {"auto", "image", "mesh", "points"}
        By itself: files by their ending (a PLY without faces has points), arrays of 3 axes are images, and so are those
        of 2, but for fractions or signed integers of 3 or 6 columns, which are points.
    method : {"auto", "field", "polygons"}
        Polygons for shapes, unless a field of signed distances is wanted; images are fields.
    steps : int, optional
        Of training: 2,000 of a field, 4,000 of polygons.
    progress, deadline
        As in :func:`~lodim.training.descend`.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, TypeError
    ValueError
        Another kind of source, a damaged file, a shape without inside, or too few bytes for anything.

    Examples
    --------
    >>> import trimesh
    >>> found = fit(trimesh.creation.box((2, 1, 1)), max_bytes=1000, steps=1000, random_state=0)
    >>> found.n_bytes <= 1000, found.mesh.is_watertight, found.quality.iou > 0.9
    (True, True, True)
    """
    check_counts(max_bytes=max_bytes)
    check_choice(kind, ("auto", *KINDS), "kind")
    check_choice(method, ("auto", "field", "polygons"), "method")
    if steps is not None:
        check_counts(steps=steps)
    kind = _kind(source) if kind == "auto" else kind
    if kind == "image" and method == "polygons":
        raise ValueError('polygons are made of meshes and points; an image takes method="field"')
    seed, watch = root_seed(random_state), {"progress": progress, "deadline": deadline}
    if kind == "image":
        return _fit_image(_read_image(source), max_bytes, steps, seed, watch)
    make = _fit_field if method == "field" else _fit_polygons
    return make(_Source(source, kind, seed), max_bytes, steps, seed, watch)


def _kind(source: Any) -> str:
    if isinstance(source, str | os.PathLike):
        ending = Path(source).suffix.lower()
        if ending == ".ply":
            found = load_by_trimesh(Path(source)) if Path(source).is_file() else None
            return "mesh" if found is None or len(getattr(found, "faces", ())) else "points"
        if ending == ".npy" and Path(source).is_file():
            return _kind(_load_npy(Path(source), mmap_mode="r"))
        for kind, endings in (("image", IMAGE_FILES), ("mesh", MESH_FILES), ("points", POINT_FILES)):
            if ending in endings:
                return kind
        raise ValueError(
            f"{Path(source).name} is no file of a known kind: images end in {', '.join(IMAGE_FILES)}, meshes in "
            f"{', '.join(MESH_FILES)}, points in {', '.join(POINT_FILES)}"
        )
    if hasattr(source, "getexif"):
        return "image"
    if _is_of_trimesh(source):
        return "mesh" if hasattr(source, "faces") or hasattr(source, "geometry") else "points"
    if isinstance(source, tuple) or callable(getattr(source, "mesh", None)):
        return "mesh"
    if callable(source):
        raise TypeError(
            "a function has no bytes to compare with; fit it by lodim.shapes.fit_sdf or fit_shape"
        )
    pixels = plain_array(source, "source")
    points = pixels.ndim == 2 and pixels.shape[1] in (3, 6) and pixels.dtype.kind in "fi"
    return "points" if points else "image"


def _is_of_trimesh(source: Any) -> bool:
    return any(kind.__module__.partition(".")[0] == "trimesh" for kind in type(source).__mro__)


def _load_npy(path: Path, mmap_mode: Any = None) -> np.ndarray:
    try:
        return np.lib.format.open_memmap(path, "r") if mmap_mode else np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path.name} cannot be read as NPY ({error})") from error


def _read_image(source: Any) -> np.ndarray:
    """Return pixels: grey or colours, with alpha where there is any, of 8 bits, 16, or fractions."""
    if not isinstance(source, str | os.PathLike) and not hasattr(source, "getexif"):
        pixels = plain_array(source, "image")
        if not pixels.ndim or pixels.dtype.kind not in "biufc":
            raise TypeError(
                f"an image is a path, a PIL.Image or an array of numbers, got {type(source).__name__}"
            )
        return pixels
    from PIL import Image, ImageOps

    name: str = "the image"
    opened: Any = source
    if not hasattr(source, "getexif"):
        path = Path(source)
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder; give the file of an image")
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        name = path.name
        if path.suffix.lower() == ".npy":
            return _load_npy(path)
    try:
        opened = source if hasattr(source, "getexif") else Image.open(path)
        n_frames = getattr(opened, "n_frames", 1)
        # not of 16 bits a pixel, which has no letter for their order
        cut = opened.mode[0] != "I" and re.search(";16[BLN]", str(getattr(opened, "tile", "")))
        image = ImageOps.exif_transpose(opened)
        image.load()
    except Exception as error:  # its readers raise a dozen kinds
        raise ValueError(f"{name} cannot be read as an image ({error})") from error
    if n_frames > 1:
        _tell_user(f"{name} has {n_frames} frames; the first is taken")
    if cut:
        _tell_user(f"{name} has numbers of 16 bits, of which Pillow reads 8")
    if image.mode.startswith("I"):
        pixels = np.asarray(image)
        if pixels.min() < 0 or pixels.max() > 65535:
            raise ValueError(f"{name} has grey values from {pixels.min()} to {pixels.max()}, not of 16 bits")
        return pixels.astype(np.uint16)
    if image.mode == "La":
        image = image.convert("LA")
    clear = image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info
    if image.mode in ("1", "L", "F") and not clear:
        return np.asarray(image.convert("L") if image.mode == "1" else image)
    return np.asarray(image.convert("RGBA" if clear else "RGB"))


def _fit_image(pixels: np.ndarray, max_bytes: int, steps: int | None, seed: int, watch: Any) -> ShapeFit:
    if pixels.ndim not in (2, 3) or not pixels.size:
        raise ValueError(f"image must have shape (h, w) or (h, w, c), got {pixels.shape}")
    shape, channels = pixels.shape[:2], 1 if pixels.ndim == 2 else pixels.shape[2]
    encoding, hidden = sized_encoding(2, channels, max(shape), max_bytes, derive_seed(seed, "tables"))
    fitted, report = fit_image(
        pixels, encoding, steps=steps or 2000, hidden=hidden, random_state=seed, **watch
    )
    data = pack_field(fitted, max_bytes)
    drawn = render_image(unpack_field(data), shape)
    top = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
    truth = pixels.reshape(drawn.shape) / top
    image = np.rint(drawn * top) if pixels.dtype.kind in "ub" else drawn
    image = image.astype(pixels.dtype).reshape(pixels.shape)

    def decibel(shown: np.ndarray) -> float:
        return float(psnr(shown.reshape(shape[0], -1).astype(np.float64), truth.reshape(shape[0], -1)))

    found = [SizedQuality("simplex field", len(data), decibel(image.reshape(drawn.shape) / top))]
    found += [SizedQuality(name, size, decibel(shown)) for name, size, shown in _codecs(truth, len(data))]
    return ShapeFit("image", "field", data, tuple(found), report.seconds, report.stopped, image=image)


def _codecs(truth: np.ndarray, n_bytes: int) -> list[tuple[str, int, np.ndarray]]:
    """Compress an image in [0, 1] by the formats that take it: in so many bytes, or as few as they can."""
    from PIL import Image

    channels = truth.shape[2]
    eight = np.rint(truth * 255).astype(np.uint8)
    image = Image.fromarray(eight[..., 0] if channels == 1 else eight)
    options: dict[str, Any] = {"JPEG": {"optimize": True}, "WebP": {"method": 6, "exact": True}}
    largest = {"JPEG": 65_500, "WebP": 16_383}
    found = []
    for name in ("JPEG", "WebP")[channels == 4 :]:
        if max(image.size) > largest[name]:
            continue

        def written(quality: int, name: str = name) -> bytes:
            held = io.BytesIO()
            image.save(held, name, quality=quality, **options[name])
            return held.getvalue()

        data = largest_within(n_bytes, written, 1, 96)
        shown = np.asarray(Image.open(io.BytesIO(data)).convert(image.mode))
        found.append((name, len(data), shown.reshape(truth.shape) / 255))
    return found


class _Source:
    """A shape in the cube: whether points are inside, its surface, and how near another is."""

    def __init__(self, source: Any, kind: str, seed: int) -> None:
        self.kind, self.seed, self.points = kind, seed, None
        if kind == "mesh":
            self.mesh, self.cube = to_unit_cube(source)
            self.inside: Any = self.mesh
            self.distance: Any = self.mesh
            return
        points, normals = read_points(source.vertices if _is_of_trimesh(source) else source)
        if not np.ptp(points, axis=0).any():
            raise ValueError("the points are all one: there is no shape")
        self.cube = cube_of(points.min(0), points.max(0))
        self.points = self.cube.apply(points)
        self.normals = orient_normals(self.points) if normals is None else normals
        self.inside = lambda at: point_signed_distance(self.points, self.normals, at)
        values = self.inside(cell_centres(GRID)).reshape((GRID,) * 3)
        self.mesh = isosurface(values)
        # a field asks for distances so often that neighbours would take most of the time
        axes = [cell_axis(GRID)] * 3
        self.distance = RegularGridInterpolator(axes, values, bounds_error=False, fill_value=None)

    def judge(self, name: str, n_bytes: int, mesh: Any) -> SizedQuality:
        if self.points is None:
            found: Any = compare_meshes(mesh, self.mesh, random_state=derive_seed(self.seed, "judge"))
            measures = (found.chamfer, found.chamfer_floor, found.normal_consistency, found.iou)
        else:
            drawn, normals = sample_surface(mesh, len(self.points), derive_seed(self.seed, "judge"))
            measures = (
                chamfer_distance(drawn, self.points),
                math.nan,
                normal_consistency(drawn, normals, self.points, self.normals),
                math.nan,
            )
        return SizedQuality(name, n_bytes, math.nan, *measures, len(mesh.vertices), len(mesh.faces))

    def beside(self, n_bytes: int) -> list[SizedQuality]:
        """The source's mesh, or as much of it as takes no more bytes."""

        def decimated(n_faces: int) -> bytes:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return _ply(decimate(self.mesh, n_faces))

        name, mesh, data = "the mesh itself", self.mesh, _ply(self.mesh)
        if len(data) > n_bytes:
            # a face takes 13 bytes, and 6 at least for its share of vertices
            data = largest_within(n_bytes, decimated, 4, max(n_bytes // 19, 4) + 1)
            name, mesh = "decimated", _read_ply(data)
        return [self.judge(name, len(data), mesh)] if len(mesh.faces) and len(data) <= n_bytes else []


def _ply(mesh: Any) -> bytes:
    bare = require("trimesh", "shapes").Trimesh(mesh.vertices, mesh.faces, process=False)
    return bare.export(file_type="ply")


def _read_ply(data: bytes) -> Any:
    trimesh = require("trimesh", "shapes")
    return trimesh.load(io.BytesIO(data), file_type="ply", process=False)


def _moved(mesh: Any, move: Callable[[Any], Any]) -> Any:
    moved = mesh.copy()
    moved.vertices = move(mesh.vertices)
    return moved


def _nearest_convex(points: np.ndarray, rows: list[np.ndarray], ids: np.ndarray) -> np.ndarray:
    """Return whose convex each point is in, or least far out of."""
    out = [
        ((own[:, :3] @ points.T + own[:, 3:]) / np.linalg.norm(own[:, :3], axis=1)[:, None]).max(0)
        for own in rows
    ]
    return ids[np.argmin(out, axis=0)]


def _fit_polygons(source: _Source, max_bytes: int, steps: int | None, seed: int, watch: Any) -> ShapeFit:
    n = min(max(max_bytes // BYTES_A_CONVEX, 2), MOST_CONVEXES)
    started = time.perf_counter()
    net, planes = fit_shape(source.inside, n * PLANES, n, steps=steps or 4000, random_state=seed, **watch)
    seconds = time.perf_counter() - started
    trained: Any = net.training_
    found, rows = net.extract(planes, prune=True), net.halfspaces(planes)
    if not found.polytopes:
        raise ValueError("no convex has an inside after training; give it more steps")
    own = [grid_points_inside(rows[j], GRID, 0.5) for j in found.ids]
    count = np.bincount(np.concatenate(own), minlength=GRID**3)
    kept = list(range(len(own)))
    while True:
        # the one whose loss costs least goes: while it is spared easily, then until the rest fits
        alone = [int((count[own[k]] == 1).sum()) for k in kept]
        if len(kept) == 1 or min(alone) >= SPARED * (count > 0).sum():
            chosen = Convexes(tuple(found.polytopes[k] for k in kept), found.ids[kept])
            united = chosen.union()
            for tolerance in TOLERANCES:
                simple = simplify(united, tolerance)
                data = _ply(_moved(simple, source.cube.undo))
                if len(data) <= max_bytes:
                    break
            if len(data) <= max_bytes:
                break
            if len(kept) == 1:
                raise ValueError(f"max_bytes={max_bytes} is too little: one convex alone takes {len(data)}")
        count[own[kept.pop(int(np.argmin(alone)))]] -= 1
    mesh = _read_ply(data)
    first = source.judge(f"{len(kept)} convexes", len(data), _moved(mesh, source.cube.apply))
    return ShapeFit(
        source.kind, "polygons", data, (first, *source.beside(len(data))), seconds, trained.stopped, mesh=mesh,
        convexes=chosen,
        parts=_nearest_convex(simple.triangles_center, [rows[j] for j in chosen.ids], chosen.ids),
    )  # fmt: skip


def _fit_field(source: _Source, max_bytes: int, steps: int | None, seed: int, watch: Any) -> ShapeFit:
    encoding, hidden = sized_encoding(3, 1, 2 * GRID, max_bytes, derive_seed(seed, "tables"))
    fitted, report = fit_sdf(
        source.distance, encoding, steps=steps or 2000, hidden=hidden, random_state=seed, **watch
    )
    data = pack_field(fitted, max_bytes)
    values = unpack_field(data).predict(cell_centres(GRID) + 0.5)[:, 0].reshape((GRID,) * 3)
    if not (values <= 0).any():
        raise ValueError(
            "the field has no inside on 64^3 cells; give it more steps or more bytes, or a shape that has an inside"
        )
    mesh = isosurface(values)
    first = source.judge("simplex field", len(data), mesh)
    return ShapeFit(
        source.kind, "field", data, (first, *source.beside(len(data))), report.seconds, report.stopped,
        mesh=_moved(mesh, source.cube.undo),
    )  # fmt: skip
