import re
import warnings
from importlib import metadata

import numpy as np
import pytest
from scipy.stats import chisquare

from lodim.shapes.meshes import (
    as_mesh,
    cell_centres,
    contains,
    decimate,
    isosurface,
    packaged_mesh,
    sample_occupancy,
    sample_surface,
    save_mesh,
    signed_distance,
    simplify,
    to_unit_cube,
    voxelize,
    winding_number,
)

trimesh = pytest.importorskip("trimesh")
HALF = np.array([0.3, 0.2, 0.1])


def box(half=HALF, at=(0, 0, 0)):
    return trimesh.creation.box(2 * np.asarray(half), trimesh.transformations.translation_matrix(at))


def box_distance(points, half=HALF):
    """Signed distance of a box at the origin, by the formula."""
    over = np.abs(points) - half
    return np.linalg.norm(np.maximum(over, 0), axis=1) + np.minimum(over.max(1), 0)


def uniform(n=2000, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (n, 3))


def ball(points):
    return np.linalg.norm(points, axis=1) - 0.3


def open_box():
    whole = box()
    return trimesh.Trimesh(whole.vertices, whole.faces[1:], process=False)


def test_winding_numbers_are_whole_and_add():
    x = uniform()
    one, other = box(), box((0.1, 0.3, 0.2), (0.15, 0, 0))
    assert winding_number(one, x) == pytest.approx((box_distance(x) < 0).astype(float), abs=1e-12)
    both = winding_number(trimesh.util.concatenate([one, other]), x)
    assert both == pytest.approx(winding_number(one, x) + winding_number(other, x), abs=1e-12)
    assert both.max() == pytest.approx(2)
    turned = trimesh.Trimesh(one.vertices, one.faces[:, ::-1], process=False)
    assert winding_number(turned, x) == pytest.approx(-winding_number(one, x), abs=1e-12)


def test_an_open_mesh_winds_by_the_solid_angle_that_is_left():
    # seen from the middle of a cube, each of its twelve faces has the same solid angle
    cube = trimesh.creation.box((1, 1, 1))
    part = trimesh.Trimesh(cube.vertices, cube.faces[:9], process=False)
    assert winding_number(part, np.zeros((1, 3))) == pytest.approx([9 / 12])


def test_far_from_the_origin_inside_is_as_near_it():
    # coordinates that stay exact when they are moved, products of which would not
    mesh, x, away = box(np.array([37, 23, 31]) / 128), np.round(uniform(500) * 64) / 64 + 1 / 256, 2.0**44
    moved = trimesh.Trimesh(mesh.vertices + away, mesh.faces, process=False)
    assert winding_number(moved, x + away) == pytest.approx(winding_number(mesh, x), abs=1e-12)


def test_signed_distance_of_a_box():
    x = uniform()
    assert signed_distance(box(), x) == pytest.approx(box_distance(x), abs=1e-12)


def through_corners(mesh, n=11):
    """Points whose rays upwards meet corners of the mesh."""
    return np.hstack(
        [np.repeat(mesh.vertices[:, :2], n, axis=0), np.tile(uniform(n)[:, 2], len(mesh.vertices))[:, None]]
    )


@pytest.mark.parametrize("turned", [False, True])
def test_rays_through_corners_and_edges_tell_the_inside(turned):
    from lodim.datasets.solids import procedural_solids

    for i, solid in enumerate(procedural_solids(16, random_state=7)):
        mesh = solid.mesh()
        x = np.vstack([cell_centres(10), through_corners(mesh)])
        # on the surface itself rounding tells
        x = x[np.abs(signed_distance(mesh, x)) > 1e-9]
        truth = solid.contains(x)
        if turned:
            angles = trimesh.transformations.random_rotation_matrix(np.random.default_rng(i).random(3))
            mesh, x = mesh.apply_transform(angles), trimesh.transform_points(x, angles)
        assert np.array_equal(contains(mesh, x), truth)


def test_rays_count_as_winding_numbers_do():
    # noise has tunnels, cavities, and rays through its corners and along its walls; bodies overlap
    values = np.random.default_rng(0).integers(-1, 2, (6, 6, 6))
    noise = isosurface(values)
    both = trimesh.util.concatenate([box(), box((0.1, 0.3, 0.2), (0.15, 0, 0)), noise])
    x = np.indices((19, 19, 19)).reshape(3, -1).T / 18 - 0.5
    for mesh in (noise, both):
        away = x[np.abs(signed_distance(mesh, x)) > 1e-9]
        assert np.array_equal(contains(mesh, away), winding_number(mesh, away) > 0.5)


