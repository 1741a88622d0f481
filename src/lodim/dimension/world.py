"""The world of shapes that the calibrated dimension is learnt on: many families of known dimension, drawn at random.

A family draws ``n`` points of a shape of dimension ``d`` (or of the nearest dimension it has) with shape parameters of
its own; together they vary density, boundary, curvature, tails, anisotropy, topology and the number of coordinates.
The families were fixed before the benchmark manifolds (:mod:`lodim.datasets.benchmark_manifolds`) were looked at by
anything learnt from them, and those manifolds are not among them.

A truth that the points cannot show is no truth to learn: a sample whose shape bends between a point and its first
neighbours, or whose noise is as large as their distances, is not ``resolved``. How much a shape bends: how far
the image of the middle of two points lies from the middle of their images.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Rng = np.random.Generator
Embed = Callable[[np.ndarray], np.ndarray]

LARGEST_DIMENSION = 100
_PROBES = 150  # points at which bending and the distances that noise is measured by are looked at
MOST_BENT, MOST_NOISE = 0.3, 0.3


@dataclass(frozen=True)
class Shape:
    """Points ``(n, m)``, with their own coordinates and the map from those to the points where there is one."""

    points: Float[np.ndarray, "n m"]
    latent: Float[np.ndarray, "n q"] | None = None
    embed: Embed | None = None


@dataclass(frozen=True)
class Sample:
    """One simulated data set, with how far it bends between neighbours (distance from the middle of a chord to the
    shape, over the chord) and the norm of its noise over the distance to the first neighbour: medians over points.
    """

    points: Float[np.ndarray, "n m"]
    family: str
    dimension: int
    bending: float
    noise: float

    @property
    def resolved(self) -> bool:
        """Whether the points can show the dimension at all."""
        return self.bending < MOST_BENT and self.noise < MOST_NOISE


def _mapped(latent: np.ndarray, embed: Embed) -> Shape:
    return Shape(embed(latent), latent, embed)


def _directions(rng: Rng, n: int, d: int) -> np.ndarray:
    points = rng.standard_normal((n, d))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def _ball(rng: Rng, n: int, d: int) -> Shape:
    return Shape(_directions(rng, n, d) * rng.random((n, 1)) ** (1 / d))


def _cube(rng: Rng, n: int, d: int) -> Shape:
    sides = rng.uniform(0.6, 1, d) if rng.random() < 0.5 else np.ones(d)
    return Shape(rng.random((n, d)) * sides)


def _gaussian(rng: Rng, n: int, d: int) -> Shape:
    return Shape(rng.standard_normal((n, d)))


def _student(rng: Rng, n: int, d: int) -> Shape:
    freedom = rng.uniform(3, 15)
    if rng.random() < 0.5:
        return Shape(rng.standard_t(freedom, (n, d)))
    return Shape(rng.standard_normal((n, d)) / np.sqrt(rng.chisquare(freedom, (n, 1)) / freedom))


def _anisotropic(rng: Rng, n: int, d: int) -> Shape:
    scales = np.exp(rng.uniform(math.log(rng.uniform(0.3, 1)), 0, d))
    return Shape(rng.standard_normal((n, d)) * scales)


def _lp_ball(rng: Rng, n: int, d: int) -> Shape:
    p = math.exp(rng.uniform(math.log(0.7), math.log(8)))
    powers = rng.gamma(1 / p, size=(n, d))
    signs = rng.choice([-1.0, 1.0], (n, d))
    return Shape(signs * (powers / (powers.sum(1, keepdims=True) + rng.exponential(size=(n, 1)))) ** (1 / p))


def _simplex(rng: Rng, n: int, d: int) -> Shape:
    weights = rng.gamma(1.0 if rng.random() < 0.5 else rng.uniform(0.8, 4), size=(n, d + 1))
    return Shape(weights / weights.sum(1, keepdims=True))


def _cap(rng: Rng, n: int, d: int) -> Shape:
    """Points of the sphere within an angle of its pole, uniform (their angle by its inverse law on a grid)."""
    grid = np.linspace(0, rng.uniform(0.4, 2.2), 2000)
    volume = np.cumsum(np.sin(grid) ** (d - 1) if d > 1 else np.ones_like(grid))
    angle = np.interp(rng.random(n), volume / volume[-1], grid)
    return Shape(np.column_stack([np.sin(angle)[:, None] * _directions(rng, n, d), np.cos(angle)]))


def _radial(rng: Rng, n: int, d: int) -> Shape:
    if rng.random() < 0.6:
        radius = rng.random((n, 1)) ** (math.exp(rng.uniform(-1, 1)) / d)
    else:
        radius = np.exp(rng.uniform(0.1, 1.2) / math.sqrt(d) * rng.standard_normal((n, 1)))
    return Shape(_directions(rng, n, d) * radius)


def _shell(rng: Rng, n: int, d: int) -> Shape:
    inner = rng.uniform(0.2, 0.8) ** d
    return Shape(_directions(rng, n, d) * rng.uniform(inner, 1, (n, 1)) ** (1 / d))


def _product(rng: Rng, n: int, d: int) -> Shape:
    if d == 1:
        return _cube(rng, n, 1)
    parts, left = [], d
    while left:
        size = int(rng.integers(1, left + 1))
        draw = _FACTORS[int(rng.integers(len(_FACTORS)))]
        points = draw(rng, n, size).points
        parts.append(points * rng.uniform(0.6, 1.6) * math.sqrt(size / max(points.var(0).sum(), 1e-12)))
        left -= size
    return Shape(np.hstack(parts))


def _polynomial(rng: Rng, n: int, d: int) -> Shape:
    extra = int(rng.integers(1, d + 3))
    form = rng.standard_normal((extra, d, d)) / d
    cubic = rng.standard_normal((extra, d)) / math.sqrt(d)
    bend, slant = rng.uniform(0.2, 1.5), rng.standard_normal((d, extra)) / math.sqrt(d)

    def embed(u: np.ndarray) -> np.ndarray:
        squares = np.einsum("ni,eij,nj->ne", u, form, u, optimize=True)
        return np.hstack([u, u @ slant + bend * (squares + 0.5 * u**3 @ cubic.T)])

    return _mapped(rng.uniform(-1, 1, (n, d)), embed)


def _curl(rng: Rng, n: int, d: int) -> Shape:
    """Some coordinates rolled into spirals, as in the Swiss roll."""
    rolled = 1 if d == 1 else int(rng.integers(1, min(d, 4)))
    turns, start = rng.uniform(0.5, 2.5, rolled), rng.uniform(0.3, 1.5, rolled)
    height = rng.uniform(0.5, 3, d - rolled)

    def embed(u: np.ndarray) -> np.ndarray:
        angle = 2 * np.pi * (start + turns * u[:, :rolled])
        scale = 1 / (2 * np.pi * (start + turns / 2))
        return np.hstack(
            [scale * angle * np.cos(angle), scale * angle * np.sin(angle), height * u[:, rolled:]]
        )

    return _mapped(rng.random((n, d)), embed)


def _mixture(rng: Rng, n: int, d: int) -> Shape:
    parts = int(rng.integers(2, 8))
    centres = rng.uniform(0.5, 4) * rng.standard_normal((parts, d))
    scales = np.exp(rng.uniform(-0.4, 0.4, parts))
    part = rng.choice(parts, n, p=rng.dirichlet(np.full(parts, 5.0)))
    return Shape(centres[part] + scales[part, None] * rng.standard_normal((n, d)))


def _skewed(rng: Rng, n: int, d: int) -> Shape:
    kind = int(rng.integers(4))
    if kind == 0:
        points = rng.exponential(size=(n, d))
    elif kind == 1:
        points = np.exp(rng.uniform(0.2, 0.9) * rng.standard_normal((n, d)))
    elif kind == 2:
        points = rng.gamma(rng.uniform(0.8, 5), size=(n, d))
    else:
        points = rng.beta(rng.uniform(0.8, 4), rng.uniform(0.8, 4), (n, d))
    return Shape(points / points.std(0))


def _warp(rng: Rng, n: int, d: int) -> Shape:
    mix = rng.standard_normal((d, d)) * rng.uniform(0.5, 3) / math.sqrt(d)
    amplitude, phase = rng.uniform(0.1, 0.6), rng.uniform(0, 2 * np.pi, d)
    u = rng.uniform(-1, 1, (n, d)) if rng.random() < 0.5 else rng.standard_normal((n, d))
    return _mapped(u, lambda u: u + amplitude * np.sin(u @ mix + phase))


def _scale_mixture(rng: Rng, n: int, d: int) -> Shape:
    spread = np.exp(rng.uniform(0.1, 0.6) * rng.standard_normal((n, 1)))
    return Shape(rng.standard_normal((n, d)) * spread)


def _correlated(rng: Rng, n: int, d: int) -> Shape:
    """Columns of a table: one correlated Gaussian law seen through marginals of several kinds."""
    common = rng.uniform(0, 0.8)
    z = math.sqrt(common) * rng.standard_normal((n, 1)) + math.sqrt(1 - common) * rng.standard_normal((n, d))
    laws: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
        lambda z: z,
        lambda z: 2 * np.tanh(z),
        lambda z: np.exp(z / 2),
        lambda z: np.arcsinh(z),
        lambda z: z + 0.3 * z * np.abs(z),
    )
    return Shape(np.column_stack([laws[int(rng.integers(len(laws)))](z[:, j]) for j in range(d)]))


def _sphere(rng: Rng, n: int, d: int) -> Shape:
    return Shape(_directions(rng, n, d + 1))


def _ellipsoid(rng: Rng, n: int, d: int) -> Shape:
    return Shape(_directions(rng, n, d + 1) * rng.uniform(0.4, 1, d + 1))


def _cylinder(rng: Rng, n: int, d: int) -> Shape:
    if d == 1:
        return _sphere(rng, n, 1)
    round_part = int(rng.integers(1, d))
    flat = rng.uniform(0.5, 2) * rng.uniform(-1, 1, (n, d - round_part))
    return Shape(np.hstack([_directions(rng, n, round_part + 1), flat]))


def _trigonometric(rng: Rng, n: int, d: int) -> Shape:
    """Products of curves, each a sum of two harmonics in the plane or in space."""
    order, weight = rng.integers(2, 4, d), rng.uniform(0, 0.5, d)
    radius, arc = rng.uniform(0.6, 1.4, d), rng.uniform(0.3, 1, d)

    def embed(u: np.ndarray) -> np.ndarray:
        t = 2 * np.pi * arc * u
        first = np.hstack([radius * np.cos(t), radius * np.sin(t)])
        return np.hstack([first, weight * np.cos(order * t), weight * np.sin(order * t)])

    return _mapped(rng.random((n, d)), embed)


def _network(rng: Rng, n: int, d: int) -> Shape:
    """Images of a random network of one or two hidden layers."""
    widths = [
        d,
        *rng.integers(2 * d + 4, 4 * d + 40, int(rng.integers(1, 3))),
        int(rng.integers(2 * d + 1, 4 * d + 30)),
    ]
    gain = rng.uniform(0.5, 1.6)
    layers = [
        (gain * rng.standard_normal((a, b)) / math.sqrt(a), 0.3 * rng.standard_normal(b))
        for a, b in itertools.pairwise(widths)
    ]
    activation = (np.tanh, lambda x: np.logaddexp(0, x), np.sin)[int(rng.integers(3))]

    def embed(u: np.ndarray) -> np.ndarray:
        for weights, bias in layers[:-1]:
            u = activation(u @ weights + bias)
        return u @ layers[-1][0]

    latent = rng.standard_normal((n, d)) if rng.random() < 0.5 else rng.uniform(-1.7, 1.7, (n, d))
    return _mapped(latent, embed)


def _waves(rng: Rng, n: int, d: int) -> Shape:
    """sin(u A + b)."""
    A = (
        rng.standard_normal((d, int(rng.integers(2 * d + 2, 4 * d + 30))))
        * rng.uniform(0.5, 3)
        / math.sqrt(d)
    )
    b = rng.uniform(0, 2 * np.pi, A.shape[1])
    return _mapped(rng.uniform(-1, 1, (n, d)), lambda u: np.sin(u @ A + b))


def _torus(rng: Rng, n: int, d: int) -> Shape:
    """Nested rings: each circle's radius is the tube of the one before; flat for a quarter of them."""
    tube = rng.uniform(0.25, 0.7, d)
    flat = rng.random() < 0.25

    def embed(u: np.ndarray) -> np.ndarray:
        t = 2 * np.pi * u
        if flat:
            return np.hstack([np.cos(t), np.sin(t)])
        columns, radius = [], np.ones(len(u))
        for j in range(d):
            columns.append(radius * np.sin(t[:, j]))
            radius = 1 + tube[j] * radius * np.cos(t[:, j]) if j < d - 1 else radius * np.cos(t[:, j])
        return np.column_stack([*columns, radius])

    return _mapped(rng.random((n, d)), embed)


