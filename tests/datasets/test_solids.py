import numpy as np
import pytest

from lodim.datasets.solids import FAMILIES, procedural_solids

pytest.importorskip("trimesh")
pytest.importorskip("manifold3d")
SOLIDS = procedural_solids(32, random_state=0)
POINTS = np.random.default_rng(0).uniform(-0.5, 0.5, (50_000, 3))


def drawn(family):
    return [solid for solid in SOLIDS if solid.family == family]


@pytest.mark.parametrize("family", FAMILIES)
def test_mesh_and_inside_function_are_one_solid(family):
    from lodim.shapes.meshes import winding_number

    assert len(drawn(family)) == 4
    for solid in drawn(family):
        mesh, inside = solid.mesh(), solid.contains(POINTS)
        assert mesh.is_watertight
        assert mesh.body_count == 1
        assert np.abs(mesh.bounds).max() <= 0.5
        assert mesh.volume == pytest.approx(solid.volume, rel=1e-9)
        # five standard errors
        share = solid.volume
        assert abs(inside.mean() - share) < 5 * np.sqrt(share * (1 - share) / len(POINTS))
        assert np.array_equal(winding_number(mesh, POINTS[:3000]) > 0.5, inside[:3000])
        assert solid.label == FAMILIES.index(family)


@pytest.mark.parametrize("solid", SOLIDS[:16], ids=str)
def test_pieces_hold_their_vertices_and_parts_their_points(solid):
    for piece in solid.parts:
        heights = piece.halfspaces[:, :3] @ piece.vertices.T + piece.halfspaces[:, 3:]
        assert heights.max() == pytest.approx(0, abs=1e-12)
        # every plane is a face, with three corners or more on it
        assert ((np.abs(heights) < 1e-12).sum(1) >= 3).all()
        assert np.linalg.norm(piece.halfspaces[:, :3], axis=1) == pytest.approx(1)
    part = solid.part_of(POINTS)
    assert set(np.unique(part)) == {-1, *(i for i, piece in enumerate(solid.parts) if not piece.cut)}
    for i in np.unique(part[part >= 0]):
        assert solid.parts[i].contains(POINTS[part == i]).all()
        # the first of those that hold a point
        for before in (piece for piece in solid.parts[:i] if not piece.cut):
            assert not before.contains(POINTS[part == i]).any()


def test_volume_of_boxes_that_touch_is_their_sum():
    for solid in (*drawn("table"), *drawn("chair"), *drawn("l_beam")):
        boxes = [np.prod(np.ptp(piece.vertices, axis=0)) for piece in solid.parts]
        assert solid.volume == pytest.approx(sum(boxes), rel=1e-9)


def test_what_is_cut_out_is_empty():
    for solid in (*drawn("mug"), *drawn("arch")):
        cuts = [piece for piece in solid.parts if piece.cut]
        assert cuts
        for piece in cuts:
            hole = POINTS[piece.contains(POINTS)]
            assert len(hole)
            assert not solid.contains(hole).any()


def test_families_look_different():
    # mean occupancy of a coarse grid, about which each solid of another family is farther than its own
    found = procedural_solids(160, random_state=1)
    axis = (np.arange(12) + 0.5) / 12 - 0.5
    grid = np.stack(np.meshgrid(axis, axis, axis), -1).reshape(-1, 3)
    seen = np.stack([solid.contains(grid) for solid in found]).astype(float)
    label = np.array([solid.label for solid in found])
    train, test = np.arange(160) < 80, np.arange(160) >= 80
    means = np.stack([seen[train & (label == k)].mean(0) for k in range(8)])
    guess = ((seen[test, None] - means) ** 2).sum(2).argmin(1)
    assert (guess == label[test]).mean() > 0.8


def test_the_same_seed_draws_the_same_solids():
    assert procedural_solids(9, random_state=3) == procedural_solids(9, random_state=3)
    assert procedural_solids(9, random_state=3) != procedural_solids(9, random_state=4)
    counts = np.bincount([solid.label for solid in procedural_solids(19, random_state=0)])
    assert set(counts) == {2, 3}
    some = procedural_solids(5, (name for name in ("mug", "arch")), random_state=np.random.default_rng(0))
    assert {solid.family for solid in some} == {"mug", "arch"}


def test_solids_travel_as_json():
    solid = drawn("arch")[0]
    assert type(solid).from_json(solid.to_json()) == solid


@pytest.mark.parametrize(
    ("arguments", "kind", "told"),
    [
        ((0,), ValueError, "n must be at least 1"),
        ((2, ("tabel",)), ValueError, "Did you mean 'table'"),
        ((2, "table"), TypeError, r"\['table'\]"),
        ((2, ()), ValueError, "one or more"),
        ((2, ("mug", "mug")), ValueError, "none twice"),
    ],
)
def test_what_cannot_be_drawn(arguments, kind, told):
    with pytest.raises(kind, match=told):
        procedural_solids(*arguments)


def test_points_that_are_none():
    solid = SOLIDS[0]
    with pytest.raises(ValueError, match=r"\(n, 3\)"):
        solid.contains(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="NaN"):
        solid.part_of(np.full((1, 3), np.nan))
    assert solid.contains(np.zeros((0, 3))).shape == (0,)
    single = POINTS.astype(">f4")
    single.flags.writeable = False
    assert np.array_equal(solid.contains(single), solid.contains(single.astype(float)))
