"""Decompositions against homology, and the scikit-learn side: Pipeline, search, refusals."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

pytest.importorskip("gudhi")

from lodim.geometry.multiparameter_persistence import (
    CandidateRepresentation,
    FiberedDecomposition,
    FunctionRips,
    MMADecomposition,
    MultiparameterPersistence,
    PersistenceImage,
    cubical_complex,
    hilbert_function,
    interval_images,
    perturbation_stability,
    simplicial_complex,
    topology_summary,
)
from lodim.geometry.multiparameter_persistence.summary import loop_p_values


def circle(n=20, outliers=4, seed=0):
    rng = np.random.default_rng(seed)
    t = 2 * np.pi * (np.arange(n) + rng.random(n)) / n
    return np.r_[
        np.c_[np.cos(t), np.sin(t)] + 0.05 * rng.normal(size=(n, 2)), rng.uniform(-1.5, 1.5, (outliers, 2))
    ]


def complex_of(cloud):
    return FunctionRips()(torch.from_numpy(cloud))


def counts(intervals, degree, points):
    """Number of supports that hold each point, half-open at the deaths."""
    part = intervals.select(intervals.degrees == degree)
    boxes = part.boxes()
    inside = (boxes.low <= points[:, None]).all(2) & (points[:, None] < boxes.high).all(2)
    held = [inside[:, boxes.owner == i].any(1) for i in range(len(part))]
    return torch.stack(held).sum(0).numpy() if held else np.zeros(len(points), int)


def test_intervals_of_a_module_have_its_dimensions():
    """At grades away from the corners the candidates' supports add up to the Hilbert function."""
    pytest.importorskip("multipers")
    fc = complex_of(circle())
    intervals = MMADecomposition(0.005).fit_transform([fc])[0]
    grid = [np.linspace(0.05, 2.4, 14), np.linspace(*fc.filtration[:24, 1].aminmax(), 14)]
    points = torch.from_numpy(np.stack(np.meshgrid(*grid, indexing="ij"), -1).reshape(-1, 2))
    for degree in (0, 1):
        expected = hilbert_function(fc, grid, degree).ravel()
        assert expected.max() >= 1
        assert np.mean(counts(intervals, degree, points) == expected) > 0.9


def test_weights_are_multipers_interleavings():
    """Its convention is ours: the whole diagonal, not the interleaving distance, which is half of it."""
    mp = pytest.importorskip("multipers")
    tree = mp.SimplexTreeMulti(num_parameters=2)
    tree.insert_batch(np.array([[0, 1]]), np.array([[0.0, 0.0], [0.25, 0.1]]))
    tree.insert_batch(np.array([[0], [1]]), np.array([[0.75, 1.0]]))
    box = np.array([[0.0, 0.0], [1.0, 1.0]])
    module = mp.module_approximation(tree, box=box, max_error=0.01, n_jobs=1).get_module_of_degree(0)
    theirs = sorted(np.asarray(module.get_interleavings(box)))
    fc = simplicial_complex([[[0], [1]], [[0, 1]]], [[0, 0], [0.25, 0.1], [0.75, 1]], max_dim=0)
    ours = MMADecomposition(0.01, (0,)).fit_transform([fc])[0].rescale([0, 0], [1, 1]).weights()
    np.testing.assert_allclose(sorted(ours.tolist()), theirs, atol=1e-6)
    np.testing.assert_allclose(theirs[0], 0.75, atol=0.02)


def test_rectangle_module_is_found():
    """A second component born at (.25, .1) and merged at (.75, 1) is one rectangle."""
    pytest.importorskip("multipers")
    fc = simplicial_complex([[[0], [1]], [[0, 1]]], [[0, 0], [0.25, 0.1], [0.75, 1]], max_dim=0)
    found = MMADecomposition(0.005, (0,)).fit_transform([fc])[0]
    assert len(found) == 2
    x = torch.tensor([[0.3, 0.3], [0.9, 0.9], [0.1, 0.5], [0.5, 0.05]], dtype=torch.float64)
    assert counts(found, 0, x).tolist() == [
        2,
        2,
        1,
        1,
    ]  # up to the upper corner: alive where not above (.75, 1)


