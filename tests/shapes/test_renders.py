"""Pictures of solids against their inside functions and against geometry."""

import math

import numpy as np
import pytest
import torch

from lodim.datasets.solids import FAMILIES, Piece, Solid, procedural_solids
from lodim.shapes.rendering import camera_to_world, pinhole_rays
from lodim.shapes.renders import AMBIENT, render_solids


def box(x, y, z):
    half = np.array([x, y, z])
    corners = np.array([[a, b, c] for a in (-x, x) for b in (-y, y) for c in (-z, z)])
    planes = np.vstack([np.c_[np.eye(3), -half], np.c_[-np.eye(3), -half]])
    return Solid("table", 0, (Piece("box", planes, corners),))


def views(n, seed=0):
    u = torch.rand(n, 2, generator=torch.Generator().manual_seed(seed))
    return camera_to_world((u - 0.5) * torch.tensor([6.2, 2.0]), 2.0)


def test_a_box_from_the_front():
    light, fov, r = np.array([0.3, 0.5, 0.9]), 0.7, 33
    pose = camera_to_world(torch.zeros(1, 2), 2.0)
    images, depths = render_solids(
        [box(0.3, 0.2, 0.4)], pose, fov, r, light=light, colours=[[0.2, 0.6, 0.8]], background="black"
    )
    x = torch.tan(torch.tensor(fov / 2)) * ((2 * torch.arange(r) + 1) / r - 1)
    down, right = torch.meshgrid(x, x, indexing="ij")
    # its front is 1.6 away and hides all that is behind
    known = (right.abs() * 1.6 < 0.3) & (down.abs() * 1.6 < 0.2)
    assert torch.equal(depths[0].isfinite(), known)
    assert torch.allclose(depths[0][known], (1.6 * (1 + right**2 + down**2).sqrt())[known])
    shade = AMBIENT + (1 - AMBIENT) * 0.9 / math.sqrt(0.3**2 + 0.5**2 + 0.9**2)
    assert torch.allclose(images[0, :, known].T, torch.tensor([0.2, 0.6, 0.8]) * shade)
    assert (images[0, :, ~known] == 0).all()


def test_a_box_from_beside_shows_its_nearest_face():
    pose = camera_to_world(torch.tensor([[math.pi / 2, 0.0]]), 2.0)
    for light, shade in (((1, 0, 0), 1.0), ((-1, 0, 0), AMBIENT), (None, 1.0)):
        images, depths = render_solids(
            [box(0.3, 0.2, 0.4)], pose, 0.7, 9, light=light, colours=[[1.0, 1.0, 1.0]]
        )
        assert float(images[0, 0, 4, 4]) == pytest.approx(shade)
        assert float(depths[0, 4, 4]) == pytest.approx(1.7)


@pytest.mark.parametrize("family", FAMILIES)
def test_depths_end_where_the_solid_begins(family):
    solids, poses, fov, r = procedural_solids(4, [family], random_state=0), views(4), 0.7, 24
    palette = np.linspace(0.1, 0.9, 15).reshape(5, 3)
    images, depths = render_solids(solids, poses, fov, r, light=None, colours=palette, background="black")
    origins, ways = (rays.double().numpy() for rays in pinhole_rays(poses.double(), fov, r, r))
    n_hit = 0
    for solid, o, way, depth, image in zip(
        solids, origins, ways, depths.flatten(1).double().numpy(), images.flatten(2).mT.numpy(), strict=True
    ):
        hit = np.isfinite(depth)
        n_hit += hit.sum()
        # nothing is inside before it, all along; after it is the solid, of the part whose colour is shown
        steps = np.linspace(1, 3, 400)[:, None]
        along = o + np.where(hit, np.minimum(steps, depth - 1e-5), steps)[..., None] * way
        assert not solid.contains(along.reshape(-1, 3)).any()
        behind = solid.part_of((o + (depth + 1e-5)[:, None] * way)[hit])
        assert (behind >= 0).mean() > 0.99
        names = list(dict.fromkeys(p.name for p in solid.parts if not p.cut))
        shown = palette[[names.index(solid.parts[k].name) for k in behind]]
        assert (np.abs(shown - image[hit]).max(1) < 1e-6)[behind >= 0].mean() > 0.98
    assert n_hit > 100


@pytest.mark.parametrize("family", ["mug", "arch", "lamp"])
def test_normals_are_those_of_the_surface_and_face_the_camera(family):
    trimesh = pytest.importorskip("trimesh")
    pytest.importorskip("manifold3d")
    solid, poses = procedural_solids(1, [family], random_state=1)[0], views(6)
    mesh = solid.mesh()
    # three lights tell the normal where they all shine, and their opposites elsewhere
    shades = [
        render_solids([solid] * 6, poses, 0.7, 16, light=sign * axis, colours=[[1.0, 1.0, 1.0]])
        for axis in np.eye(3)
        for sign in (1, -1)
    ]
    cosines = torch.stack([(image[:, 0] - AMBIENT) / (1 - AMBIENT) for image, _ in shades], -1)
    normals = (cosines[..., ::2] - cosines[..., 1::2]).flatten(1, 2)
    depths = shades[0][1].flatten(1)
    origins, ways = pinhole_rays(poses, 0.7, 16, 16)
    hit = depths.isfinite()
    points = (origins + depths.where(hit, 0.0)[..., None] * ways)[hit]
    _, distance, face = trimesh.proximity.closest_point(mesh, points.numpy())
    assert distance.max() < 1e-5
    agree = (mesh.face_normals[face] * normals[hit].numpy()).sum(1)
    # but for points on an edge, which have the normal of either face
    assert (agree > 1 - 1e-3).mean() > 0.98
    assert ((normals[hit] * ways[hit]).sum(1) < 0).all()


def test_no_solids():
    images, depths = render_solids([], views(0), 0.7, 8)
    assert images.shape == (0, 3, 8, 8)
    assert depths.shape == (0, 8, 8)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"poses": views(2)}, "one pose a solid"),
        ({"poses": torch.eye(4)[None]}, "inside the cube"),
        ({"colours": [[2.0, 0.0, 0.0]]}, "in \\[0, 1\\]"),
        ({"light": (0, 0, 0)}, "direction"),
        ({"background": (2, -1, 0)}, "in \\[0, 1\\]"),
        ({"poses": torch.eye(3)[None]}, "camera to world"),
        ({"solids": ["table"]}, "must hold"),
    ],
)
def test_what_cannot_be_drawn(change, told):
    given = {"solids": [box(0.3, 0.3, 0.3)], "poses": views(1), "fov": 0.7, "resolution": 4, **change}
    with pytest.raises((ValueError, TypeError), match=told):
        render_solids(**given)
