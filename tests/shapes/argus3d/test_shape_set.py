import dataclasses

import numpy as np
import pytest

from lodim.datasets.solids import FAMILIES, procedural_solids
from lodim.shapes.argus3d.shape_set import ShapeSet, find_shapes, shape_set
from lodim.shapes.meshes import save_mesh, signed_distance

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("manifold3d")

FEW = {"n_points": 60, "n_queries": 80}


@pytest.fixture(scope="module")
def solids():
    return procedural_solids(8, random_state=0)


def box(edges, at=(0, 0, 0)):
    return trimesh.creation.box(edges, trimesh.transformations.translation_matrix(at))


def test_points_are_on_surfaces_and_queries_answered(solids):
    found = shape_set(solids, **FEW, noise=0.0, random_state=0)
    assert found.points.dtype == found.queries.dtype == np.float32
    assert (found.points.shape, found.queries.shape) == ((8, 60, 3), (8, 80, 3))
    for i, solid in enumerate(solids):
        assert np.abs(signed_distance(solid.mesh(), found.points[i])).max() < 1e-6
        # in single precision a query at the surface may change sides
        clear = np.abs(signed_distance(solid.mesh(), found.queries[i])) > 1e-6
        assert np.array_equal(found.occupancy[i][clear], solid.contains(found.queries[i])[clear])
        assert FAMILIES[found.labels[i]] == solid.family
    assert found.names == FAMILIES


def test_noise_has_its_deviation(solids):
    exact = shape_set(solids[:2], n_points=4000, n_queries=1, noise=0.0, random_state=0)
    moved = shape_set(solids[:2], n_points=4000, n_queries=1, noise=0.01, random_state=0)
    off = moved.points - exact.points
    assert off.std() == pytest.approx(0.01, rel=0.05)
    assert abs(off.mean()) < 3 * 0.01 / off.size**0.5


def test_a_shape_has_its_points_whatever_the_others_and_the_processes(solids):
    told = []
    one = shape_set(solids, **FEW, random_state=3, progress=lambda share, text: told.append(share))
    two = shape_set(solids[:3], **FEW, random_state=3, n_jobs=2)
    assert np.array_equal(one.points[:3], two.points)
    assert np.array_equal(one.occupancy[:3], two.occupancy)
    assert told == [(i + 1) / 8 for i in range(8)]
    assert not np.array_equal(one.points, shape_set(solids, **FEW, random_state=4).points)


