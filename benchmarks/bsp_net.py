"""Extraction of convexes against a polygon carve in Python, and 1,000 convexes against marching cubes at equal chamfer.

One thread. The carve is written here, as a plain Python program would have it: a polygon of every plane within the box,
cut by all other half-spaces one after another (tolerance 1e-9), corners merged by rounding. 30 convexes of 20 planes,
each against its own grid of 64^3 cells. The second group has 1,000 convexes of 14 planes over the cube, their exact
union, and marching cubes (with the evaluation of the values that it needs) at the resolution whose surface is about as
far from a dense sample of the union as two samples of the union are from each other (5 % more at most), or 128^3 if
none is; the notes tell vertices and chamfer distance at each resolution tried. The values, here those of all planes at
every cell, and marching cubes on them are timed apart, since cleverer ways to find values would make the first cheaper;
the target is against their sum. A carve makes a soup, so that the union has no target in the first group.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _harness import Target, compare, publish
from scipy.spatial import cKDTree

from lodim.shapes.bsp_net import BSPNet

BOX = [(1.0, 0.0, 0.0, -0.5), (-1.0, 0.0, 0.0, -0.5), (0.0, 1.0, 0.0, -0.5)]
BOX += [(0.0, -1.0, 0.0, -0.5), (0.0, 0.0, 1.0, -0.5), (0.0, 0.0, -1.0, -0.5)]


def carve(rows: list[tuple[float, ...]]) -> tuple[list[Any], list[list[int]]]:
    """Corners and polygons of the half-spaces within the box, plane by plane."""
    planes = []
    for a, b, c, d in rows:
        length = math.sqrt(a * a + b * b + c * c)
        planes.append((a / length, b / length, c / length, d / length))
    planes += BOX
    corners: dict[Any, int] = {}
    polygons = []
    for i, (a, b, c, d) in enumerate(planes):
        # a square on the plane, far larger than the box
        u = (0.0, c, -b) if abs(a) < 0.6 else (c, 0.0, -a)
        length = math.sqrt(u[0] ** 2 + u[1] ** 2 + u[2] ** 2)
        u = (u[0] / length, u[1] / length, u[2] / length)
        v = (b * u[2] - c * u[1], c * u[0] - a * u[2], a * u[1] - b * u[0])
        polygon = [
            tuple(-d * n + 4 * (s * p + t * q) for n, p, q in zip((a, b, c), u, v, strict=True))
            for s, t in ((-1, -1), (1, -1), (1, 1), (-1, 1))
        ]
        for j, (e, f, g, h) in enumerate(planes):
            if j == i or not polygon:
                continue
            values = [e * x + f * y + g * z + h for x, y, z in polygon]
            if max(values) <= 1e-9:
                continue
            kept = []
            for k, here in enumerate(polygon):
                there, p, q = polygon[k - 1], values[k - 1], values[k]
                if (p > 1e-9) != (q > 1e-9):
                    t = p / (p - q)
                    kept.append(tuple(x + t * (y - x) for x, y in zip(there, here, strict=True)))
                if q <= 1e-9:
                    kept.append(here)
            polygon = kept
        found: list[int] = []
        for x, y, z in polygon:
            number = corners.setdefault((round(x, 7), round(y, 7), round(z, 7)), len(corners))
            if number not in found:
                found.append(number)
        if len(found) >= 3:
            polygons.append(found)
    return list(corners), polygons


def random_net(n_convexes: int, n_planes: int, radius: float, seed: int) -> tuple[BSPNet, torch.Tensor]:
    """Polytopes of random planes about random centres."""
    rng = np.random.default_rng(seed)
    n = rng.normal(size=(n_convexes, n_planes, 3))
    n /= np.linalg.norm(n, axis=-1, keepdims=True)
    centres = rng.uniform(-0.4, 0.4, (n_convexes, 1, 3))
    d = -(n * centres).sum(-1) - radius * rng.uniform(0.6, 1.4, (n_convexes, n_planes))
    planes = torch.from_numpy(np.concatenate([n, d[..., None]], -1).reshape(1, -1, 4)).transpose(1, 2)
    net = BSPNet(
        n_convexes * n_planes, n_convexes, encoder=None, phase=1, connections="private", random_state=0
    )
    return net, planes


def values_on_grid(net: BSPNet, planes: torch.Tensor, resolution: int) -> np.ndarray:
    """The signed values that marching cubes needs: least over convexes of the greatest plane of unit normal."""
    side = (torch.arange(resolution) + 0.5) / resolution - 0.5
    points = torch.stack(torch.meshgrid(side, side, side, indexing="ij"), -1).reshape(-1, 3)
    rows = planes[0].float()
    found = [
        (x @ rows[:3] + rows[3]).unflatten(-1, (net.n_convexes, -1)).amax(-1).amin(-1)
        for x in points.split(4096)
    ]
    return torch.cat(found).reshape(resolution, resolution, resolution).numpy()


def chamfer(a: np.ndarray, b: np.ndarray) -> float:
    return float((cKDTree(b).query(a)[0] ** 2).mean() + (cKDTree(a).query(b)[0] ** 2).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    import trimesh
    from skimage.measure import marching_cubes

    net, planes = random_net(30, 20, 0.1, 0)
    rows = [[tuple(row) for row in convex.tolist()] for convex in net.halfspaces(planes)]
    for j, polytope in enumerate(net.extract(planes).polytopes):
        corners, polygons = carve(rows[j])
        assert len(corners) == len(polytope.vertices)
        assert len(polygons) == polytope.n_polygons
    cases: dict[str, Callable[[], object]] = {
        "polygon carve in Python": lambda: [carve(convex) for convex in rows],
        "extract": lambda: net.extract(planes),
        "to_mesh, soup": lambda: net.to_mesh(planes, "soup"),
        "to_mesh, union": lambda: net.to_mesh(planes),
    }
    results = compare(
        cases, reference="polygon carve in Python",
        targets={"extract": Target(1.2), "to_mesh, soup": Target(1.2)},
        rounds=rounds, group="30 convexes of 20 planes",
    )  # fmt: skip

    net, planes = random_net(1000, 14, 0.03, 1)
    exact = net.to_mesh(planes)
    one, two = (trimesh.sample.sample_surface(exact, 50_000, seed=k)[0] for k in (0, 1))
    floor = chamfer(one, two)
    notes = [
        f"union of 1,000 convexes: {len(exact.vertices):,} vertices, {len(exact.faces):,} faces; two samples of 50,000 "
        f"points of it are {floor:.3e} apart"
    ]
    chosen = 128
    for resolution in (64, 96, 128):
        vertices, faces, _, _ = marching_cubes(
            np.pad(values_on_grid(net, planes, resolution), 1, constant_values=1.0), 0.0
        )
        mesh = trimesh.Trimesh((vertices - 0.5) / resolution - 0.5, faces, process=False)
        apart = chamfer(one, trimesh.sample.sample_surface(mesh, 50_000, seed=2)[0])
        notes.append(
            f"marching cubes at {resolution}^3: {len(vertices):,} vertices, {len(faces):,} faces, chamfer {apart:.3e}"
        )
        if apart <= 1.05 * floor:
            chosen = resolution
            break
    print(*notes, sep="\n")
    values = values_on_grid(net, planes, chosen)
    both = f"values and marching cubes at {chosen}^3"
    results += compare(
        {
            both: lambda: marching_cubes(values_on_grid(net, planes, chosen), 0.0),
            f"values at {chosen}^3 alone": lambda: values_on_grid(net, planes, chosen),
            f"marching cubes at {chosen}^3 alone": lambda: marching_cubes(values, 0.0),
            "to_mesh, union": lambda: net.to_mesh(planes),
            "to_mesh, soup": lambda: net.to_mesh(planes, "soup"),
        },
        reference=both,
        targets={"to_mesh, union": Target(1.0)},
        rounds=min(rounds, 2), warmup=0, group="1,000 convexes of 14 planes",
    )  # fmt: skip
    publish("bsp_net", results, packages=("torch", "scipy", "manifold3d", "scikit-image"), notes=notes)


if __name__ == "__main__":
    main()
