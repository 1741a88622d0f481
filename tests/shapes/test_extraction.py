import numpy as np
import pytest

from lodim.datasets.solids import procedural_solids
from lodim.shapes.extraction import extract_surface
from lodim.shapes.meshes import signed_distance

pytest.importorskip("trimesh")
pytest.importorskip("skimage")


class Counted:
    def __init__(self, function):
        self.function, self.n, self.largest = function, 0, 0

    def __call__(self, points):
        self.n += len(points)
        self.largest = max(self.largest, len(points))
        return self.function(points)


def ball(points):
    return np.linalg.norm(points - 0.03, axis=1) - 0.35


def torus(points):
    x, y, z = points.T
    return np.hypot(np.hypot(x, z) - 0.3, y) - 0.1


def two_balls(points):
    return np.minimum(ball(points), np.linalg.norm(points - [-0.35, 0.35, 0.35], axis=1) - 0.1)


@pytest.mark.parametrize("function", [ball, torus, two_balls])
def test_it_is_the_mesh_of_the_full_grid_for_a_third_of_the_questions(function):
    few, all_ = Counted(function), Counted(function)
    found, expected = extract_surface(few, 128), extract_surface(all_, 128, coarse=None)
    assert all_.n == 128**3
    assert few.n <= all_.n / 3
    assert np.array_equal(found.vertices, expected.vertices)
    assert np.array_equal(found.faces, expected.faces)
    assert found.is_watertight


def test_solids_have_the_same_mesh_too():
    for solid in procedural_solids(8, random_state=0):
        few = Counted(solid.contains)
        found, expected = extract_surface(few, 64), extract_surface(solid.contains, 64, coarse=None)
        assert np.array_equal(found.vertices, expected.vertices)
        assert np.array_equal(found.faces, expected.faces)
        assert few.n < 64**3 / 1.8


def test_a_surface_is_followed_where_the_coarse_grid_does_not_show_it():
    # a pole of a quarter of a coarse cell's width, which the coarse grid sees only where the ball is
    def pole(points):
        x, y, z = points.T
        thin = np.maximum(np.hypot(x - 1 / 64, z - 1 / 64) - 0.012, np.abs(y) - 0.4)
        return np.minimum(np.linalg.norm(points, axis=1) - 0.15, thin)

    found = extract_surface(pole, 64, coarse=8)
    assert np.array_equal(found.vertices, extract_surface(pole, 64, coarse=None).vertices)
    assert found.vertices[:, 1].max() == pytest.approx(0.4, abs=1 / 64)


def test_bounds_isovalue_and_batches():
    calls = Counted(lambda x: np.linalg.norm(x, axis=1))
    found = extract_surface(calls, 48, 1.5, bounds=2.0, batch_size=1000)
    assert calls.largest == 1000
    assert np.linalg.norm(found.vertices, axis=1) == pytest.approx(1.5, abs=0.02)
    assert signed_distance(found, [[0, 0, 0]])[0] == pytest.approx(-1.5, abs=0.02)


def test_nothing_inside_is_an_empty_mesh_and_a_warning():
    with pytest.warns(UserWarning, match="nothing is inside"):
        assert not len(extract_surface(lambda x: np.ones(len(x)), 64).faces)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: x, "one number or bool a point"),
        (lambda x: np.full(len(x), np.nan), "NaN"),
        (lambda x: np.zeros(len(x), int), "one number or bool a point"),
    ],
)
def test_functions_that_do_not_answer_are_refused(function, said):
    with pytest.raises(ValueError, match=said):
        extract_surface(function, 16)


@pytest.mark.parametrize(("options", "said"), [({"coarse": 0}, "coarse"), ({"bounds": np.inf}, "bounds")])
def test_options_out_of_range_are_refused(options, said):
    with pytest.raises(ValueError, match=f"{said} must be at least"):
        extract_surface(ball, 16, **options)
