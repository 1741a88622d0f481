import numpy as np
import pytest
from scipy.spatial.distance import cdist

from lodim.shapes.metrics import (
    MeshQuality,
    chamfer_distance,
    chamfer_distances,
    compare_meshes,
    edge_chamfer_distance,
    edge_points,
    f_score,
    normal_consistency,
    volume_iou,
)

trimesh = pytest.importorskip("trimesh")


def grid(n=5):
    axis = np.arange(n, dtype=float)
    return np.stack(np.meshgrid(axis, axis, axis), -1).reshape(-1, 3)


def cube(low, high):
    return trimesh.creation.box(bounds=[[low] * 3, [high] * 3])


def surface(mesh, n=20_000, seed=0):
    from lodim.shapes.meshes import sample_surface

    return sample_surface(mesh, n, random_state=seed)


def normals_of(normal, n):
    return np.tile(np.asarray(normal, float), (n, 1))


def test_chamfer_of_a_shifted_grid():
    shifted = grid() + [0.3, 0, -0.4]
    assert chamfer_distance(grid(), shifted) == pytest.approx(2 * 0.25)
    assert chamfer_distance(grid(), shifted, squared=False) == pytest.approx(2 * 0.5)
    assert chamfer_distance(grid(), grid()) == 0


def test_chamfer_is_that_of_all_pairs_and_symmetric():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(60, 3)), rng.normal(size=(90, 3))
    pairs = cdist(a, b)
    for squared, power in ((True, 2), (False, 1)):
        expected = (pairs.min(1) ** power).mean() + (pairs.min(0) ** power).mean()
        assert chamfer_distance(a, b, squared=squared) == pytest.approx(expected)
        assert chamfer_distance(b, a, squared=squared) == pytest.approx(expected)


def test_normals_of_a_plane_that_is_turned():
    x = grid()
    for angle in (0, 0.4, np.pi / 2, np.pi):
        turned = normals_of([np.sin(angle), 0, np.cos(angle)], len(x))
        found = normal_consistency(x, normals_of([0, 0, 1], len(x)), x + 0.1, turned)
        assert found == pytest.approx(abs(np.cos(angle)))


def test_normals_are_those_of_nearest_pairs_both_ways():
    # two points of b; both of a are nearest to the first, so one way it is 1 and the other (1 + 0) / 2
    a, b = np.array([[0, 0, 0], [0.1, 0, 0]]), np.array([[0.0, 0, 0], [5, 0, 0]])
    found = normal_consistency(a, normals_of([0, 0, 1], 2), b, np.array([[0.0, 0, 1], [1, 0, 0]]))
    assert found == pytest.approx((1 + 0.5) / 2)


def test_f_score_is_the_harmonic_mean():
    a = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0]])
    b = np.array([[0.0, 0, 0.005], [1, 0, 0.02]])
    assert f_score(a, b) == pytest.approx(2 * 0.25 * 0.5 / 0.75)
    assert f_score(a, b, threshold=0.02) == pytest.approx(2 * 0.5 * 1 / 1.5)
    assert f_score(a, a + 9) == 0
    assert f_score(a, a) == 1


def test_edge_points_of_a_cube_lie_at_its_edges():
    points, normals = surface(cube(-0.3, 0.3))
    found = edge_points(points, normals)
    # on an edge the two larger coordinates are both 0.3; the neighbour is on the other face
    second = np.sort(np.abs(found), axis=1)[:, 1]
    assert len(found) > 500
    assert (0.3 - second <= 0.01).all()
    wide = edge_points(points, normals, radius=0.02)
    assert set(map(tuple, found)) < set(map(tuple, wide))


def test_a_sphere_has_no_edges():
    points, normals = surface(trimesh.creation.icosphere(4, 0.4))
    box_points, box_normals = surface(cube(-0.3, 0.3))
    assert len(edge_points(points, normals)) == 0
    assert edge_chamfer_distance(points, normals, points, normals) == 0
    assert np.isnan(edge_chamfer_distance(points, normals, box_points, box_normals))


def test_edges_of_a_larger_cube_are_farther():
    (a, normals_a), (b, normals_b) = surface(cube(-0.3, 0.3)), surface(cube(-0.35, 0.35), seed=1)
    found = edge_chamfer_distance(a, normals_a, b, normals_b)
    # edges are sqrt(2) 0.05 apart, points up to 0.01 off them on either side
    assert 2 * 2 * 0.04**2 < found < 2 * 2 * 0.065**2


def test_edges_of_one_cube_approach_with_more_points():
    # points at edges grow at least with n, so the squared gaps along an edge shrink at least with n^2
    few, many = (
        edge_chamfer_distance(*surface(cube(-0.3, 0.3), n), *surface(cube(-0.3, 0.3), n, seed=1))
        for n in (20_000, 40_000)
    )
    assert many < few / 4