def _long_curve(rng: Rng, n: int, d: int) -> Shape:
    """A closed curve of several harmonics in a few coordinates, times a cube."""
    harmonics, m = int(rng.integers(2, 7)), int(rng.integers(2, 11))
    coefficients = rng.standard_normal((2 * harmonics, m)) / np.sqrt(np.arange(1, 2 * harmonics + 1))[:, None]
    height = rng.uniform(0.5, 2, d - 1)

    def embed(u: np.ndarray) -> np.ndarray:
        t = 2 * np.pi * u[:, :1] * np.arange(1, harmonics + 1)
        return np.hstack([np.hstack([np.cos(t), np.sin(t)]) @ coefficients, height * u[:, 1:]])

    return _mapped(rng.random((n, d)), embed)


def _tube(rng: Rng, n: int, d: int) -> Shape:
    """Around a winding curve: its surface (d = 2) or its inside (d = 3)."""
    turns, pitch, thickness = rng.uniform(1, 5), rng.uniform(0.1, 0.5), rng.uniform(0.05, 0.4)

    def embed(u: np.ndarray) -> np.ndarray:
        t, a = 2 * np.pi * turns * u[:, 0], 2 * np.pi * u[:, 1]
        r = thickness * (np.sqrt(u[:, 2]) if d == 3 else 1)
        wide = 1 + r * np.cos(a)
        return np.column_stack([wide * np.cos(t), wide * np.sin(t), pitch * t + r * np.sin(a)])

    return _mapped(rng.random((n, d)), embed)