@pytest.mark.parametrize("method", ["fibered", "mma"])
def test_candidates_lie_where_there_is_homology(method):
    if method == "mma":
        pytest.importorskip("multipers")
    fc = complex_of(circle(14, 2))
    model = FiberedDecomposition(9) if method == "fibered" else MMADecomposition()
    intervals = model.fit_transform([fc])[0]
    assert {0, 1} == set(intervals.degrees)
    part = intervals.select(intervals.degrees == 1)
    boxes = part.boxes()
    long = (boxes.high - boxes.low).amin(1) > 0.1  # corners are known up to the precision asked for
    middle = ((boxes.low + boxes.high.clamp(max=9.0)) / 2)[long].numpy()
    assert len(middle) >= 2
    for point in middle:
        assert hilbert_function(fc, [[point[0]], [point[1]]], 1)[0, 0] >= 1


def test_a_line_on_which_the_second_parameter_is_constant_has_gudhis_bars():
    fc = FunctionRips(function=lambda x: torch.zeros(len(x), dtype=x.dtype))(torch.from_numpy(circle()))
    found = FiberedDecomposition(1).fit_transform([fc])[0]  # one line, c = 0
    loops = found.select(found.degrees == 1)
    import gudhi

    tree = gudhi.RipsComplex(points=circle()).create_simplex_tree(max_dimension=2)
    tree.compute_persistence()
    bars = tree.persistence_intervals_in_dimension(1)
    np.testing.assert_allclose(
        sorted(zip(loops.births[:, 0].tolist(), loops.deaths[:, 0].tolist(), strict=True)),
        sorted(map(tuple, bars.tolist())),
    )


@pytest.mark.parametrize("method", ["mma", "fibered", "hilbert"])
def test_rigid_motions_leave_the_features_unchanged(method):
    if method == "mma":
        pytest.importorskip("multipers")
    X = [circle(seed=s) for s in range(3)]
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(2, 2)))[0]
    model = MultiparameterPersistence(method=method, resolution=6).fit(X)
    base = model.transform(X)
    assert base.std() > 0
    np.testing.assert_allclose(model.transform([x @ turn + 5 for x in X]), base, atol=1e-6)


def test_features_work_in_pipelines():
    X = [circle(seed=s) for s in range(4)] + [np.random.default_rng(s).normal(size=(24, 2)) for s in range(4)]
    y = np.repeat([0, 1], 4)
    for first in (
        MultiparameterPersistence(method="fibered", n_lines=3, resolution=6),
        PersistenceImage(resolution=6),
    ):
        model = make_pipeline(clone(first), SVC(C=10)).fit(X, y)
        assert model.decision_function(X).shape == (8,)
        np.testing.assert_allclose(clone(first).fit(X).transform(X), clone(first).fit_transform(X))
    search = GridSearchCV(
        make_pipeline(MultiparameterPersistence(method="hilbert", grid=8, resolution=5), SVC()),
        {"multiparameterpersistence__delta": [0.1, 0.3]}, cv=2,
    )  # fmt: skip
    assert search.fit(X, y).best_score_ >= 0.5


@pytest.mark.parametrize("method", ["mma", "fibered", "hilbert"])
def test_empty_clouds_are_zero_and_nan_is_refused(method):
    if method == "mma":
        pytest.importorskip("multipers")
    model = MultiparameterPersistence(method=method, resolution=5, flatten=False).fit([circle()])
    assert np.abs(model.transform([np.empty((0, 2))])).max() == 0
    with pytest.raises(ValueError, match="object 1: points hold NaN"):
        model.transform([circle(), np.full((3, 2), np.nan)])
    with pytest.raises(ValueError, match="method must be one of"):
        clone(model).set_params(method="mna").fit([circle()])


def test_images_and_series_have_features():
    rng = np.random.default_rng(0)
    images = [rng.normal(size=(2, 6, 6)) for _ in range(2)]
    rows = MultiparameterPersistence("cubical", method="fibered", resolution=5).fit_transform(images)
    assert rows.shape == (2, 50)
    assert rows.max() > 0
    series = [np.sin(np.arange(30.0) / s) for s in (1, 3)]
    rows = MultiparameterPersistence("series", method="hilbert", resolution=5).fit_transform(series)
    assert np.abs(rows[0] - rows[1]).max() > 0
    pytest.importorskip("multipers")
    with pytest.raises(ValueError, match="FiberedDecomposition"):
        MMADecomposition().fit_transform([cubical_complex(images[0])])


def test_changes_are_bounded_by_the_size_of_the_perturbation():
    """Moving points by t moves distances by 2 t at most; phi moves by at most (2 t) / delta up to S-CDR's constant."""
    X = [circle(seed=s) for s in range(3)]
    model = MultiparameterPersistence(
        method="fibered", density=lambda x: x[:, 0], resolution=8, delta=0.2, weight_power=np.inf
    ).fit(X)
    side = (model.representation_.boxes_[:, 1] - model.representation_.boxes_[:, 0]).min()
    frame = perturbation_stability(model, X, (0.002, 0.01, 0.05), random_state=0)
    assert (frame["ratio"] > 0).all()
    assert (frame["ratio"] <= 4 / (0.2 * side)).all()