def test_iou_of_two_cubes_that_overlap():
    n, true = 400_000, 0.3**3 / (2 * 0.4**3 - 0.3**3)
    either = n * (2 * 0.4**3 - 0.3**3)
    found = volume_iou(cube(-0.25, 0.15), cube(-0.15, 0.25), n)
    # five standard errors of a share of those in either
    assert abs(found - true) < 5 * np.sqrt(true * (1 - true) / either)
    assert found == volume_iou(cube(-0.25, 0.15), cube(-0.15, 0.25), n)


def test_iou_of_functions_and_of_grids():
    from lodim.shapes.meshes import voxelize

    half, quarter = (lambda p: p[:, 0] < 0), (lambda p: p[:, 0] + 0.25)
    assert volume_iou(half, half) == 1
    assert volume_iou(half, lambda p: p[:, 0] > 0) == 0
    assert volume_iou(voxelize(half, 8), voxelize(quarter, 8)) == 0.5


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        (np.ones((2, 2, 2), bool), np.ones((3, 3, 3), bool), "one shape"),
        (np.ones((2, 2, 2)), np.ones((2, 2, 2)), "float64"),
        (np.ones((2, 2, 2), bool), lambda p: p[:, 0], "two grids"),
        (cube(-1, 1), cube(-2, 2), "reaches 1, beyond the cube"),
        (np.zeros((2, 2, 2), bool), np.zeros((2, 2, 2), bool), "neither"),
    ],
)
def test_iou_that_cannot_be(a, b, told):
    with pytest.raises(ValueError, match=told):
        volume_iou(a, b)


@pytest.mark.parametrize(
    ("a", "told"),
    [
        (np.zeros((0, 3)), "minimum of 1"),
        (np.zeros((4, 2)), r"\(n, 3\)"),
        (np.full((2, 3), np.inf), "infinite"),
    ],
)
def test_points_that_are_none(a, told):
    for function in (chamfer_distance, f_score):
        with pytest.raises(ValueError, match=told):
            function(a, np.zeros((3, 3)))


def test_normals_that_are_none():
    x = grid()
    with pytest.raises(ValueError, match="length 1"):
        edge_points(x, 2 * normals_of([0, 0, 1], len(x)))
    with pytest.raises(ValueError, match="must match"):
        edge_points(x, normals_of([0, 0, 1], 3))


def test_arrays_of_any_layout():
    a = np.asfortranarray(grid().astype(">f4"))
    a.flags.writeable = False
    assert chamfer_distance(a, grid() + 0.1) == pytest.approx(2 * 0.03)


def test_a_mesh_is_as_good_as_its_reference_only_up_to_the_floor():
    reference = cube(-0.3, 0.3)
    same = compare_meshes(reference, reference, random_state=1)
    # the same law on both sides
    assert 0.8 < same.chamfer / same.chamfer_floor < 1.25
    # the mean square distance to the nearest of n points on an area is area / (pi n)
    assert same.chamfer_floor == pytest.approx(2 * 6 * 0.36 / (np.pi * 4096), rel=0.1)
    assert same.iou == 1
    assert same.watertight
    moved = compare_meshes(cube(-0.2, 0.4), reference)
    assert moved.chamfer > 5 * moved.chamfer_floor
    assert moved.iou == pytest.approx(0.125 / (2 * 0.216 - 0.125), rel=0.05)
    assert MeshQuality.from_json(same.to_json()) == same
    assert "chamfer" in str(same)


def test_an_open_mesh_has_no_volume_to_share():
    whole = cube(-0.3, 0.3)
    part = trimesh.Trimesh(whole.vertices, whole.faces[2:], process=False)
    found = compare_meshes(part, whole, n_points=500)
    assert np.isnan(found.iou)
    assert not found.watertight


def test_distances_of_all_pairs_are_those_of_each():
    rng = np.random.default_rng(0)
    clouds, others = ([rng.normal(size=(n, 3)) for n in sizes] for sizes in ((5, 9, 1), (4, 7)))
    shares = []
    across = chamfer_distances(clouds, others, progress=lambda share, text: shares.append(share))
    assert across == pytest.approx(
        np.array([[chamfer_distance(a, b) for b in others] for a in clouds]), rel=1e-12
    )
    assert shares == sorted(shares)
    assert shares[-1] == 1
    within = chamfer_distances([*clouds, others[0]])
    assert within[:3, 3] == pytest.approx(across[:, 0], rel=1e-12)
    assert np.array_equal(within, within.T)
    assert not within.diagonal().any()
    nothing = np.empty((0, 3))
    assert chamfer_distances([nothing, clouds[0]], [nothing, clouds[0]]).tolist() == [
        [0, np.inf],
        [np.inf, 0],
    ]
    assert chamfer_distances([], clouds).shape == (0, 3)
    with pytest.raises(ValueError, match=r"others\[1\]"):
        chamfer_distances(clouds, [clouds[0], clouds[0][:, :2]])
