import numpy as np
import pytest

from lodim.shapes.meshes import sample_surface
from lodim.shapes.points import orient_normals, point_signed_distance, read_points

trimesh = pytest.importorskip("trimesh")
HALF = np.array([0.3, 0.2, 0.1])


def sphere_points(n=2000, seed=0):
    x = np.random.default_rng(seed).normal(size=(n, 3))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_points_from_files(tmp_path):
    x, n = sphere_points(50), sphere_points(50)
    rows = np.hstack([3 * x, n])
    for name, text in (
        ("a.xyz", "\n".join(" ".join(map(repr, row)) for row in rows.tolist())),
        ("a.csv", "x,y,z,nx,ny,nz\n" + "\n".join(",".join(map(repr, row)) for row in rows.tolist())),
        ("a.ply", "ply\nformat ascii 1.0\nelement vertex 50\n"
         + "".join(f"property double {c}\n" for c in ("x", "y", "z", "nx", "ny", "nz"))
         + "end_header\n" + "\n".join(" ".join(map(repr, row)) for row in rows.tolist()) + "\n"),
    ):  # fmt: skip
        (tmp_path / name).write_text(text)
        points, normals = read_points(tmp_path / name)
        assert points == pytest.approx(3 * x)
        assert normals == pytest.approx(n)
    np.save(tmp_path / "a b.npy", rows[:, :3].astype(">f4"))
    points, normals = read_points(str(tmp_path / "a b.npy"))
    assert points == pytest.approx(3 * x, rel=1e-6)
    assert normals is None


def test_points_that_cannot_be_read(tmp_path):
    for name, text, told in (
        ("a.csv", "x,y,z\n", "no numbers"),
        ("b.csv", "1,2,3\n1,two,3\n", "cannot be read as numbers"),
        ("c.csv", "1,2\n3,4\n", "3 columns"),
        ("d.xyz", "0 0 0 255 0 12\n", "colours"),
        ("e.npy", "none", "cannot be read"),
        ("f.las", "", "must end in"),
        ("g.csv", "1,2,nan\n", "NaN"),
        # no line of names, and no three columns
        ("h.csv", "nan,1,2\n1,1,1\n", "NaN"),
        ("i.csv", "x,y,z,w\n1,,2,3\n", "cannot be read as numbers"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=told):
            read_points(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_points(tmp_path / "none.ply")


def test_normals_of_a_sphere_and_a_box_point_outwards():
    x = sphere_points()
    assert ((orient_normals(x + 5) * x).sum(1) > 0.97).all()
    points, truth = sample_surface(trimesh.creation.box(2 * HALF), 4000, random_state=1)
    found = orient_normals(points, 10)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1)
    # at edges the plane of the neighbours lies between both sides
    assert ((found * truth).sum(1) > 0).mean() > 0.995
    inner = np.sort(np.abs(np.abs(points) - HALF), axis=1)[:, 1] > 0.06
    assert (found * truth).sum(1)[inner] == pytest.approx(1)


def test_normals_of_a_thin_plate_with_legs_point_outwards():
    # sharp edges all around, where the cosine of both normals says nothing
    from lodim.datasets.solids import procedural_solids

    for i, solid in enumerate(procedural_solids(6, ("table", "l_beam"), random_state=5)):
        points, truth = sample_surface(solid.mesh(), 5000, random_state=i)
        assert ((orient_normals(points) * truth).sum(1) > 0).mean() > 0.98


def test_two_balls_each_point_outwards():
    x = sphere_points(1000)
    both = np.vstack([x, x + [10, 0, 0]])
    assert ((orient_normals(both, 8) * np.vstack([x, x])).sum(1) > 0.9).all()


def test_distance_from_points_is_right_to_first_order():
    x = sphere_points(4000)
    out = sphere_points(500, seed=1)
    for height in (-0.05, -0.02, 0.02, 0.05):
        found = point_signed_distance(x, x, (1 + height) * out)
        # the planes of points at the spacing h lie h^2 / 2 above the sphere
        assert np.abs(found - height).max() < 0.01
    queries = np.random.default_rng(0).uniform(-3, 3, (2000, 3))
    radius = np.linalg.norm(queries, axis=1)
    clear = np.abs(radius - 1) > 0.05
    assert np.array_equal((point_signed_distance(x, x, queries) < 0)[clear], (radius < 1)[clear])
    with pytest.raises(ValueError, match="must match"):
        point_signed_distance(x, x[:9], queries)
    with pytest.raises(ValueError, match="length 1"):
        point_signed_distance(x, 2 * x, queries)
    with pytest.raises(ValueError, match="minimum of 17"):
        orient_normals(x[:10])


def test_points_without_a_plane():
    x = sphere_points(40)
    # twice each, most neighbours are others
    assert ((orient_normals(np.repeat(x, 2, axis=0)) * np.repeat(x, 2, axis=0)).sum(1) > 0.8).all()
    for bad in (np.repeat(x, 20, axis=0), np.outer(np.arange(30.0), [1, 2, 3]), np.ones((30, 3))):
        with pytest.raises(ValueError, match="on a line or in one place"):
            orient_normals(bad)
    # the plane of one point, many times over
    same, up = np.ones((9, 3)), np.tile([0.0, 0, 1], (9, 1))
    assert point_signed_distance(same, up, np.array([[5, 1, 3.0], [1, 1, 0]])) == pytest.approx([2, -1])
