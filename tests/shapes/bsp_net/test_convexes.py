"""Half-spaces to polygons, against known volumes, Euler's formula and hulls."""

import numpy as np
import pytest
from scipy.spatial import ConvexHull

pytest.importorskip("trimesh")
pytest.importorskip("manifold3d")

from lodim.shapes.bsp_net import (
    Convexes,
    halfspaces_to_mesh,
    halfspaces_to_polytope,
    hidden_convexes,
    union_meshes,
)
from lodim.shapes.bsp_net.convexes import extract, grid_points_inside


def box(low, high):
    n = np.eye(len(low))
    return np.vstack([np.c_[n, -np.asarray(high)], np.c_[-n, np.asarray(low)]])


def cube(x, side=0.4, dim=3):
    middle = np.r_[x, np.zeros(dim - 1)]
    return box(middle - side / 2, middle + side / 2)


def random_rows(rng, m, dim=3):
    n = rng.normal(size=(m, dim))
    n /= np.linalg.norm(n, axis=1, keepdims=True)
    return np.c_[n, -rng.uniform(0.1, 0.3, m)]


def test_a_cube_has_8_vertices_and_6_faces():
    found = halfspaces_to_polytope(cube(0.0))
    assert found.vertices.shape == (8, 3)
    assert found.triangles.shape == (12, 3)
    assert found.n_polygons == 6
    assert found.volume == pytest.approx(0.4**3, rel=1e-14)
    np.testing.assert_array_equal(np.unique(found.vertices.round(12)), [-0.2, 0.2])
    for face in found.polygons():
        area = np.linalg.norm(np.cross(face[1] - face[0], face[2] - face[0]))
        assert area == pytest.approx(0.16)
        assert len(face) == 4


def test_polygons_are_seen_from_outside():
    for face in halfspaces_to_polytope(random_rows(np.random.default_rng(0), 15)).polygons():
        normal = sum(np.cross(face[i], face[(i + 1) % len(face)]) for i in range(len(face)))
        assert normal @ face.mean(0) > 0  # the origin is inside


@pytest.mark.parametrize("seed", range(5))
def test_volume_and_membership_agree_with_the_hull(seed):
    rng = np.random.default_rng(seed)
    rows = random_rows(rng, rng.integers(4, 30))
    found = halfspaces_to_polytope(rows)
    mesh = halfspaces_to_mesh(rows)
    hull = ConvexHull(found.vertices)
    assert found.volume == pytest.approx(hull.volume, rel=1e-12)
    assert mesh.is_watertight
    assert mesh.euler_number == 2
    assert mesh.volume == pytest.approx(hull.volume, rel=1e-9)
    assert len(found.vertices) - len(found.triangles) * 3 // 2 + len(found.triangles) == 2
    x = rng.uniform(-0.5, 0.5, (2000, 3))
    inside = (x @ rows[:, :3].T + rows[:, 3] <= 0).all(1)
    np.testing.assert_array_equal(inside, (x @ hull.equations[:, :3].T + hull.equations[:, 3] <= 0).all(1))


@pytest.mark.parametrize("dim", [2, 3])
def test_scale_and_order_of_rows_do_not_matter(dim):
    rng = np.random.default_rng(1)
    rows = random_rows(rng, 12, dim)
    found = halfspaces_to_polytope(rows)
    other = halfspaces_to_polytope((rows * 10 ** rng.uniform(-3, 200, (12, 1)))[rng.permutation(12)])
    order, same = (np.lexsort(p.vertices.round(9).T) for p in (found, other))
    np.testing.assert_allclose(found.vertices[order], other.vertices[same], atol=1e-12)
    assert found.n_polygons == other.n_polygons