@pytest.mark.parametrize("kind", ["any", "flat", "one point", "one large"])
def test_distance_is_that_of_all_triangles(kind):
    rng = np.random.default_rng(0)
    corners = rng.normal(size=(40, 3, 3))
    if kind == "flat":
        corners[:, 2] = 0.3 * corners[:, 0] + 0.7 * corners[:, 1]
    elif kind == "one point":
        corners[1:] = corners[1:, :1]
    elif kind == "one large":
        corners[0] *= 1000
    x = rng.normal(size=(200, 3)) * rng.choice([0.1, 1, 30], (200, 1))
    with pytest.warns(UserWarning, match="not watertight"):
        found = np.abs(signed_distance((corners.reshape(-1, 3), np.arange(120).reshape(-1, 3)), x))
    pairs = [np.tile(corners, (200, 1, 1)), np.repeat(x, 40, axis=0)]
    if kind in ("flat", "one point"):
        # those of their sides, by projection
        start, end = (pairs[0][:, k] for k in ((0, 0, 1), (1, 2, 2)))
        side = end - start
        share = ((pairs[1][:, None] - start) * side).sum(2) / np.maximum((side**2).sum(2), 1e-300)
        apart = np.linalg.norm(
            start + np.clip(share, 0, 1)[..., None] * side - pairs[1][:, None], axis=2
        ).min(1)
        if kind == "one point":
            apart[::40] = np.linalg.norm(
                trimesh.triangles.closest_point(corners[:1].repeat(200, 0), x) - x, axis=1
            )
    else:
        apart = np.linalg.norm(trimesh.triangles.closest_point(*pairs) - pairs[1], axis=1)
    assert found == pytest.approx(apart.reshape(200, 40).min(1), rel=1e-12, abs=1e-12)


def test_a_flat_face_changes_no_distance():
    # one that names a corner twice, and one of three points in a line
    vertices = np.vstack([box().vertices, box().vertices[:2].mean(0)])
    faces = np.vstack([box().faces, [0, 0, 1], [0, 1, 8]])
    x = uniform(100)
    with pytest.warns(UserWarning, match="not watertight"):
        found = signed_distance((vertices, faces), x)
    assert found == pytest.approx(box_distance(x), abs=1e-12)


@pytest.mark.parametrize(
    "points", [uniform().astype(np.float32), uniform().astype(">f8"), uniform()[:, ::-1], np.zeros((0, 3))]
)
def test_points_of_any_layout(points):
    points.flags.writeable = False
    found = contains(box(), points)
    assert np.array_equal(found, box_distance(points.astype(float)) < 0)


def test_contains_asks_each_kind_of_shape():
    class Half:
        def contains(self, points):
            return points[:, 0] < 0

        def mesh(self):
            raise AssertionError("the exact answer is at hand")

    class Meshed:
        def mesh(self):
            return box()

    x = uniform()
    truth = box_distance(x) <= 0
    for shape in (box_distance, lambda p: box_distance(p) <= 0, Meshed(), (box().vertices, box().faces)):
        assert np.array_equal(contains(shape, x), truth)
    assert np.array_equal(contains(Half(), x), x[:, 0] < 0)


def test_an_open_mesh_says_how_many_edges_are_open():
    with pytest.warns(UserWarning, match=r"not watertight \(3 of its edges"):
        contains(open_box(), uniform(10))
    with pytest.warns(UserWarning, match="3 of its edges"):
        voxelize(open_box(), 4)


def test_a_closed_mesh_that_is_turned_inwards_is_told():
    inwards, mixed = box(), box()
    inwards.invert()
    mixed.faces = np.vstack([mixed.faces[:6], mixed.faces[6:, ::-1]])
    for mesh in (inwards, mixed):
        with pytest.warns(UserWarning, match="turned outwards"):
            contains(mesh, uniform(10))
        mesh.fix_normals()
        assert np.array_equal(contains(mesh, uniform()), box_distance(uniform()) < 0)