def _graph(rng: Rng, n: int, d: int) -> Shape:
    """The graph of a few smooth bumps over a ball or a Gaussian."""
    bumps, extra = int(rng.integers(2, 7)), int(rng.integers(1, 4))
    centres, width = rng.standard_normal((bumps, d)) / 2, rng.uniform(0.5, 1.5) * math.sqrt(d)
    height = rng.uniform(0.5, 2) * rng.standard_normal((bumps, extra))

    def embed(u: np.ndarray) -> np.ndarray:
        squares = ((u[:, None, :] - centres) ** 2).sum(2)
        return np.hstack([u, np.exp(-squares / (2 * width**2)) * math.sqrt(d) @ height])

    base = _ball(rng, n, d) if rng.random() < 0.5 else _gaussian(rng, n, d)
    return _mapped(base.points * (math.sqrt(d) if base.points.max() <= 1 else 1), embed)


def _low_rank(rng: Rng, n: int, d: int) -> Shape:
    """Products of Gaussian matrices: p x q matrices of rank r, of dimension r (p + q - r)."""
    shapes = [
        (p, q, r) for r in (1, 2, 3) for p in range(r + 1, 13) for q in range(p, 13) if r * (p + q - r) == d
    ]
    p, q, r = shapes[int(rng.integers(len(shapes)))]
    left, right = rng.standard_normal((n, p, r)), rng.standard_normal((n, r, q))
    if rng.random() < 0.5:
        left /= np.linalg.norm(left, axis=(1, 2), keepdims=True)
        right *= rng.uniform(0.5, 1.5, (n, 1, 1)) / np.linalg.norm(right, axis=(1, 2), keepdims=True)
    return Shape((left @ right).reshape(n, p * q))