def test_one_parameter_image_by_definition():
    X = [circle(seed=s) for s in range(2)]
    model = PersistenceImage((1,), 4, 0.2, weight_power=2.0, flatten=False).fit(X)
    bars = model._bars(X)[0][0]
    low, high = model.boxes_[0]
    ticks = np.linspace(0, 1, 4)
    expected = np.zeros((4, 4))
    for birth, length in bars:
        place = (np.array([birth, length]) - low) / (high - low)
        gauss = [np.exp(-((ticks - c) ** 2) / (2 * 0.2**2)) for c in place]
        expected += length**2 * np.outer(*gauss)
    np.testing.assert_allclose(model.transform(X)[0, 0], expected)


def test_refusals_of_decompositions():
    pytest.importorskip("multipers")
    with pytest.raises(ValueError, match="max_error"):
        MMADecomposition(1e-6).fit([])
    with pytest.raises(ValueError, match="raise max_dim"):
        MMADecomposition(degrees=(0, 2)).fit_transform([complex_of(circle())])
    with pytest.raises(ValueError, match="two parameters"):
        FiberedDecomposition().fit_transform([FunctionRips(function="none")(torch.eye(3))])


def test_torch_images_agree_with_the_candidates_of_multipers():
    """Distances to supports, ours and theirs, on the same module (inside both are zero)."""
    mp = pytest.importorskip("multipers")
    fc = complex_of(circle(16, 3)).expand()
    tree, start = mp.SimplexTreeMulti(num_parameters=2), 0
    for block in fc.cells:
        tree.insert_batch(block.T, fc.filtration[start : start + len(block)].numpy())
        start += len(block)
    module = mp.module_approximation(tree, max_error=0.05, n_jobs=1).get_module_of_degree(1)
    from lodim.geometry.multiparameter_persistence import Intervals

    ours = Intervals.from_lists(
        [np.stack(module[i].get_birth_list()) for i in range(len(module))],
        [np.stack(module[i].get_death_list()) for i in range(len(module))],
    )
    axis = torch.linspace(0, 4, 7, dtype=torch.float64)
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    theirs = np.asarray(module.distance_to(points)).reshape(7, 7, -1).transpose(2, 0, 1)
    linear = interval_images(ours, (axis, axis), "exponential", 1.0)
    np.testing.assert_allclose(-linear.log().numpy(), theirs, atol=1e-9)