def test_warnings_name_the_line_of_the_user():
    from lodim.shapes.metrics import volume_iou

    calls = (
        lambda: contains(open_box(), uniform(10)),
        lambda: signed_distance(open_box(), uniform(10)),
        lambda: voxelize(open_box(), 2),
        lambda: sample_occupancy(open_box(), 10),
        lambda: volume_iou(open_box(), box(), 100),
    )
    for call in calls:
        with pytest.warns(UserWarning, match="not watertight") as caught:
            call()
        assert [warning.filename for warning in caught] == [__file__]


def test_a_subclass_of_trimesh_is_a_mesh():
    class Own(trimesh.Trimesh):
        def contains(self, points):
            raise AssertionError("by rays that go wrong at edges")

    assert np.array_equal(contains(Own(box().vertices, box().faces), uniform()), box_distance(uniform()) < 0)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda p: p[:, :1] < 0, r"shape \(7, 1\)"),
        (lambda p: p[:3, 0], r"shape \(3,\)"),
        (lambda p: np.ones(len(p), int), "int64"),
        (lambda p: p[:, 0] * np.nan, "7 NaN"),
    ],
)
def test_functions_that_answer_something_else(answer, told):
    with pytest.raises(ValueError, match=told):
        contains(answer, uniform(7))


@pytest.mark.parametrize("points", [np.zeros((4, 2)), np.zeros((4, 4)), np.full((2, 3), np.nan)])
def test_points_that_are_none(points):
    for function in (contains, signed_distance, winding_number):
        with pytest.raises(ValueError, match=r"points (must have shape \(n, 3\)|has .* NaN)"):
            function(box(), points)


def test_surface_points_are_uniform_by_area():
    # a box of unequal faces
    points, normals = sample_surface(box(), 20_000, random_state=0)
    assert box_distance(points) == pytest.approx(0, abs=1e-12)
    assert np.linalg.norm(normals, axis=1) == pytest.approx(1)
    assert ((points * normals).sum(1) > 0).all()
    areas = HALF.prod() / HALF
    counts = [(normals[:, k] * sign > 0.5).sum() for k in range(3) for sign in (-1, 1)]
    assert chisquare(counts, np.repeat(areas, 2) / areas.sum() / 2 * 20_000).pvalue > 1e-3
    # within the largest side, quarters: both its triangles are filled evenly
    top = points[normals[:, 2] > 0.5]
    quarters = np.bincount((top[:, 0] > 0) * 2 + (top[:, 1] > 0), minlength=4)
    assert chisquare(quarters).pvalue > 1e-3
    assert np.array_equal(points, sample_surface(box(), 20_000, random_state=0)[0])


def test_occupancy_points():
    points, inside = sample_occupancy(box(), 4000, near_surface=0.75, spread=0.01, random_state=0)
    assert np.array_equal(inside, box_distance(points) < 0)
    near = np.abs(box_distance(points)) < 0.05
    # of the uniform quarter a part is near as well
    assert 0.75 <= near.mean() < 0.87
    first, second = np.split(near, 2)
    assert abs(first.mean() - second.mean()) < 0.05


def test_occupancy_of_a_function_and_at_the_border():
    points, _ = sample_occupancy(ball, 1000, near_surface=1.0, spread=0.0, random_state=0)
    assert np.abs(ball(points)).max() < 1 / 48
    points, _ = sample_occupancy(box((0.5, 0.5, 0.5)), 1000, near_surface=1.0, spread=0.1, random_state=0)
    assert np.abs(points).max() <= 0.5
    # rounding put its surface beyond the border
    wide = box((0.5 + 1e-7,) * 3)
    assert len(sample_occupancy(wide, 100, near_surface=1.0, spread=0.0)[0]) == 100
    assert len(sample_occupancy(lambda p: ball(p) > 9, 5, near_surface=0.0)[1]) == 5


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"shape": box((0.6, 0.1, 0.1))}, "to_unit_cube"),
        ({"shape": lambda p: p[:, 0] + 9}, "inside nowhere"),
        ({"n": 0}, "n must be at least 1"),
        ({"near_surface": 1.5}, "near_surface"),
        ({"spread": -1.0}, "spread"),
    ],
)
def test_occupancy_that_cannot_be(options, told):
    with pytest.raises(ValueError, match=told):
        sample_occupancy(**{"shape": box(), "n": 10, **options})


