"""Chamfer distances against a dense matrix, signed distances and inside tests against trimesh's, one thread.

The dense matrix is torch's ``cdist`` in single precision with a minimum of rows and of columns, as much code of papers
has it; ours is in double. What either holds at most is read off the resident memory of a process of its own. Meshes
are the nut (closed) and the airplane (open) of pyvista's wheel, in the cube; points lie uniform in it and near the
surface, half of them each. By how much trimesh's distances and ours differ is noted.
"""

from __future__ import annotations

import argparse
import multiprocessing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _harness import Target, compare, publish
from trimesh.proximity import signed_distance as trimesh_distance

from lodim.shapes.meshes import contains, packaged_mesh, sample_occupancy, signed_distance, to_unit_cube
from lodim.shapes.metrics import chamfer_distance

# points, and the share of the dense matrix's time that the trees may take
CHAMFER = ((4096, 1.0), (20_000, 0.25))
N_DISTANCES, N_INSIDE = 4000, 20_000


@dataclass(frozen=True)
class Memory:
    """What one call added to the resident memory of its process at most."""

    group: str
    name: str
    mib: float


def clouds(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(2, n, 3))
    a, b = drawn / np.linalg.norm(drawn, axis=2, keepdims=True)
    return a, b


def dense(a: np.ndarray, b: np.ndarray) -> float:
    apart = torch.cdist(torch.from_numpy(a).float(), torch.from_numpy(b).float()) ** 2
    return float(apart.amin(1).mean() + apart.amin(0).mean())


KINDS = {"dense matrix": dense, "chamfer_distance": chamfer_distance}


def held() -> float:
    """Return the most MiB that this process has held since it began, which Linux alone tells."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def added(kind: str, n: int) -> float:
    """Return the MiB that a call adds to the most this process has held."""
    torch.set_num_threads(1)
    KINDS[kind](*clouds(64))
    a, b = clouds(n)
    before = held()
    KINDS[kind](a, b)
    return held() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    rows: list[Any] = []
    notes = []
    for n, share in CHAMFER:
        group = f"chamfer distance, {n:,} points each"
        a, b = clouds(n)
        rows += compare(
            {kind: partial(function, a, b) for kind, function in KINDS.items()},
            reference="dense matrix", targets={"chamfer_distance": Target(share)}, rounds=rounds, warmup=1,
            group=group,
        )  # fmt: skip
        for kind in KINDS:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                rows.append(Memory(group, kind, pool.apply(added, (kind, n))))
            print(f"{kind}: {rows[-1].mib:,.0f} MiB")
    for name in ("nut", "airplane"):
        mesh, _ = to_unit_cube(packaged_mesh(name))
        x, _ = sample_occupancy(mesh, N_DISTANCES, random_state=0)
        theirs, ours = np.abs(trimesh_distance(mesh, x)), np.abs(signed_distance(mesh, x))
        notes.append(
            f"{name}: distances of ours and trimesh's differ by up to {np.abs(ours - theirs).max():.1e}"
        )
        rows += compare(
            {
                "trimesh.proximity": partial(trimesh_distance, mesh, x),
                "signed_distance": partial(signed_distance, mesh, x),
            },
            reference="trimesh.proximity", targets={"signed_distance": Target(0.5)}, rounds=rounds, warmup=1,
            group=f"signed distance, {name}, {len(mesh.faces):,} faces, {N_DISTANCES:,} points",
        )  # fmt: skip
    mesh, _ = to_unit_cube(packaged_mesh("nut"))
    x, _ = sample_occupancy(mesh, N_INSIDE, random_state=0)
    notes.append(
        f"nut: {int((contains(mesh, x) != mesh.contains(x)).sum())} of {N_INSIDE:,} inside in one only"
    )
    rows += compare(
        {"trimesh's contains": partial(mesh.contains, x), "contains": partial(contains, mesh, x)},
        reference="trimesh's contains", targets={"contains": Target(0.2)}, rounds=rounds, warmup=1,
        group=f"inside, nut, {len(mesh.faces):,} faces, {N_INSIDE:,} points",
    )  # fmt: skip
    print(*notes, sep="\n")
    publish("shape_metrics", rows, packages=("torch", "numpy", "scipy", "trimesh", "rtree"), notes=notes)


if __name__ == "__main__":
    main()
