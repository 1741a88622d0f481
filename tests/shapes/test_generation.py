"""Measures of sets of shapes, on sets whose answer is known."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from lodim.shapes.generation import generation_metrics, total_mutual_difference, unidirectional_hausdorff
from lodim.shapes.metrics import chamfer_distance, edge_points


def clouds(n, seed=0, shift=0.0, size=40):
    rng = np.random.default_rng(seed)
    # every one of its own proportions
    return [rng.uniform(-0.5, 0.5, (size, 3)) * rng.uniform(0.2, 1, 3) + shift for _ in range(n)]


def test_by_the_matrix_of_all_distances():
    samples, reference = clouds(7, 0), clouds(5, 1)
    every = samples + reference
    d = np.array([[chamfer_distance(a, b) for b in every] for a in every])
    found = generation_metrics(samples, reference)
    across = d[:7, 7:]
    assert found.mmd == pytest.approx(across.min(0).mean(), rel=1e-12)
    assert found.coverage == len(set(across.argmin(1))) / 5
    np.fill_diagonal(d, np.inf)
    ours = np.arange(12) < 7
    assert found.one_nn == pytest.approx((ours[d.argmin(1)] == ours).mean())


def test_copies_are_found_out():
    shapes = clouds(12)
    found = generation_metrics(shapes, shapes)
    # each one's nearest is its copy in the other set
    assert (found.mmd, found.coverage, found.one_nn) == (0.0, 1.0, 0.0)
    assert found.one_nn < found.chance_low


def test_equal_distances_are_shared():
    one = clouds(1)
    found = generation_metrics(one * 4, one * 4)
    # of seven others at distance 0 three are of the same set
    assert found.one_nn == pytest.approx(3 / 7)
    assert found.coverage == 1 / 4


def test_one_mode_covers_one_reference():
    reference = clouds(5)
    found = generation_metrics([reference[2] + 1e-4 * k for k in range(1, 6)], reference)
    assert found.coverage == 1 / 5
    assert found.one_nn > 0.5


def test_sets_far_apart_are_told_apart():
    found = generation_metrics(clouds(6), clouds(8, 1, shift=5.0))
    assert found.one_nn == 1.0 > found.chance_high


def test_one_distribution_is_within_chance():
    found = generation_metrics(clouds(30, 0), clouds(30, 1))
    assert found.chance_low < found.one_nn < found.chance_high
    assert found.chance_low < 0.5 < found.chance_high


def test_completions():
    a, b, c = clouds(3)
    pairs = chamfer_distance(a, b) + chamfer_distance(a, c) + chamfer_distance(b, c)
    assert total_mutual_difference([a, b, c]) == pytest.approx(2 * pairs / 2, rel=1e-12)
    assert total_mutual_difference([a, a, a]) == 0.0
    part = b[:10]
    wanted = np.mean([cdist(part, whole).min(1).max() for whole in (a, b, c)])
    assert unidirectional_hausdorff(part, [a, b, c]) == pytest.approx(wanted, rel=1e-12)
    assert unidirectional_hausdorff(part, [b]) == 0.0


def test_a_distance_of_edges():
    pytest.importorskip("trimesh")
    import trimesh

    boxes = [trimesh.creation.box((0.2, 0.3, 0.2 + 0.02 * k)) for k in range(3)]
    ball = trimesh.creation.icosphere(radius=0.2)
    found = generation_metrics(boxes[:2], boxes[1:], distance="edge", n_points=300)
    assert 0 < found.mmd < 1e-2
    assert generation_metrics([ball, ball], boxes, distance="edge", n_points=300).mmd == np.inf
    rng = np.random.default_rng(0)
    points, normals = rng.uniform(0, 0.02, (50, 3)), np.eye(3)[rng.integers(3, size=50)]
    assert len(edge_points(points, normals))
    same = generation_metrics([(points, normals)] * 2, [(points, normals)], distance="edge")
    assert same.mmd == 0.0


def test_a_seed_gives_the_same_and_points_are_drawn():
    samples, reference = clouds(4, size=90), clouds(3, 1, size=70)
    one, two = (generation_metrics(samples, reference, n_points=30, random_state=5) for _ in range(2))
    assert one == two != generation_metrics(samples, reference, n_points=30, random_state=6)


def test_says_what_is_wrong():
    with pytest.raises(ValueError, match="three in all; got 0"):
        generation_metrics([], clouds(3))
    with pytest.raises(ValueError, match=r"samples\[1\] must have shape \(n, 3\)"):
        generation_metrics([np.zeros((4, 3)), np.zeros((4, 2))], clouds(2))
    with pytest.raises(ValueError, match=r"reference\[0\] needs normals"):
        generation_metrics([(np.zeros((3, 3)), np.eye(3))] * 2, clouds(1), distance="edge")
    with pytest.raises(ValueError, match="two completions"):
        total_mutual_difference(clouds(1))
    trimesh = pytest.importorskip("trimesh")
    with pytest.raises(ValueError, match=r"samples\[0\] cannot be compared"):
        generation_metrics([trimesh.Trimesh()], clouds(2))


def test_what_is_infinitely_far_covers_nothing():
    trimesh = pytest.importorskip("trimesh")
    ball, box = trimesh.creation.icosphere(radius=0.2), trimesh.creation.box((0.2, 0.3, 0.2))
    assert generation_metrics([ball, ball], [box, box], distance="edge", n_points=50).coverage == 0.0


def test_pairs_may_be_of_tensors():
    torch = pytest.importorskip("torch")
    pairs = [tuple(torch.from_numpy(x).requires_grad_() for x in (a, a)) for a in clouds(3)]
    assert generation_metrics(pairs, clouds(2, 1)) == generation_metrics(clouds(3), clouds(2, 1))