def test_voxels_are_at_the_centres_of_cells():
    found = voxelize(lambda p: (p[:, 0] < 0) & (p[:, 2] > 0.25), 8)
    assert found.sum() == 4 * 8 * 2
    assert found[:4, :, 6:].all()
    with pytest.raises(ValueError, match="to_unit_cube"):
        voxelize(box((3, 1, 1)), 8)
    assert cell_centres(2)[1] == pytest.approx([-0.25, -0.25, 0.25])


def test_isosurface_of_a_sphere_is_of_second_order():
    short = []
    for resolution in (16, 32):
        mesh = isosurface(ball(cell_centres(resolution)).reshape((resolution,) * 3))
        assert mesh.is_watertight
        # chords cut a sphere of radius R at most h^2 / R below it, within the cells they span
        assert np.abs(ball(mesh.vertices)).max() < 1 / (resolution**2 * 0.3)
        short.append(4 / 3 * np.pi * 0.3**3 - mesh.volume)
    assert short[0] > 0
    assert short[0] / short[1] == pytest.approx(4, rel=0.15)


@pytest.mark.parametrize("fill", [1e3, 1e12, 1e300])
def test_values_away_from_the_surface_do_not_move_it(fill):
    r = 16
    values = ball(cell_centres(r)).reshape(r, r, r)
    cut = np.where(np.abs(values) < 0.15, values, np.sign(values) * fill)
    for scale in (1, 1e-200):
        assert isosurface(cut * scale).vertices == pytest.approx(isosurface(values).vertices, abs=1e-6)


def test_isosurface_is_closed_on_the_border():
    r = 10
    slab = isosurface((cell_centres(r)[:, 0] - 0.12).reshape(r, r, r))
    assert slab.is_watertight
    assert slab.bounds == pytest.approx(np.array([[-0.5, -0.5, -0.5], [0.12, 0.5, 0.5]]), abs=1e-5)
    # edges of the cube are cut at 45 degrees, half a cell deep
    assert slab.volume == pytest.approx(0.62, rel=0.03)
    assert slab.volume < 0.62
    full = isosurface(np.ones((4, 4, 4), bool), bounds=2.0)
    assert full.is_watertight
    assert full.extents == pytest.approx([4, 4, 4])


@pytest.mark.parametrize("seed", range(5))
def test_isosurface_of_noise_is_watertight(seed):
    rng = np.random.default_rng(seed)
    # integers lie exactly on the level in a third of the places
    for values in (
        rng.normal(size=(7, 7, 7)),
        rng.integers(-1, 2, (7, 7, 7)),
        1e-30 * rng.normal(size=(7, 7, 7)),
    ):
        mesh = isosurface(values)
        assert mesh.is_watertight
        assert mesh.volume > 0


def test_isosurface_levels_and_bad_values():
    r = 24
    values = ball(cell_centres(r)).reshape(r, r, r)
    assert isosurface(values + 7e6, isovalue=7e6).volume == pytest.approx(isosurface(values).volume, rel=1e-4)
    with pytest.warns(UserWarning, match="nothing is inside"):
        assert not len(isosurface(values + 1).faces)
    with pytest.raises(ValueError, match="isovalue"):
        isosurface(values, isovalue=np.inf)
    for bad, told in ((values[:3], "shape"), (values * np.nan, "NaN"), (values[0], "shape")):
        with pytest.raises(ValueError, match=told):
            isosurface(bad)


def test_into_the_cube_and_back():
    mesh = box((30, 20, 5), (100, -7, 3))
    moved, cube = to_unit_cube(mesh, padding=0.1)
    assert moved.bounds == pytest.approx(np.array([[-0.4, -0.8 / 3, -0.2 / 3], [0.4, 0.8 / 3, 0.2 / 3]]))
    assert cube.undo(moved.vertices) == pytest.approx(mesh.vertices)
    assert cube.apply(cube.undo(uniform())) == pytest.approx(uniform())
    assert mesh.bounds[0, 0] == 70
    # a vertex that no face uses does not count
    stray = trimesh.Trimesh(np.vstack([mesh.vertices, [1e9, 0, 0]]), mesh.faces, process=False)
    assert to_unit_cube(stray)[1].scale == to_unit_cube(mesh)[1].scale
    with pytest.raises(ValueError, match="no extent"):
        to_unit_cube((np.ones((3, 3)), np.array([[0, 1, 2]])))
    with pytest.raises(ValueError, match="padding"):
        to_unit_cube(mesh, padding=0.5)