def test_parts_of_a_set_are_sets(solids):
    found = shape_set(solids, **FEW, random_state=0)
    assert len(found) == 8
    for which in (slice(2, 5), [2, 3, 4], np.arange(8) // 3 == 1):
        part = found[which]
        assert isinstance(part, ShapeSet)
        assert len(part.queries) == len(part)
    assert np.array_equal(found[2:5].points, found[[2, 3, 4]].points)
    assert len(found[-1]) == 1
    assert found[-1].labels[0] == found.labels[-1]
    with pytest.raises(ValueError, match="must have shapes"):
        ShapeSet(found.points[:3], found.queries, found.occupancy, found.labels, found.names)
    with pytest.raises(ValueError, match="places in names"):
        ShapeSet(found.points, found.queries, found.occupancy, found.labels, found.names[:2])


def test_labels_are_numbers_or_names():
    boxes = [box((0.5, 0.4, 0.3)), box((0.2, 0.2, 0.9)), box((0.6, 0.6, 0.1))]
    found = shape_set(boxes, ["plate", "bar", "plate"], **FEW, random_state=0)
    assert (found.names, found.labels.tolist()) == (("bar", "plate"), [1, 0, 1])
    assert shape_set(boxes, [0, 2, 0], **FEW).names == ("0", "1", "2")
    assert shape_set(boxes, [1, 0, 1], names=("bar", "plate"), **FEW).labels.tolist() == [1, 0, 1]
    assert shape_set(boxes, **FEW).names == ("shape",)
    for labels, names, said in (
        ([0, 1], None, "one a shape"),
        ([0.0, 1.0, 0.0], None, "integers or strings"),
        ([0, 1, 2], ("a", "b"), r"in \[0, 2\)"),
        ([-1, 0, 1], None, r"in \[0, "),
        (["a", "b", "c"], ("a", "b"), "'c' is not"),
    ):
        with pytest.raises(ValueError, match=said):
            shape_set(boxes, labels, names=names, **FEW)


def test_shapes_beyond_the_cube_are_named_or_moved():
    shapes = [box((0.5, 0.4, 0.3)), box((4, 2, 2), (10, 0, 0))]
    with pytest.raises(ValueError, match=r"1 of 2 shapes .* number 1: .*beyond the cube"):
        shape_set(shapes, **FEW)
    found = shape_set(shapes, **FEW, noise=0.0, normalize=True, random_state=0)
    assert np.abs(found.points).max(1)[:, 0] == pytest.approx(0.45, abs=1e-3)
    with pytest.raises(ValueError, match="a shape at least"):
        shape_set([])


def test_collections_are_found_in_folders(tmp_path):
    for place in ("chair/1a/models/m.obj", "chair/1a/models/m.ply", "chair/2b/models/m.obj", "desk/train/d_1.off",
                  "desk/test/d_2.off", "desk/train/._d_1.off", "desk/train/notes.txt"):  # fmt: skip
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("OFF\n")
    paths, labels, names = find_shapes(tmp_path)
    said = [path.relative_to(tmp_path).as_posix() for path in paths]
    assert said == [
        "chair/1a/models/m.obj",
        "chair/2b/models/m.obj",
        "desk/test/d_2.off",
        "desk/train/d_1.off",
    ]
    assert (labels.tolist(), names) == ([0, 0, 1, 1], ("chair", "desk"))
    with pytest.warns(UserWarning, match="left out, the first is chair"):
        paths, labels, names = find_shapes(tmp_path, split="train")
    assert ([path.name for path in paths], names) == (["d_1.off"], ("desk",))
    with pytest.raises(ValueError, match="in folders 'valid'"):
        find_shapes(tmp_path, "valid")
    with pytest.raises(NotADirectoryError):
        find_shapes(tmp_path / "none")


def test_what_is_found_can_be_read_and_a_damaged_file_is_named(tmp_path):
    for kind, edges in (("bar", (1, 1, 9)), ("plate", (5, 5, 1))):
        (tmp_path / kind).mkdir()
        save_mesh(box(edges), tmp_path / kind / "a.ply")
    paths, labels, names = find_shapes(tmp_path)
    found = shape_set(paths, labels, names=names, normalize=True, **FEW, random_state=0)
    assert (found.labels.tolist(), found.names) == ([0, 1], ("bar", "plate"))
    (tmp_path / "plate" / "a.ply").write_text("no mesh")
    with pytest.raises(ValueError, match=r"number 1 \(.*a.ply\): "):
        shape_set(paths, labels, names=names, normalize=True, **FEW)


def test_names_without_labels_are_used(solids):
    boxes, families = [box((0.5, 0.4, 0.3))] * 2, tuple(sorted(FAMILIES))
    assert shape_set(boxes, names=("crate",), **FEW).names == ("crate",)
    found = shape_set(solids, names=families, **FEW, random_state=0)
    assert found.names == families
    assert [families[label] for label in found.labels] == [solid.family for solid in solids]
    assert shape_set(boxes, np.array(["b", "a"], object), **FEW).labels.tolist() == [1, 0]
    for given, names, said in (
        (boxes, ("a", "b"), "of one class"),
        (boxes, "box", "different strings"),
        (boxes, ("a", "a"), "different strings"),
        (solids, ("vase",), "is not; names"),
    ):
        with pytest.raises(ValueError, match=said):
            shape_set(given, names=names, **FEW)


@pytest.mark.parametrize(("name", "kind"), [("occupancy", float), ("labels", float), ("points", list)])
def test_a_set_is_of_arrays(solids, name, kind):
    found = shape_set(solids[:2], **FEW, random_state=0)
    array = getattr(found, name)
    with pytest.raises(TypeError, match=name):
        dataclasses.replace(found, **{name: array.tolist() if kind is list else array.astype(kind)})


def test_hidden_folders_hold_no_shapes(tmp_path):
    for place in ("chair/a.OBJ", "chair/.cache/b.obj"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    assert [path.name for path in find_shapes(tmp_path)[0]] == ["a.OBJ"]