def _bumps(rng: Rng, n: int, d: int) -> Shape:
    """Pictures of a bump that moves, widens, brightens and stretches."""
    side = int(rng.integers(7, 11))
    y, x = (g.ravel() / side for g in np.mgrid[:side, :side])

    def embed(u: np.ndarray) -> np.ndarray:
        full = np.hstack([u, np.full((len(u), 5 - d), 0.5)])
        across, down = 0.25 + 0.5 * full[:, :1], 0.25 + 0.5 * full[:, 1:2]
        wide, bright, stretch = 0.15 + 0.2 * full[:, 2:3], 0.5 + full[:, 3:4], np.exp(full[:, 4:] - 0.5)
        squares = (x - across) ** 2 * stretch + (y - down) ** 2 / stretch
        return bright * np.exp(-squares / (2 * wide**2))

    return _mapped(rng.random((n, d)), embed)


def _rotations(rng: Rng, n: int, d: int) -> Shape:
    """Orthonormal frames of r vectors in R^p (a Stiefel manifold), of dimension r p - r (r + 1) / 2."""
    frames = [(p, r) for r in (1, 2, 3, 4) for p in range(r + 1, 30) if r * p - r * (r + 1) // 2 == d]
    p, r = frames[int(rng.integers(len(frames)))]
    q, _ = np.linalg.qr(rng.standard_normal((n, p, r)))
    signs = rng.choice([-1.0, 1.0], (n, 1, r))
    return Shape((q * signs).reshape(n, p * r))


def _motions(rng: Rng, n: int, d: int) -> Shape:
    """Trajectories of coupled oscillators from random states of d numbers, seen at several times."""
    half = -(-d // 2)
    coupling = rng.standard_normal((half, half)) * rng.uniform(0.1, 0.5) / math.sqrt(half)
    steps, seen = 40, int(rng.integers(3, 7))

    def embed(u: np.ndarray) -> np.ndarray:
        full = np.hstack([u, np.zeros((len(u), 2 * half - d))])
        place, speed, found = full[:, :half], full[:, half:], []
        for step in range(steps):
            speed = speed - 0.05 * (np.sin(place) + place @ coupling)
            place = place + 0.05 * speed
            if step % (steps // seen) == 0:
                found.append(np.hstack([place, speed]))
        return np.hstack(found)

    return _mapped(rng.standard_normal((n, d)) * rng.uniform(0.3, 1.2), embed)


_FACTORS: tuple[Callable[[Rng, int, int], Shape], ...] = (
    _ball, _cube, _gaussian, _sphere, _simplex, _radial, _skewed, _lp_ball, _trigonometric,
)  # fmt: skip

FAMILIES: dict[
    str, tuple[Callable[[Rng, int, int], Shape], int, int]
] = {  # drawer, least and largest dimension
    "ball": (_ball, 1, 100),
    "cube": (_cube, 1, 100),
    "gaussian": (_gaussian, 1, 100),
    "student": (_student, 1, 100),
    "anisotropic": (_anisotropic, 1, 100),
    "lp_ball": (_lp_ball, 1, 100),
    "simplex": (_simplex, 1, 100),
    "cap": (_cap, 1, 100),
    "radial": (_radial, 1, 100),
    "shell": (_shell, 1, 100),
    "product": (_product, 1, 100),
    "polynomial": (_polynomial, 1, 40),
    "curl": (_curl, 1, 40),
    "mixture": (_mixture, 1, 100),
    "skewed": (_skewed, 1, 100),
    "warp": (_warp, 1, 100),
    "scale_mixture": (_scale_mixture, 1, 100),
    "correlated": (_correlated, 1, 60),
    "sphere": (_sphere, 1, 100),
    "ellipsoid": (_ellipsoid, 1, 100),
    "cylinder": (_cylinder, 1, 100),
    "trigonometric": (_trigonometric, 1, 60),
    "network": (_network, 1, 60),
    "waves": (_waves, 1, 60),
    "torus": (_torus, 1, 20),
    "long_curve": (_long_curve, 1, 12),
    "tube": (_tube, 2, 3),
    "graph": (_graph, 1, 60),
    "low_rank": (_low_rank, 2, 24),
    "bumps": (_bumps, 1, 5),
    "rotations": (_rotations, 1, 40),
    "motions": (_motions, 1, 40),
}


def draw_dimension(rng: Rng, low: int, high: int) -> int:
    """Three in five log-uniform in 1 ... 100, else uniform in 1 ... 40, given that it lies between the two bounds."""
    while True:
        if rng.random() < 0.6:
            d = int(math.exp(rng.uniform(math.log(0.75), math.log(LARGEST_DIMENSION + 0.49))) + 0.5)
        else:
            d = int(rng.integers(1, 41))
        if low <= d <= high:
            return d


def draw_sample(rng: Rng, n: int, family: str | None = None, d: int | None = None) -> Sample:
    """Draw ``n`` points of a family (a random one) of dimension ``d`` (a random one), 15 % of them with noise."""
    names = list(FAMILIES)
    family = names[int(rng.integers(len(names)))] if family is None else family
    draw, low, high = FAMILIES[family]
    while True:
        dimension = draw_dimension(rng, low, high) if d is None else d
        try:
            shape = draw(rng, n, dimension)
            break
        except ValueError:  # a family without shapes of this dimension
            if d is not None:
                raise
    points = shape.points
    probes = rng.choice(n, min(n, _PROBES), replace=False)
    near, order = _nearest(points, probes)
    bending, noise = _bending(shape, probes, order), 0.0
    if rng.random() < 0.15:
        norm = float(rng.uniform(0, 0.1)) * float(np.median(near[:, -1]))
        extra = int(rng.integers(0, 3 * points.shape[1] + 10))
        points = np.hstack([points, np.zeros((n, extra))])
        points = points + norm / math.sqrt(points.shape[1]) * rng.standard_normal(points.shape)
        noise = norm / float(np.median(near[:, 0]))
    return Sample(points, family, dimension, bending, noise)


def _nearest(points: np.ndarray, probes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances from some points to their ten nearest, and their rows."""
    squares = (points[probes] ** 2).sum(1)[:, None] - 2 * points[probes] @ points.T + (points**2).sum(1)
    squares[np.arange(len(probes)), probes] = np.inf
    order = np.argsort(squares, axis=1)[:, : min(10, len(points) - 1)]
    return np.sqrt(np.maximum(np.take_along_axis(squares, order, 1), 0)), order


def _bending(shape: Shape, probes: np.ndarray, order: np.ndarray) -> float:
    """Median distance from the middle of a chord between neighbours to the shape, over the chord."""
    if shape.embed is None or shape.latent is None:
        return 0.0
    rank = np.arange(len(probes)) % min(4, order.shape[1])  # the first to the fourth neighbour, in turn
    other = order[np.arange(len(probes)), rank]
    middle = shape.embed((shape.latent[probes] + shape.latent[other]) / 2)
    a, b = shape.points[probes], shape.points[other]
    chord = np.linalg.norm(a - b, axis=1)
    return float(np.median(np.linalg.norm(middle - (a + b) / 2, axis=1) / np.maximum(chord, 1e-300)))
