"""Complexes and their grades: counts, monotonicity, invariance, and what is refused."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

from lodim.geometry.multiparameter_persistence import (
    Bifiltration,
    FunctionRips,
    cubical_complex,
    delay_embedding,
    graph_complex,
    simplicial_complex,
)


def cloud(n=8, d=2, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, d)))


def test_rips_cells_and_grades_by_definition():
    x = cloud()
    g = x[:, 0].sin()
    full = FunctionRips(function=lambda x: x[:, 0].sin(), max_dim=2)(x).expand()
    assert [len(block) for block in full.cells] == [8, 28, 56, 70]
    cells = [cell for block in full.cells for cell in block]
    for cell, grade in zip(cells, full.filtration, strict=True):
        length = torch.pdist(x[cell]).max() if len(cell) > 1 else 0.0
        assert grade[0] == pytest.approx(float(length), rel=1e-12)
        assert grade[1] == g[cell].max()


def test_threshold_keeps_the_cliques_of_short_edges():
    x = cloud(12)
    whole, cut = FunctionRips()(x).expand(), FunctionRips(threshold=1.0)(x).expand()
    kept = {tuple(c) for c, f in zip(whole.cells[2], whole.filtration[-len(whole.cells[2]) :]) if f[0] <= 1}
    assert {tuple(c) for c in cut.cells[2]} == kept
    assert cut.expand() is cut


def test_codensity_and_distance_to_measure_by_definition():
    x = cloud(20)
    d = torch.cdist(x, x)
    kde = FunctionRips(bandwidth=0.4)(x).filtration[:20, 1]
    torch.testing.assert_close(kde, -torch.exp(-(d**2) / (2 * 0.4**2)).mean(1).log())
    dtm = FunctionRips(function="dtm", mass=0.25)(x).filtration[:20, 1]
    torch.testing.assert_close(dtm, (d.sort(1).values[:, :5] ** 2).mean(1).sqrt())


def test_default_codensity_has_no_unit_and_grades_no_orientation():
    x = cloud(15, 3)
    turn = torch.linalg.qr(cloud(3, 3, seed=1))[0]
    base = FunctionRips()(x).filtration
    moved = FunctionRips()(7 * (x @ turn) + 3).filtration
    torch.testing.assert_close(moved, base * torch.tensor([7.0, 1.0], dtype=torch.float64))


def test_graph_is_lower_star_and_images_are_maxima_of_pixels():
    values = cloud(4)
    fc = graph_complex([[1, 0], [2, 3]], values, edge_values=torch.tensor([[9.0, -9], [-9, -9]]))
    torch.testing.assert_close(fc.filtration[4, 0], torch.tensor(9.0, dtype=torch.float64))
    torch.testing.assert_close(fc.filtration[5], torch.maximum(values[2], values[3]))
    image = np.random.default_rng(0).normal(size=(2, 3, 4))
    fc = cubical_complex(image)
    assert [len(block) for block in fc.cells] == [12, 17, 6]
    assert fc.filtration[-6:, 0].tolist() == [
        image[0, i : i + 2, j : j + 2].max() for i in (0, 1) for j in (0, 1, 2)
    ]


def test_delay_embedding_takes_windows():
    rows = delay_embedding(np.arange(10.0), dimension=3, delay=2, stride=3)
    np.testing.assert_array_equal(rows, [[0, 2, 4], [3, 5, 7]])
    with pytest.raises(ValueError, match="spans 5"):
        delay_embedding([1.0, 2.0], dimension=3, delay=2)
    assert delay_embedding(np.zeros((10, 2)), dimension=3).shape == (8, 6)
    with pytest.raises(TypeError, match="series is sparse"):
        delay_embedding(torch.zeros(9).to_sparse())
    with pytest.raises(ValueError, match="series must hold real numbers"):
        delay_embedding(torch.zeros(9, dtype=torch.complex64))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(3), "n_points, n_features"),
        (torch.zeros(2, 3, 4), "pass batches as a list"),
        (torch.tensor([[0.0], [float("nan")]]), "row 1"),
        (torch.zeros(3, 2, dtype=torch.complex64), "real numbers"),
    ],
)
def test_points_that_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        FunctionRips()(bad)


def test_too_many_cells_says_how_many_and_what_to_do():
    with pytest.raises(ValueError, match=r"2,001,000 cells.*threshold"):
        FunctionRips()(torch.zeros(2000, 1))
    with pytest.raises(ValueError, match="subsample"):
        FunctionRips(max_dim=2)(cloud(90)).expand()


def test_complexes_must_be_closed_and_monotone():
    faces = [[[0], [1], [2]], [[0, 1], [1, 2], [0, 2]]]
    assert simplicial_complex(faces, np.r_[np.zeros((3, 2)), np.ones((3, 2))]).n_cells == 6
    with pytest.raises(ValueError, match="before its face"):
        simplicial_complex(faces, np.r_[np.ones((3, 2)), np.zeros((3, 2))])
    with pytest.raises(ValueError, match="is not"):
        simplicial_complex([*faces[:1], faces[1][:2], [[0, 1, 2]]], np.zeros((6, 1)))
    with pytest.raises(ValueError, match="NaN"):
        graph_complex([[0, 1]], [[0.0], [np.nan]])


@pytest.mark.parametrize(
    ("kind", "item"),
    [
        ("rips", np.eye(4)),
        ("graph", ([[0, 1]], [[0.0, 1], [1, 0]])),
        ("cubical", np.zeros((2, 3, 3))),
        ("series", np.sin(np.arange(9.0))),
    ],
)
def test_transformer_takes_raw_objects(kind, item):
    model = clone(Bifiltration(kind))
    found = model.fit_transform([item, item])
    assert len(found) == 2
    assert found[0].n_parameters == 2


def test_transformer_names_the_object_at_fault():
    with pytest.raises(ValueError, match="object 1: points hold NaN"):
        Bifiltration().fit_transform([np.eye(3), np.full((2, 2), np.nan)])
    with pytest.raises(ValueError, match="kind must be one of"):
        Bifiltration("ripps").fit([])
    assert Bifiltration().fit_transform([np.empty((0, 2))])[0].n_cells == 0