def test_meshes_from_arrays():
    mesh = as_mesh(([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.array([[0, 1, 2]], np.uint8)))
    assert mesh.vertices.dtype == np.float64
    assert as_mesh(mesh) is mesh


@pytest.mark.parametrize(
    ("source", "kind", "told"),
    [
        (trimesh.Scene(), ValueError, "no objects"),
        (trimesh.PointCloud(np.zeros((4, 3))), ValueError, "no faces.*read_points"),
        (trimesh.Trimesh(), ValueError, "empty"),
        (trimesh.Trimesh(np.zeros((3, 3))), ValueError, "no faces"),
        ((np.zeros((3, 3)), [[0, 1, 3]]), ValueError, "0 to 3, but there are 3"),
        ((np.zeros((3, 3)), [[0.0, 1, 2]]), ValueError, "integers"),
        ((np.zeros((4, 3)), [[0, 1, 2, 3]]), ValueError, "triangles"),
        ((np.zeros((3, 2)), [[0, 1, 2]]), ValueError, r"\(v, 3\)"),
        ((np.full((3, 3), np.nan), [[0, 1, 2]]), ValueError, "NaN"),
        (trimesh.Trimesh(np.full((3, 3), np.nan), [[0, 1, 2]], process=False), ValueError, "3 vertices"),
        (ball, TypeError, "isosurface"),
        (np.zeros((3, 3)), TypeError, "ndarray"),
        ("nowhere/none.obj", FileNotFoundError, "none.obj"),
    ],
)
def test_what_is_no_mesh(source, kind, told):
    with pytest.raises(kind, match=told):
        as_mesh(source)


def test_files_that_are_no_mesh(tmp_path):
    with pytest.raises(IsADirectoryError):
        as_mesh(tmp_path)
    (tmp_path / "back.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf -3 -2 -1\n")
    assert as_mesh(tmp_path / "back.obj").area == 0.5
    for name, text, told in (
        ("a.step", "x", r"must end in \.obj"),
        ("a.ply", "garbage", "cannot be read as PLY"),
        ("a.glb", "", "cannot be read as GLB"),
        ("a.obj", "v 0 0 0\nv 1 0 0\n", "no faces|nothing"),
        ("c.obj", 2 * "v 0 0 0\nv 1 0 0\nv 0 1 0\nf -1 -2 -3\n", "count vertices back"),
        ("b.obj", "v 0 0 nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "NaN"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=told):
            as_mesh(tmp_path / name)


def test_objects_of_a_scene_are_where_they_stand():
    scene = trimesh.Scene()
    for at in (-0.3, 0.3):
        scene.add_geometry(
            box((0.1, 0.1, 0.1)), transform=trimesh.transformations.translation_matrix((at, 0, 0))
        )
    mesh = as_mesh(scene)
    assert mesh.bounds[:, 0] == pytest.approx([-0.4, 0.4])
    assert mesh.volume == pytest.approx(0.016)


@pytest.mark.parametrize(("ending", "within"), [("obj", 0), ("ply", 1e-7), ("stl", 1e-7), ("glb", 1e-7)])
def test_files_there_and_back(tmp_path, ending, within):
    path = tmp_path / f"a mesh with blanks.{ending}"
    mesh, parts = box(), None if ending == "stl" else np.arange(12) % 3
    mesh.vertices = mesh.vertices / 3
    save_mesh(mesh, path, parts)
    back = as_mesh(str(path))
    assert back.is_watertight
    assert len(back.vertices) == 8
    order = [np.lexsort(np.round(m.vertices, 5).T) for m in (mesh, back)]
    assert back.vertices[order[1]] == pytest.approx(mesh.vertices[order[0]], abs=within, rel=0)
    assert back.volume == pytest.approx(mesh.volume, rel=1e-5)


def test_materials_and_colours_are_those_of_the_parts(tmp_path):
    parts = np.repeat([0, 4, 7], 4)
    save_mesh(box(), tmp_path / "a b.obj", parts)
    text = (tmp_path / "a b.obj").read_text()
    used = re.findall(r"^usemtl (\S+)$", text, re.MULTILINE)
    known = re.findall(r"^newmtl (\S+)$", (tmp_path / "a_b.mtl").read_text(), re.MULTILINE)
    assert used == known == ["part_0", "part_4", "part_7"]
    loaded = trimesh.load(str(tmp_path / "a b.obj"), group_material=True, split_object=False)
    assert sorted(len(g.faces) for g in loaded.geometry.values()) == [4, 4, 4]
    save_mesh(box(), tmp_path / "a.ply", parts)
    colours = trimesh.load(str(tmp_path / "a.ply"), process=False).visual.face_colors
    assert [len(np.unique(colours[parts == k], axis=0)) for k in (0, 4, 7)] == [1, 1, 1]
    assert len(np.unique(colours[parts < 7], axis=0)) == 2


def test_files_that_cannot_be_written(tmp_path):
    for name, parts, told in (
        ("a.xyz", None, "ending"),
        ("a.stl", np.zeros(12, int), "STL"),
        ("a.obj", np.zeros(11, int), "one a face"),
        ("a.ply", np.full(12, -1), "from 0"),
    ):
        with pytest.raises(ValueError, match=told):
            save_mesh(box(), tmp_path / name, parts)
    with pytest.raises(FileNotFoundError):
        save_mesh(box(), tmp_path / "none" / "a.ply")
    assert not list(tmp_path.iterdir())


def test_decimation_keeps_the_shape():
    fine = trimesh.creation.icosphere(4, 0.4)
    coarse = decimate(fine, 500)
    assert len(coarse.faces) <= 500
    assert coarse.is_watertight
    assert coarse.volume == pytest.approx(fine.volume, rel=0.03)
    assert decimate(coarse, 10_000) is coarse


def packaged():
    try:
        return metadata.distribution("pyvista").locate_file("pyvista/examples/ant.ply").exists()
    except metadata.PackageNotFoundError:
        return False


@pytest.mark.skipif(not packaged(), reason="the wheel pyvista is not installed")
@pytest.mark.parametrize(
    ("name", "n_vertices", "closed"),
    [
        ("airplane", 1335, False),
        ("ant", 486, True),
        ("nut", 523, True),
        ("sphere", 422, True),
        ("globe", 457, True),
    ],
)
def test_packaged_meshes(name, n_vertices, closed):
    mesh = packaged_mesh(name)
    assert len(mesh.vertices) == n_vertices
    assert mesh.is_watertight == closed
    cube, _ = to_unit_cube(mesh)
    assert np.abs(cube.bounds).max() == pytest.approx(0.45)
    if closed:
        x = np.vstack([uniform(500), through_corners(cube, 3)])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            inside = contains(cube, x)
        away = np.abs(signed_distance(cube, x)) > 1e-9
        assert np.array_equal(inside[away], (winding_number(cube, x) > 0.5)[away])
        inside = inside[:500]
        # five standard errors
        assert abs(inside.mean() - cube.volume) < 5 * np.sqrt(cube.volume * (1 - cube.volume) / 500)


def test_packaged_meshes_that_are_not_there(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps pyvista"):
        packaged_mesh("ant")
    with pytest.raises(ValueError, match="airplane"):
        packaged_mesh("aeroplane")


def test_simplifying_a_subdivided_box_gives_its_twelve_triangles_back():
    box = trimesh.creation.box((0.4, 0.6, 0.2))
    fine = box.subdivide().subdivide()
    few = simplify(fine, 1e-6)
    assert len(few.faces) == 12
    assert few.is_watertight
    assert few.volume == pytest.approx(box.volume, rel=1e-9)


def test_simplifying_stays_within_the_tolerance():
    ball = trimesh.creation.icosphere(4, 0.4)
    few = simplify(ball, 0.01)
    assert few.is_watertight
    assert len(few.faces) < len(ball.faces) / 4
    assert np.abs(np.linalg.norm(sample_surface(few, 2000, 0)[0], axis=1) - 0.4).max() < 0.02
    with pytest.raises(ValueError, match="must be closed"):
        simplify(trimesh.Trimesh(ball.vertices, ball.faces[1:], process=False), 0.01)