SHAPES = {
    "circle with outliers": (lambda r: circle(200, 20, int(r.integers(99))), (1, 1)),
    "gaussian": (lambda r: r.normal(size=(250, 3)), (1, 0)),
    "three clusters": (
        lambda r: np.concatenate([r.normal(size=(70, 2)) + c for c in ([0, 0], [12, 0], [0, 12])]),
        (3, 0),
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_summary_counts(name):
    make, expected = SHAPES[name]
    rng = np.random.default_rng(0)
    found = [topology_summary(make(rng), random_state=s) for s in range(5)]
    assert sum((f.n_components, f.n_loops) == expected for f in found) >= 4, [str(f) for f in found]


def ring(rng, n, noise=0.0, centre=(0.0, 0.0), *, even=False):
    angle = 2 * np.pi * (np.arange(n) / n if even else rng.random(n))
    return np.c_[np.cos(angle), np.sin(angle)] + centre + noise * rng.normal(size=(n, 2))


@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("noise", [0.0, 0.01, 0.1])
def test_a_circle_is_one_loop(even, noise):
    """A single bar cannot be judged by its own median."""
    for seed in range(2):
        found = topology_summary(ring(np.random.default_rng(seed), 200, noise, even=even), random_state=seed)
        assert (found.n_components, found.n_loops) == (1, 1)


@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("noise", [0.0, 0.05])
@pytest.mark.parametrize("apart", [2.0, 5.0])
def test_two_circles_and_a_figure_eight_are_two_loops(even, noise, apart):
    for seed in range(2):
        rng = np.random.default_rng(seed)
        both = [ring(rng, 100, noise, (shift, 0.0), even=even) for shift in (0.0, apart)]
        found = topology_summary(np.concatenate(both), random_state=seed)
        assert (found.n_components, found.n_loops) == (1 if apart == 2 else 2, 2)


NULLS = {
    "disc": lambda r, n: ring(r, n) * np.sqrt(r.random(n))[:, None],
    "square": lambda r, n: r.random((n, 2)),
    "gaussian": lambda r, n: r.normal(size=(n, 2)),
    "heavy tails": lambda r, n: r.standard_t(3, size=(n, 3)),
    "noisy segment": lambda r, n: np.c_[r.random(n), 0.01 * r.normal(size=n)],
}


@pytest.mark.parametrize(
    "name", [n if n in ("disc", "square") else pytest.param(n, marks=pytest.mark.slow) for n in NULLS]
)
def test_clouds_have_no_loops(name):
    """120 clouds, level 0.05: 12 or more that show a loop would be a rate above it (probability 0.02)."""
    false = 0
    for n in (80, 120, 240):
        clouds = (NULLS[name](np.random.default_rng(seed), n) for seed in range(40))
        false += sum(topology_summary(cloud, random_state=s).n_loops > 0 for s, cloud in enumerate(clouds))
    assert false < 12


def test_summary_is_a_result():
    found = topology_summary(circle(150, 15), random_state=0)
    assert str(found) == "1 component and 1 loop beyond noise (165 points)"
    assert list(found.to_frame()["loops"]) == list(found.loops_by_slice.values())
    assert found.loop_p_values[0] < 0.05 < found.loop_p_values[1]
    assert topology_summary(3 * circle(150, 15) + 1, random_state=0).n_loops == 1
    assert topology_summary(np.zeros((30, 2))).n_components == 1
    with pytest.raises(ValueError, match="minimum of 20"):
        topology_summary(np.zeros((3, 2)))


def test_p_values_are_calibrated_on_their_null():
    """log log(death / birth) drawn from the left-skewed Gumbel law: uncorrected p-values are uniform."""
    uniform = np.random.default_rng(0).random(4000)
    doubly = np.log(-np.log(uniform)) + 0.7
    bars = np.c_[np.ones(4000), np.exp(np.exp(doubly))]
    for level in (0.02, 0.1):
        corrected = loop_p_values(bars)
        assert np.mean(corrected / 4000 < level / 4000) == pytest.approx(0, abs=0.01)
    shifted = doubly - np.median(doubly) + np.log(np.log(2))
    assert np.mean(np.exp(-np.exp(shifted)) < 0.1) == pytest.approx(0.1, abs=0.02)


def test_box_of_the_representation_is_learned_once():
    X = [circle(seed=s) for s in range(3)]
    intervals = FiberedDecomposition(5).fit_transform([complex_of(x) for x in X])
    model = CandidateRepresentation(resolution=6).fit(intervals)
    np.testing.assert_allclose(model.transform(intervals[:1])[0], model.transform(intervals)[0])


@pytest.mark.parametrize("method", ["fibered", "hilbert"])
def test_no_objects(method):
    with pytest.raises(ValueError, match="at least one object"):
        MultiparameterPersistence(method=method).fit([])
    with pytest.raises(ValueError, match="at least one object"):
        MultiparameterPersistence(method=method).fit_transform([])
    model = MultiparameterPersistence(method=method, grid=(4, 4), resolution=5).fit([circle()])
    assert model.transform([]).shape == (0, 50)
    assert model.set_params(flatten=False).transform([]).shape == (0, 2, 5, 5)


@pytest.mark.parametrize("degrees", [1, (), "01"])
def test_degrees_are_a_tuple(degrees):
    for model in (
        MultiparameterPersistence(method="hilbert", degrees=degrees),
        PersistenceImage(degrees=degrees),
        FiberedDecomposition(degrees=degrees),
    ):
        pytest.importorskip("gudhi")
        with pytest.raises(ValueError, match="degrees must be a tuple"):
            model.fit([circle()])


def test_sizes_of_perturbations_are_positive():
    model = MultiparameterPersistence(method="hilbert", degrees=(0,), resolution=3).fit([circle()])
    for sizes in ([0], [-1.0], [np.nan]):
        with pytest.raises(ValueError, match="sizes must be"):
            perturbation_stability(model, [circle()], sizes)
    with pytest.raises(ValueError, match="no object"):
        perturbation_stability(model, [])


def test_columns_first_are_the_same_points():
    """Bindings that read memory in order, whatever the strides, once made other clouds of them."""
    pytest.importorskip("gudhi")
    cloud = np.random.default_rng(0).normal(size=(12, 2))
    plain, turned = (
        PersistenceImage(resolution=3).fit_transform([X]) for X in (cloud, np.asfortranarray(cloud))
    )
    np.testing.assert_array_equal(plain, turned)