def test_a_sphere_of_42_planes():
    """Normals of a once divided icosahedron: the tangent polyhedron's volume is r / 3 times its surface."""
    import trimesh

    normals = trimesh.creation.icosphere(subdivisions=1).vertices
    mesh = halfspaces_to_mesh(np.c_[normals, np.full(len(normals), -0.3)])
    assert len(normals) == 42
    assert mesh.volume == pytest.approx(0.3 / 3 * mesh.area, rel=1e-9)
    assert 1 < mesh.volume / (4 / 3 * np.pi * 0.3**3) < 1.1


def test_the_box_closes_what_is_open():
    assert halfspaces_to_polytope(np.zeros((0, 4))).volume == pytest.approx(1)
    assert halfspaces_to_polytope([[5.0, 0, 0, 0]]).volume == pytest.approx(0.5)
    assert halfspaces_to_polytope([[1.0, 1, 0]]).volume == pytest.approx(0.5)
    assert halfspaces_to_polytope([[1.0, 0, 0, 0]], bounds=2.0).volume == pytest.approx(32)


def test_empty_and_flat_convexes_are_none():
    assert halfspaces_to_polytope([[1.0, 0, 0, 0.6]]) is None  # beyond the box
    assert halfspaces_to_polytope([[1.0, 0, 0, 0.1], [-1, 0, 0, 0.1]]) is None  # no point at all
    assert halfspaces_to_polytope(box([-0.2] * 3, [-0.2 + 1e-5, 0.2, 0.2])) is None
    with pytest.raises(ValueError, match="no common inside"):
        halfspaces_to_mesh([[1.0, 0, 0, 0.6]])


def test_rows_without_direction():
    rows = cube(0.1)
    expected = halfspaces_to_polytope(rows).volume
    assert halfspaces_to_polytope(np.vstack([rows, [0, 0, 0, -1]])).volume == expected
    assert halfspaces_to_polytope(np.vstack([rows, [0, 0, 0, 0]])).volume == expected
    assert halfspaces_to_polytope(np.vstack([rows, [1e-9, 0, 0, 1e-3]])) is None


def test_doubled_rows_and_planes_through_vertices():
    rows = cube(0.0)
    more = np.vstack([rows, 3 * rows, [[1, 1, 1, -0.6]], [[1, 1, 0, -0.4]]])  # touch a corner and an edge
    found = halfspaces_to_polytope(more)
    assert found.volume == pytest.approx(0.064)
    assert found.n_polygons == 6
    assert len(found.vertices) == 8


def test_a_wrong_point_inside_does_no_harm():
    for inside in ([0.45, 0, 0], [0.2, 0.2, 0.2], [0.0, 0, 0]):
        assert halfspaces_to_polytope(cube(0.0), inside=inside).volume == pytest.approx(0.064)


def test_soup_counts_twice_what_the_union_counts_once():
    parts = tuple(halfspaces_to_polytope(cube(x)) for x in (-0.1, 0.1))
    found = Convexes(parts, np.array([3, 7]))
    soup, union = found.soup(), found.union()
    assert soup.is_watertight
    assert soup.volume == pytest.approx(0.128)  # closed by every count, and wrong
    assert union.is_watertight
    assert union.volume == pytest.approx(0.096, rel=1e-12)
    assert union.euler_number == 2
    assert union.body_count == 1
    for mesh in (soup, union):
        assert set(mesh.face_attributes["convex"]) == {3, 7}
    left = union.triangles_center[union.face_attributes["convex"] == 3]
    assert left[:, 0].max() <= 0.1 + 1e-9  # the first cube ends there


def test_touching_cubes_become_one_solid():
    union = union_meshes([halfspaces_to_mesh(cube(-0.2)), halfspaces_to_mesh(cube(0.2))])
    assert union.is_watertight
    assert union.body_count == 1
    assert union.volume == pytest.approx(0.128)
    assert union.euler_number == 2
    apart = union_meshes([halfspaces_to_mesh(cube(-0.3)), halfspaces_to_mesh(cube(0.3))])
    assert apart.body_count == 2
    assert apart.euler_number == 4


