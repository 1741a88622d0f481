"""Signed measures against homology by definition: rank of boundary matrices of every sublevel complex."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lodim.geometry import sm_distance
from lodim.geometry.multiparameter_persistence import (
    FunctionRips,
    SignedMeasure,
    collapse_edges,
    cubical_complex,
    euler_signed_measure,
    graph_complex,
    hilbert_function,
    hilbert_signed_measure,
    simplicial_complex,
)
from lodim.geometry.multiparameter_persistence.ranks import rank_filtration


def cloud(n=9, seed=0, noise=0.1):
    rng = np.random.default_rng(seed)
    t = 2 * np.pi * (np.arange(n) + 0.5 * rng.random(n)) / n
    x = np.c_[np.cos(t), np.sin(t)] + noise * rng.normal(size=(n, 2))
    return torch.from_numpy(np.concatenate([x, rng.normal(size=(2, 2))]))


def rank_mod_2(matrix):
    matrix, rank = matrix.copy() % 2, 0
    for column in range(matrix.shape[1]):
        pivot = np.flatnonzero(matrix[rank:, column])
        if len(pivot):
            matrix[[rank, rank + pivot[0]]] = matrix[[rank + pivot[0], rank]]
            others = np.flatnonzero(matrix[:, column])
            others = others[others != rank]
            matrix[others] ^= matrix[rank]
            rank += 1
            if rank == len(matrix):
                break
    return rank


def betti(fc, at, degree):
    """Betti number over Z/2 of the cells with grade at most ``at``: simplices only."""
    inside = (fc.filtration.detach().numpy() <= at).all(1)
    blocks, start = [], 0
    for block in fc.cells:
        blocks.append(block[inside[start : start + len(block)]])
        start += len(block)

    def boundary_rank(k):
        if k == 0 or k >= len(blocks) or not len(blocks[k]):
            return 0
        place = {tuple(c): i for i, c in enumerate(blocks[k - 1].tolist())}
        matrix = np.zeros((len(blocks[k - 1]), len(blocks[k])), dtype=np.uint8)
        for column, cell in enumerate(blocks[k].tolist()):
            for i in range(len(cell)):
                matrix[place[tuple(cell[:i] + cell[i + 1 :])], column] = 1
        return rank_mod_2(matrix)

    return len(blocks[degree]) - boundary_rank(degree) - boundary_rank(degree + 1)


def some_grid(fc, step=4):
    values = fc.filtration.detach().numpy()
    return [np.unique(values[:, k])[::-step][::-1] for k in range(2)]


def by_definition(fc, grid, degree):
    return np.array([[betti(fc, (a, b), degree) for b in grid[1]] for a in grid[0]])


@pytest.mark.parametrize("threshold", [None, 1.3])
@pytest.mark.parametrize("degree", [0, 1])
def test_hilbert_function_is_the_betti_number_of_every_sublevel(threshold, degree):
    if degree:
        pytest.importorskip("gudhi")
    fc = FunctionRips(threshold=threshold)(cloud())
    full = fc.expand()
    grid = some_grid(full)
    expected = by_definition(full, grid, degree)
    assert expected.max() > 0
    np.testing.assert_array_equal(hilbert_function(fc, grid, degree), expected)
    listed = simplicial_complex(full.cells, full.filtration, max_dim=1)
    np.testing.assert_array_equal(hilbert_function(listed, grid, degree), expected)


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_degree_zero_of_random_graphs(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 9))
    pairs = np.array([(a, b) for a in range(n) for b in range(a + 1, n) if rng.random() < 0.4])
    fc = graph_complex(pairs, rng.integers(0, 4, size=(n, 2)).astype(float))
    grid = [np.arange(4.0), np.arange(4.0)]
    np.testing.assert_array_equal(hilbert_function(fc, grid, 0), by_definition(fc, grid, 0))


def test_loops_of_a_graph_live_for_ever():
    pytest.importorskip("gudhi")
    rng = np.random.default_rng(0)
    pairs = [(a, b) for a in range(6) for b in range(a + 1, 6) if rng.random() < 0.7]
    fc = graph_complex(pairs, rng.normal(size=(6, 2)))
    grid = some_grid(fc, 1)
    np.testing.assert_array_equal(hilbert_function(fc, grid, 1), by_definition(fc, grid, 1))
    assert hilbert_function(fc, grid, 1)[-1, -1] == len(pairs) - 5


def test_images_satisfy_euler_and_count_holes():
    pytest.importorskip("gudhi")
    rng = np.random.default_rng(0)
    fc = cubical_complex(rng.integers(0, 5, size=(2, 6, 7)).astype(float))
    grid = [np.arange(5.0), np.arange(5.0)]
    h0, h1 = (hilbert_function(fc, grid, k) for k in (0, 1))
    assert h1.max() > 0
    np.testing.assert_array_equal(h0 - h1, euler_signed_measure(fc).integrate(*grid))


@pytest.mark.parametrize("seed", range(3))
def test_euler_is_the_alternating_sum_of_hilbert(seed):
    pytest.importorskip("gudhi")
    fc = FunctionRips(max_dim=2)(cloud(6, seed))
    full = fc.expand()  # up to dimension 3: homology in degrees 0, 1, 2 is right, degree 3 has no boundaries
    listed = simplicial_complex(full.cells, full.filtration)
    grid = some_grid(full, 3)
    total = sum((-1) ** k * hilbert_function(listed, grid, k) for k in range(4))
    np.testing.assert_array_equal(total, euler_signed_measure(fc).integrate(*grid))


def test_masses_without_threshold():
    fc = FunctionRips()(cloud(20))
    assert hilbert_signed_measure(fc, 0).mass == 1  # one component survives
    sizes = [len(block) for block in fc.expand().cells]
    assert euler_signed_measure(fc).mass == sizes[0] - sizes[1] + sizes[2]


def test_integrating_and_inverting_are_inverse():
    fc = FunctionRips()(cloud())
    measure = hilbert_signed_measure(fc, 0)
    values = fc.filtration.numpy()
    grid = [np.unique(values[:, k]) for k in range(2)]
    values_on_grid = measure.integrate(*grid)
    weights = np.diff(np.diff(values_on_grid, axis=0, prepend=0), axis=1, prepend=0)
    at = np.argwhere(weights)
    np.testing.assert_array_equal(weights[tuple(at.T)], measure.weights)
    np.testing.assert_array_equal(np.c_[grid[0][at[:, 0]], grid[1][at[:, 1]]], measure.points)
    with pytest.raises(ValueError, match="ascending"):
        measure.integrate([1, 0], [0, 1])


def test_a_coarse_grid_is_exact_where_it_is_kept_and_made_of_data():
    fc = FunctionRips()(cloud(15))
    coarse = hilbert_signed_measure(fc, 0, grid=7)
    values = fc.filtration.numpy()
    ranked = rank_filtration(fc, 7)
    kept = [values[cells, k] for k, cells in enumerate(ranked.cells_of)]
    assert [len(k) for k in kept] == [7, 7]
    np.testing.assert_array_equal(coarse.integrate(*kept), hilbert_function(fc, kept, 0))
    assert all(set(coarse.points[:, k].tolist()) <= set(values[:, k]) for k in range(2))


def test_constant_second_filtration_is_one_parameter_persistence():
    gudhi = pytest.importorskip("gudhi")
    x = cloud(15)
    tree = gudhi.RipsComplex(points=x.numpy()).create_simplex_tree(max_dimension=2)
    tree.compute_persistence()
    for degree in (0, 1):
        bars = tree.persistence_intervals_in_dimension(degree)
        constant = FunctionRips(function=lambda x: torch.zeros(len(x), dtype=x.dtype))(x)
        for fc in (constant, FunctionRips(function="none")(x)):
            measure = hilbert_signed_measure(fc, degree)
            values = np.unique(bars[np.isfinite(bars)])
            expected = [((bars[:, 0] <= v + 1e-9) & (bars[:, 1] > v + 1e-9)).sum() for v in values]
            ours = measure.integrate(values + 1e-9, *[[0.0]] * (measure.points.shape[1] - 1))
            np.testing.assert_array_equal(ours.ravel(), expected)


def test_a_pair_of_equal_grade_changes_nothing():
    simplices = [[[0], [1]], [[0, 1]], []]
    grades = torch.tensor([[0.0, 1], [1, 0], [2, 2]])
    base = hilbert_signed_measure(simplicial_complex(simplices, grades, max_dim=0))
    more = torch.tensor([[0.0, 1], [1, 0], [9, 9], [2, 2], [9, 9]])
    far = hilbert_signed_measure(simplicial_complex([[[0], [1], [2]], [[0, 1], [1, 2]]], more, max_dim=0))
    assert torch.equal(base.points, far.points)
    assert torch.equal(base.weights, far.weights)


def test_empty_single_and_infinite():
    assert len(hilbert_signed_measure(FunctionRips()(torch.zeros(0, 2)), 0).weights) == 0
    one = hilbert_signed_measure(FunctionRips()(torch.zeros(1, 2)), 0)
    assert one.points.tolist() == [[0, 0]]
    never = graph_complex([[0, 1]], [[0.0, 0.0], [np.inf, 0.0]])
    assert hilbert_signed_measure(never, 0).weights.tolist() == [1]
    with pytest.raises(ValueError, match="raise max_dim"):
        hilbert_signed_measure(never, 2)
    with pytest.raises(ValueError, match="one or two parameters"):
        hilbert_signed_measure(graph_complex([], np.zeros((2, 3))), 0)


def test_multipers_agrees_on_a_grid():
    pytest.importorskip("gudhi")
    pytest.importorskip("multipers")
    fc = FunctionRips()(cloud(12))
    grid = some_grid(fc.expand(), 3)
    for degree in (0, 1):
        ours, theirs = (hilbert_function(fc, grid, degree, backend=b) for b in ("gudhi", "multipers"))
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("threshold", [None, 1.5])
def test_collapsed_edges_change_no_homology(threshold):
    pytest.importorskip("gudhi")
    for seed in range(3):
        fc = FunctionRips(threshold=threshold, max_dim=2)(cloud(14, seed))
        small = collapse_edges(fc)
        assert len(small.cells[1]) < 0.7 * len(fc.cells[1])
        values = fc.filtration.numpy()
        grid = [np.unique(values[:, k]) for k in range(2)]
        for degree in (0, 1, 2):
            expected = hilbert_function(fc, grid, degree)
            np.testing.assert_array_equal(hilbert_function(small, grid, degree), expected)
    listed = simplicial_complex([[[0], [1]], [[0, 1]]], np.zeros((3, 2)))
    assert collapse_edges(listed) is listed


TRIANGLE = [[0, 1], [1, 2], [2, 0]]


@pytest.mark.parametrize(
    "edges", [TRIANGLE, [[1, 0], [2, 1], [0, 2]], TRIANGLE + [[1, 0], [2, 1], [0, 2]], 3 * TRIANGLE]
)
def test_a_triangle_has_euler_characteristic_zero_however_its_edges_are_listed(edges):
    fc = graph_complex(np.array(edges), np.zeros((3, 1)))
    assert fc.n_cells == 6
    assert euler_signed_measure(fc).mass == 0
    assert hilbert_signed_measure(fc, 0).mass == 1
    whole = simplicial_complex(
        [[[0], [1], [2]], edges, [[2, 0, 1], [0, 1, 2]]], np.zeros((3 + len(edges) + 2, 2))
    )
    assert whole.n_cells == 7
    assert euler_signed_measure(whole).mass == 1


def test_an_edge_with_two_grades_is_refused_and_one_grade_twice_keeps_its_gradient():
    values, own = np.zeros((2, 1)), torch.tensor([[2.0], [2.0]], requires_grad=True)
    both = graph_complex([[0, 1], [1, 0]], values, edge_values=own)
    both.filtration.sum().backward()
    assert own.grad.sum() == 1
    with pytest.raises(
        ValueError, match=r"edges hold \[0, 1\] more than once, with the grades \[2.0\] and \[3.0\]"
    ):
        graph_complex([[0, 1], [1, 0]], values, edge_values=[[2.0], [3.0]])
    graph_complex([[0, 1], [1, 0]], values + 5, edge_values=[[2.0], [3.0]])  # the ends decide, alike


@pytest.mark.parametrize("axis", [1.0, [[0.0, 1.0]]])
def test_a_grid_has_one_axis_a_parameter_and_grades_a_parameter_at_least(axis):
    fc = graph_complex([[0, 1]], np.zeros((2, 1)))
    with pytest.raises(ValueError, match="one ascending 1-D array"):
        hilbert_signed_measure(fc).integrate(axis)
    with pytest.raises(ValueError, match="p at least 1"):
        simplicial_complex([[[0], [1]]], np.zeros((2, 0)))
    with pytest.raises(ValueError, match="vertices first, got none"):
        simplicial_complex([], np.zeros((0, 2)))
    for grid in ((), (3, 4)):
        with pytest.raises(ValueError, match="one a parameter"):
            hilbert_signed_measure(fc, grid=grid)
    with pytest.raises(ValueError, match="p at least 1"):
        graph_complex([[0, 1]], np.zeros((2, 0)))


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([[0, 0]], "different vertices"),
        ([[0, 1.5]], "whole numbers, got 1.5"),
        ([[0, 1], [1, 1]], "drop self-loops"),
    ],
)
def test_no_edges(edges, message):
    with pytest.raises(ValueError, match=message):
        graph_complex(edges, np.zeros((2, 1)))
    with pytest.raises(ValueError, match=message):
        simplicial_complex([[[0], [1]], edges], np.zeros((2 + len(edges), 1)))


RING = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]])


@pytest.mark.parametrize("degree", [0, 1])
@pytest.mark.parametrize(
    "dtype", [np.uint8, bool, np.int16, np.float16, np.float32, ">f8", torch.uint8, torch.bfloat16]
)
def test_a_ring_of_pixels_is_one_component_with_one_loop_in_any_dtype(degree, dtype):
    """The loop is born with the ring and dies with the pixel in its middle: weights 1 and -1, not 1 and 255."""
    pytest.importorskip("gudhi")
    image = torch.tensor(RING)[None].to(dtype) if isinstance(dtype, torch.dtype) else RING[None].astype(dtype)
    found = hilbert_signed_measure(cubical_complex(image), degree)
    assert found.points.is_floating_point()
    assert found.weights.tolist() == ([1, -1] if degree else [1])
    assert found.points.tolist() == ([[0], [1]] if degree else [[0]])


def test_whole_numbers_on_vertices_do_not_round_those_on_edges():
    for vertices in (
        np.array([[0], [0]]),
        torch.zeros(2, 1, dtype=torch.int32),
        torch.zeros(2, 1, dtype=torch.float16),
    ):
        fc = graph_complex([[0, 1]], vertices, edge_values=[[0.3]])
        assert float(fc.filtration[2]) == pytest.approx(0.3, rel=1e-7)


def test_measures_of_whole_numbers_are_compared_as_they_are():
    whole = SignedMeasure(torch.tensor([[1]]), torch.tensor([1], dtype=torch.uint8))
    other = SignedMeasure(torch.tensor([[1.75]]), torch.tensor([1]))
    assert float(sm_distance(whole, other)) == pytest.approx(0.75)
    assert float(sm_distance(other, whole)) == pytest.approx(0.75)