def test_union_refuses_an_open_mesh_and_takes_none():
    p = halfspaces_to_polytope(cube(0.0))
    with pytest.raises(ValueError, match="mesh 1 cannot be united"):
        union_meshes([(p.vertices, p.triangles), (p.vertices, p.triangles[1:])])
    assert len(union_meshes([]).faces) == 0


def test_union_wants_faces_turned_outwards_and_a_number_for_each():
    p = halfspaces_to_polytope(cube(0.0))
    with pytest.raises(ValueError, match="mesh 1 is turned inside out"):
        union_meshes([(p.vertices, p.triangles), (p.vertices, p.triangles[:, ::-1])])
    for ids in ([1], [1, 2, 3], [0.5, 1]):
        with pytest.raises(ValueError, match="one for each of 2 meshes"):
            union_meshes([(p.vertices, p.triangles)] * 2, ids)
    mesh = halfspaces_to_mesh(cube(0.0))
    for part in (mesh.vertices, mesh.faces):
        part.flags.writeable = False
    assert union_meshes([mesh]).volume == pytest.approx(0.064)


@pytest.mark.parametrize("dim", [2, 3])
def test_pictures_show_every_polygon_on_axes_of_their_kind(dim):
    import matplotlib.pyplot as plt

    found = Convexes((halfspaces_to_polytope(cube(0.0, dim=dim)),), np.array([4]))
    ax = found.plot()
    drawn = ax.collections if dim == 3 else ax.patches
    assert len(drawn) == 1
    assert hasattr(ax, "get_zlim") == (dim == 3)
    with pytest.raises(ValueError, match="projection"):
        found.plot(plt.figure().add_subplot(projection=None if dim == 3 else "3d"))
    plt.close("all")
    if dim == 2:
        for what in (found.soup, found.union):
            with pytest.raises(ValueError, match="2-D"):
                what()


def test_hidden_convexes_go_and_the_volume_stays():
    rows = [cube(0.0, 0.2), cube(0.0, 0.4), cube(0.1, 0.4), cube(0.0, 0.4), cube(0.3, 1e-3)]
    kept, everything = extract(rows, 64, prune=True), extract(rows, 64)
    np.testing.assert_array_equal(kept.ids, [2, 3])  # the small one, and one of two that are the same
    assert (kept.n_hidden, kept.n_empty, everything.n_empty) == (2, 1, 1)
    assert kept.union().volume == pytest.approx(everything.union().volume, abs=1e-9)
    assert hidden_convexes([np.arange(5)] * 3).tolist() == [True, True, False]


@pytest.mark.parametrize(("dim", "grid"), [(3, 16), (3, 10), (2, 64)])
def test_points_of_the_grid_are_found_in_blocks_as_one_by_one(dim, grid):
    rng = np.random.default_rng(2)
    rows = random_rows(rng, 9, dim) + np.r_[np.zeros(dim), 0.05]
    side = (np.arange(grid) + 0.5) / grid - 0.5
    points = np.stack(np.meshgrid(*[side] * dim, indexing="ij"), -1).reshape(-1, dim)
    expected = np.flatnonzero((points @ rows[:, :-1].T + rows[:, -1] <= 0).all(1))
    np.testing.assert_array_equal(np.sort(grid_points_inside(rows, grid, 0.5)), expected)


def test_what_is_no_half_space():
    with pytest.raises(ValueError, match="halfspaces"):
        halfspaces_to_polytope([[1.0, 0, 0, np.nan]])
    with pytest.raises(ValueError, match=r"3 numbers in 2-D or 4 in 3-D"):
        halfspaces_to_polytope(np.zeros((2, 5)))
    with pytest.raises(ValueError, match="in 2-D see"):
        halfspaces_to_mesh(np.zeros((2, 3)))
    for bounds in (-1, np.inf):
        with pytest.raises(ValueError, match="bounds"):
            halfspaces_to_polytope(cube(0.0), bounds=bounds)
    with pytest.raises(ValueError, match="inside must be one point"):
        halfspaces_to_polytope(cube(0.0), inside=[0, 0])
