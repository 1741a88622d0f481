"""What must hold of wide-cnn-kernels whatever the data: identities, invariances, limits."""

import math
import tracemalloc
import warnings

import numpy as np
import pytest
from sklearn.svm import SVC

import lodim.representation.wide_cnn_kernels as system
from lodim.randomness import derive_seed
from lodim.representation import (
    HierarchicalKernel,
    HierarchicalKernelClassifier,
    HierarchicalKernelRegressor,
    KernelSpectrum,
    circle_eigenvalues,
    finite_width_kernel,
    kernel_spectrum,
    predicted_exponent,
    sample_grf,
    sample_sphere_product,
    teacher_student_curve,
)

KINDS = ("ntk", "nngp")


def rows(n=5, d=8, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def k0(t):
    return (math.pi - math.acos(max(-1.0, min(1.0, t)))) / math.pi


def k1(t):
    return math.sqrt(max(0.0, 1 - t * t)) / math.pi + k0(t) * t


def by_the_book(x, y, filters, kind, normalize, whole=None):
    """The recursion of the paper with loops, for one pair; ``whole`` gives the patches of an image."""
    size, *joined = filters
    patches = whole or (lambda z: [z[i : i + size] for i in range(0, len(z), size)])
    xs, ys = patches(x), patches(y)
    if normalize:
        xs, ys = ([p / np.linalg.norm(p) for p in part] for part in (xs, ys))
    K, xx, yy = ([float(a @ b) for a, b in pair] for pair in (zip(xs, ys), zip(xs, xs), zip(ys, ys)))
    T = list(K)
    for fan in [*joined, None]:
        lengths = [math.sqrt(a * b) for a, b in zip(xx, yy)]
        t = [k / s if s else 0.0 for k, s in zip(K, lengths)]
        K = [s * k1(c) for s, c in zip(lengths, t)]
        T = [k0(c) * theta + k for c, theta, k in zip(t, T, K)]
        fan = fan or len(K)
        K, T, xx, yy = (
            [sum(part[i : i + fan]) / fan for i in range(0, len(part), fan)] for part in (K, T, xx, yy)
        )
    assert len(K) == 1
    return T[0] if kind == "ntk" else K[0]


def test_the_module_names_its_source():
    assert "2208.01003" in system.__doc__


# ---- the recursion


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(("filters", "depth"), [((2,), None), ((2, 2, 2), None), ((3, 2), None), ((2, 3), 4)])
def test_it_is_the_papers_recursion(kind, normalize, filters, depth):
    X, Y = rows(5, 24), rows(4, 24, seed=1)
    if not normalize:
        X[0, :2] = Y[1, 6:12] = X[3] = 0
    full = (*filters, *(1,) * ((depth or len(filters)) - len(filters)))
    expected = [[by_the_book(x, y, full, kind, normalize) for y in Y] for x in X]
    kernel = HierarchicalKernel(filters, depth=depth, kind=kind, normalize=normalize, block_size=3)
    np.testing.assert_allclose(kernel(X, Y), expected, rtol=1e-12, atol=1e-13)
    own = [[by_the_book(x, y, full, kind, normalize) for y in X] for x in X]
    np.testing.assert_allclose(kernel(X), own, rtol=1e-12, atol=1e-7)  # by loops arccos near 1 is off by 1e-8
    np.testing.assert_allclose(kernel.diag(X), np.diag(own), rtol=1e-6, atol=1e-13)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_the_same_with_square_patches_and_channels_inside(channels):
    X, Y = rows(3, channels * 8 * 12), rows(2, channels * 8 * 12, seed=1)

    def patches(z):
        """Of 2 x 2, those of a square of 2 x 2 patches next to each other."""
        z = z.reshape(channels, 8, 12)
        corners = [
            (4 * a + 2 * i, 4 * b + 2 * j) for a in range(2) for b in range(3) for i in (0, 1) for j in (0, 1)
        ]
        return [z[:, i : i + 2, j : j + 2].ravel() for i, j in corners]

    shape = (8, 12) if channels == 1 else (channels, 8, 12)
    kernel = HierarchicalKernel((2, 2), image_shape=shape, normalize=False)
    expected = [[by_the_book(x, y, (4 * channels, 4), "ntk", False, patches) for y in Y] for x in X]
    np.testing.assert_allclose(kernel(X, Y), expected, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_fully_connected_is_one_patch_and_the_arc_cosine_kernel(kind):
    X = rows()
    norms = np.linalg.norm(X, axis=1)
    t = np.clip(X @ X.T / np.outer(norms, norms), -1, 1)
    angle = np.arccos(t)
    J = (np.sqrt(1 - t**2) + (np.pi - angle) * t) / np.pi  # Cho and Saul, order 1
    expected = (
        np.outer(norms, norms) / X.shape[1] * (J if kind == "nngp" else J + t * (np.pi - angle) / np.pi)
    )
    found = HierarchicalKernel(depth=1, kind=kind, normalize=False)(X)
    np.testing.assert_allclose(found, expected * X.shape[1], atol=1e-7)
    one = HierarchicalKernel((8, 1), kind=kind)
    np.testing.assert_array_equal(one(X), HierarchicalKernel(depth=2, kind=kind)(X))
    np.testing.assert_array_equal(HierarchicalKernel((8,), depth=2, kind=kind)(X), one(X))


@pytest.mark.parametrize("filters", [None, (2,), (8,)])
@pytest.mark.parametrize("normalize", [True, False])
def test_rows_are_left_as_they_are(filters, normalize):
    X = rows()
    HierarchicalKernel(filters, normalize=normalize)(X)
    np.testing.assert_array_equal(X, rows())


def test_closed_values():
    e, f = np.eye(2)
    X = np.array([e, f, -e])
    np.testing.assert_allclose(
        HierarchicalKernel((2,), kind="nngp")(X, e[None])[:, 0], [1, 1 / np.pi, 0], atol=1e-16
    )
    # k0: 1, 1/2, 0, by Theta = k0 t + k1
    np.testing.assert_allclose(HierarchicalKernel((2,))(X, e[None])[:, 0], [2, 1 / np.pi, 0], atol=1e-16)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_rows_have_the_diagonals_value_to_the_last_units(kind):
    X = rows(40, 96)
    for filters in ((3, 2, 2), (96,), (2, 2, 2, 2), None):
        for normalize in (True, False):
            kernel = HierarchicalKernel(filters, kind=kind, normalize=normalize)
            np.testing.assert_allclose(np.diag(kernel(X, X.copy())), kernel.diag(X), rtol=4e-15)
    layers = HierarchicalKernel((2, 2, 2), kind=kind).diag(rows(3, 16))
    np.testing.assert_array_equal(layers, 4 if kind == "ntk" else 1)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_symmetric_and_positive(kind):
    X = sample_sphere_product(200, 8, 2, random_state=0)
    for kernel in (HierarchicalKernel((2, 2), kind=kind, block_size=33), HierarchicalKernel(kind=kind)):
        K = kernel(X)
        np.testing.assert_array_equal(K, K.T)
        assert np.linalg.eigvalsh(K).min() > -1e-10 * len(X)


@pytest.mark.parametrize("normalize", [True, False])
def test_blocks_change_nothing_and_pairs_are_alone(normalize):
    X, Y = rows(50, 16), rows(37, 16, seed=1)
    whole = HierarchicalKernel((2, 2), normalize=normalize)
    for size in (7, 49):
        np.testing.assert_allclose(
            HierarchicalKernel((2, 2), normalize=normalize, block_size=size)(X, Y), whole(X, Y), rtol=1e-12
        )
    np.testing.assert_allclose(whole(np.r_[X, Y])[:50, 50:], whole(X, Y), rtol=1e-12)


def test_unit_patches_need_no_normalisation_and_lengths_of_patches_cancel_under_it():
    X, Y = sample_sphere_product(20, 12, 3, random_state=0), sample_sphere_product(9, 12, 3, random_state=1)
    plain, raw = HierarchicalKernel((3, 2)), HierarchicalKernel((3, 2), normalize=False)
    np.testing.assert_allclose(raw(X, Y), plain(X, Y), rtol=1e-12)
    scale = np.repeat(np.random.default_rng(2).lognormal(size=(20, 4)), 3, axis=1)
    np.testing.assert_allclose(plain(scale * X, Y), plain(X, Y), rtol=1e-12)


def test_without_normalisation_it_is_homogeneous():
    X, Y = rows(6, 8), rows(5, 8, seed=1)
    kernel = HierarchicalKernel((2, 2), normalize=False)
    np.testing.assert_allclose(kernel(1e100 * X, 1e-100 * Y), kernel(X, Y), rtol=1e-12)
    np.testing.assert_array_equal(kernel(np.zeros((2, 8)), Y), 0)
    for c in (1e-161, 1e-200):  # of one row, among others that are not short
        np.testing.assert_allclose(kernel(np.r_[c * X[:1], X], Y)[0] / c, kernel(X, Y)[0], rtol=1e-12)


def test_positions_may_be_permuted_alike():
    """Meta-patches at the last level, patches within one, and rotations of a patch."""
    X, Y = rows(6, 24), rows(5, 24, seed=1)
    kernel = HierarchicalKernel((2, 3))
    order = np.arange(24).reshape(4, 3, 2)
    rng = np.random.default_rng(0)
    for columns in (order[rng.permutation(4)], order[:, rng.permutation(3)]):
        np.testing.assert_allclose(
            kernel(X[:, columns.ravel()], Y[:, columns.ravel()]), kernel(X, Y), rtol=1e-12
        )
    turn = np.kron(np.eye(12), np.linalg.qr(rng.normal(size=(2, 2)))[0])
    np.testing.assert_allclose(kernel(X @ turn, Y @ turn), kernel(X, Y), rtol=1e-10)
    assert np.abs(kernel(X[:, rng.permutation(24)], Y) - kernel(X, Y)).max() > 0.01


def test_single_precision_is_near():
    X, Y = rows(30, 16), rows(20, 16, seed=1)
    for normalize in (True, False):
        single = HierarchicalKernel((2, 2), dtype="float32", normalize=normalize)
        double = HierarchicalKernel((2, 2), normalize=normalize)
        assert single(X, Y).dtype == np.float32
        np.testing.assert_allclose(single(X, Y), double(X, Y), rtol=2e-5, atol=2e-5)


def test_memory_is_that_of_the_values():
    """Of NumPy's; torch holds a few blocks. All positions at once would be 32 times the values."""
    X = rows(400, 64)
    tracemalloc.start()
    HierarchicalKernel((2, 2, 2), block_size=100)(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 400 * 400 + 8 * 8 * X.size


@pytest.mark.parametrize(
    ("kernel", "d", "said"),
    [
        (HierarchicalKernel((2, 3)), 8, r"\(2, 3\) join 6 .* 8 features"),
        (HierarchicalKernel((2,), image_shape=(3, 4)), 12, r"side 2.* 3 x 4"),
        (HierarchicalKernel((2,), image_shape=(4, 4)), 8, "16 numbers, X has 8"),
    ],
)
def test_filters_that_do_not_divide_are_refused_with_both_numbers(kernel, d, said):
    with pytest.raises(ValueError, match=said):
        kernel(rows(3, d))


def test_patches_of_zeros_and_sizes_beyond_the_range_are_refused():
    X = rows(4, 8)
    X[2, 4:6] = 0
    with pytest.raises(ValueError, match=r"row 2, patch 2.*normalize=False"):
        HierarchicalKernel((2,))(X)
    with pytest.raises(ValueError, match="3 features"):
        HierarchicalKernel()(X, rows(2, 3))
    with pytest.raises(ValueError, match="range of float32"):
        HierarchicalKernel(normalize=False, dtype="float32")(1e30 * rows())


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"filter_sizes": ()}, "filter_sizes"), ({"filter_sizes": (2, 0)}, "filter_sizes"),
        ({"filter_sizes": (2, 2), "depth": 1}, "depth"), ({"kind": "rbf"}, "kind"), ({"dtype": "int64"}, "dtype"),
        ({"image_shape": (4, 4)}, "filter_sizes"), ({"filter_sizes": (2,), "image_shape": (4,)}, "image_shape"),
        ({"block_size": 0}, "block_size"),
    ],
)  # fmt: skip
def test_options_that_are_none_are_refused(options, name):
    with pytest.raises(ValueError, match=name):
        HierarchicalKernel(**options)


# ---- regression


def local_task(n=160, noise=0.0, seed=0):
    X = sample_sphere_product(n, 8, 2, random_state=seed)
    y = X[:, 0] * X[:, 1] + X[:, 4] ** 2
    return X, y + noise * np.random.default_rng(seed).normal(size=n)


LOCAL = HierarchicalKernel((2, 2))


def test_regression_is_the_ridge_solution_with_the_mean_taken_out():
    X, y = local_task()
    Y = np.c_[y, X[:, 2] + 5]
    model = HierarchicalKernelRegressor(LOCAL, ridge=0.01).fit(X, Y)
    K = LOCAL(X)
    coef = np.linalg.solve(K + 0.03 * np.eye(len(X)), Y - Y.mean(0))  # the diagonal is 3
    np.testing.assert_allclose(model.dual_coef_, coef, rtol=1e-8)
    Z = local_task(9, seed=1)[0]
    np.testing.assert_allclose(model.predict(Z), LOCAL(Z, X) @ coef + Y.mean(0), rtol=1e-8)
    one = HierarchicalKernelRegressor(LOCAL, ridge=0.01).fit(X, y)
    np.testing.assert_allclose(one.predict(Z), model.predict(Z)[:, 0], rtol=1e-8)
    assert model.condition_ == pytest.approx(np.linalg.cond(K + 0.03 * np.eye(len(X)), 1), rel=0.5)
    assert model.jitter_ == 0


def test_without_ridge_it_interpolates_and_a_constant_is_learnt_from_anything():
    X, y = local_task(60)
    assert np.abs(HierarchicalKernelRegressor(LOCAL, ridge=0.0).fit(X, y).predict(X) - y).max() < 1e-9
    np.testing.assert_array_equal(HierarchicalKernelRegressor().fit(X, np.full(60, 7.0)).predict(-X), 7)


def test_units_of_rows_and_targets_do_not_matter():
    X, y = local_task(60)
    model, other = (HierarchicalKernelRegressor(ridge=0.01).fit(s * X, s * y) for s in (1, 1000))
    np.testing.assert_allclose(other.predict(1000 * X), 1000 * model.predict(X), rtol=1e-9)


@pytest.mark.parametrize("make", [HierarchicalKernelRegressor, HierarchicalKernelClassifier])
def test_all_rows_as_landmarks_are_the_exact_solution_and_few_are_near(make):
    X, y = local_task(150)
    y = y if make is HierarchicalKernelRegressor else (y > 0.4).astype(int) + (y > 0.8)
    Z = local_task(40, seed=1)[0]
    values = "predict" if make is HierarchicalKernelRegressor else "decision_function"

    def found(n_landmarks):
        return getattr(make(LOCAL, ridge=0.01, n_landmarks=n_landmarks, random_state=0).fit(X, y), values)(Z)

    np.testing.assert_allclose(found(150), found(None), rtol=1e-7, atol=1e-9)
    errors = [np.abs(found(m) - found(None)).mean() for m in (10, 40, 120)]
    assert errors == sorted(errors, reverse=True)
    with pytest.raises(ValueError, match=r"n_landmarks=200.*150"):
        found(200)


def test_the_largest_value_is_the_class():
    X, y = local_task(400)
    names = np.array(["east", "north", "west"])[np.digitize(np.arctan2(X[:, 1], X[:, 0]), [-1, 1])]
    model = HierarchicalKernelClassifier(HierarchicalKernel((2,)), ridge=0.01).fit(X[:300], names[:300])
    assert model.score(X[300:], names[300:]) > 0.85
    np.testing.assert_array_equal(model.predict(X), model.classes_[model.decision_function(X).argmax(1)])
    values = model.decision_function(X)
    np.testing.assert_allclose(values.sum(1), 1, rtol=1e-9)  # one-hot targets sum to 1
    two = HierarchicalKernelClassifier(LOCAL).fit(X, y > 0.5)
    np.testing.assert_array_equal(two.predict(X), two.decision_function(X) > 0)


def test_a_singular_matrix_is_said_with_what_was_done():
    X, y = local_task(40)
    with pytest.warns(UserWarning, match="near-singular"):
        model = HierarchicalKernelRegressor(LOCAL, ridge=0.0).fit(np.r_[X, X], np.r_[y, y])
    assert model.condition_ > 1e12
    np.testing.assert_allclose(model.predict(X), y, atol=1e-5)
    with pytest.raises(ValueError, match="all rows of X are zero"):
        HierarchicalKernelRegressor().fit(np.zeros((3, 2)), [1, 2, 3])
    single = HierarchicalKernel((2,), dtype="float32")
    with pytest.warns(UserWarning, match="single precision"):
        HierarchicalKernelRegressor(single, ridge=0.0).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        HierarchicalKernelRegressor(single, ridge=1e-4).fit(X, y)


def test_messages_name_what_helps():
    X, y = local_task(20)
    with pytest.warns(UserWarning, match="near-singular.*; take fewer landmarks"):  # a ridge would not help
        HierarchicalKernelRegressor(LOCAL, n_landmarks=40).fit(np.r_[X, X], np.r_[y, y])
    with pytest.raises(ValueError, match="raise ridge, or take a kernel of dtype='float64'"):
        system.regression.factorise(np.diag([1.0, -0.1]), 0.0)


@pytest.mark.parametrize("make", [HierarchicalKernelRegressor, HierarchicalKernelClassifier])
def test_a_fitted_model_keeps_its_kernel_and_has_warned_once(make):
    X = local_task(30)[0]
    with pytest.warns(UserWarning, match="single precision"):
        model = make(HierarchicalKernel((2,), dtype="float32"), ridge=0.0).fit(X, X[:, 0] > 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = model.predict(X)
        np.testing.assert_array_equal(model.set_params(kernel=LOCAL, ridge=-1.0).predict(X), before)
    assert HierarchicalKernel((2,), dtype=np.float32) == HierarchicalKernel((2,), dtype="float32")


def test_scikit_learn_takes_the_kernel_as_a_function():
    X, y = local_task(80)
    svc = SVC(kernel=LOCAL).fit(X, y > 0.5)
    given = SVC(kernel="precomputed").fit(LOCAL(X), y > 0.5)
    np.testing.assert_array_equal(svc.predict(X), given.predict(LOCAL(X)))


# ---- spectra and draws


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", [1, 3])
def test_the_circles_eigenvalues_are_those_of_points_on_it(kind, depth):
    kernel = HierarchicalKernel((2,), depth=depth, kind=kind)
    angles = 2 * np.pi * np.arange(64) / 64
    modes = circle_eigenvalues(kernel, 32, n_points=64)
    spectrum = kernel_spectrum(np.c_[np.cos(angles), np.sin(angles)], kernel)
    expected = np.sort(np.r_[modes[0], np.repeat(modes[1:], 2)])[::-1]
    np.testing.assert_allclose(spectrum.eigenvalues[:30], expected[:30], atol=1e-9)
    exact = circle_eigenvalues(kernel, 9, n_points=2**12)
    assert exact[0] + 2 * exact[1:].sum() <= kernel.diag(np.eye(2))[0]  # the trace


def test_one_layers_eigenvalues_on_the_circle_in_closed_form():
    """k0 is a triangle: 1/2, and 2 / (pi f)^2 at odd f; k1 has 4 times the squares of max(cos, 0)'s coefficients."""
    f = np.arange(0, 21)
    k1_modes = np.zeros(21)
    k1_modes[::2] = 4 / (np.pi * (f[::2] ** 2 - 1)) ** 2
    k1_modes[1] = 0.25
    np.testing.assert_allclose(
        circle_eigenvalues(HierarchicalKernel((2,), kind="nngp"), 21, n_points=2**12), k1_modes, atol=1e-11
    )
    k0_modes = np.zeros(22)
    k0_modes[1::2] = 2 / (np.pi * np.arange(1, 22, 2)) ** 2
    k0_modes[0] = 0.5
    shifted = (k0_modes[np.abs(f - 1)] + k0_modes[f + 1]) / 2  # of k0(t) t
    np.testing.assert_allclose(
        circle_eigenvalues(HierarchicalKernel((2,)), 21), k1_modes + shifted, atol=1e-9
    )


def test_decay_is_read_off_a_spectrum():
    ranks = np.arange(1, 101)
    assert KernelSpectrum(3.0 * ranks**-1.7, 500).decay(10, 90).exponent == pytest.approx(1.7)
    X = sample_sphere_product(60, 4, 2, random_state=0)
    spectrum, part = (kernel_spectrum(X, HierarchicalKernel((2,)), k) for k in (None, 7))
    assert spectrum.eigenvalues.sum() == pytest.approx(2)  # the trace
    np.testing.assert_allclose(part.eigenvalues, spectrum.eigenvalues[:7])
    with pytest.raises(ValueError, match="first=3"):
        part.decay(3, 8)


def test_predicted_exponents():
    binary = [HierarchicalKernel((2,) * depth) for depth in (1, 2, 3)]
    assert [predicted_exponent(k, k) for k in binary] == pytest.approx([1, 1 / 2, 1 / 4])
    assert [predicted_exponent(k, binary[2]) for k in binary] == pytest.approx([0.625, 5 / 12, 0.25])
    smooth = HierarchicalKernel((3, 2), kind="nngp")  # d_eff = 4
    assert predicted_exponent(smooth, smooth) == pytest.approx(3 / 4)
    assert predicted_exponent(binary[0], HierarchicalKernel((2, 2), depth=4)) == predicted_exponent(
        *binary[:2]
    )
    joined_by_one = HierarchicalKernel((2, 1))
    assert predicted_exponent(joined_by_one, HierarchicalKernel((2,), depth=2)) == pytest.approx(1)
    assert predicted_exponent(joined_by_one, HierarchicalKernel((2, 1, 2))) == predicted_exponent(*binary[:2])
    for student in (HierarchicalKernel((4,)), joined_by_one):
        with pytest.raises(ValueError, match="begin with"):
            predicted_exponent(binary[1], student)
    for nothing in (None, "ntk", HierarchicalKernel, (2, 2), 3):  # the fuzz of calls leaves kernels out
        for pair in ((nothing, binary[0]), (binary[0], nothing)):
            with pytest.raises(TypeError, match="HierarchicalKernel"):
                predicted_exponent(*pair)
    with pytest.raises(ValueError, match="filter_sizes"):
        predicted_exponent(HierarchicalKernel(), binary[0])


def test_one_layer_never_learns_a_deeper_teacher_and_no_exponent_is_said():
    teacher, sizes = HierarchicalKernel((2,), depth=2), (32, 256)
    with pytest.raises(ValueError, match=r"one layer.*odd"):
        predicted_exponent(teacher, HierarchicalKernel((2,)))
    one, two = (
        teacher_student_curve(
            teacher,
            HierarchicalKernel((2,), depth=depth),
            sizes,
            d=2,
            n_test=100,
            n_repeats=1,
            random_state=0,
        )
        for depth in (1, 2)
    )
    assert math.isnan(one.predicted)
    assert one.errors.mean(0)[1] > 0.1 > 5 * two.errors.mean(0)[1]


def test_draws_have_unit_patches_and_the_given_covariance():
    X = sample_sphere_product(2000, 6, 3, random_state=0)
    np.testing.assert_allclose(np.linalg.norm(X.reshape(2000, 2, 3), axis=2), 1)
    np.testing.assert_allclose(X.T @ X / 2000, np.eye(6) / 3, atol=5 / np.sqrt(2000) / 3)
    K = HierarchicalKernel((3, 2))(X[:4])
    fields = sample_grf(K, 20_000, random_state=1)
    error = np.sqrt((np.outer(np.diag(K), np.diag(K)) + K**2) / 20_000)
    assert (np.abs(fields @ fields.T / 20_000 - K) < 5 * error).all()
    np.testing.assert_array_equal(sample_grf(K, 2, 1), sample_grf(np.tril(K), 2, 1))
    with pytest.raises(ValueError, match="no covariance"):
        sample_grf(-K)


def test_a_learning_curve_is_the_regressors_errors():
    """Every size from one factor, as if each had been fitted alone."""
    teacher, student = HierarchicalKernel((2,)), HierarchicalKernel((2, 2))
    curve = teacher_student_curve(
        teacher, student, (20, 40, 80), d=8, n_test=50, n_targets=2, n_repeats=1, random_state=3
    )
    X = sample_sphere_product(130, 8, 2, derive_seed(3, "rows", 0))
    f = sample_grf(teacher(X), 2, derive_seed(3, "targets", 0))
    for n, error in zip(curve.sizes, curve.errors[0]):
        fitted = student(X[80:], X[:n]) @ np.linalg.solve(student(X[:n]), f[:n])
        assert error == pytest.approx(np.square(fitted - f[80:]).sum() / (50 * f[80:].var(0).sum()), rel=1e-6)
    assert curve.predicted == predicted_exponent(teacher, student)
    assert curve.exponent(40).n_sizes == 2
    other = teacher_student_curve(
        teacher, HierarchicalKernel(), (20,), d=8, n_test=20, n_repeats=1, random_state=3
    )
    assert math.isnan(other.predicted)
    assert "no prediction" in str(other)
    with pytest.raises(ValueError, match="no image_shape"):
        teacher_student_curve(HierarchicalKernel((2,), image_shape=(2, 4)), student, (20,), d=8)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(("filters", "depth"), [((2,), 1), ((2, 2), 3)])
def test_networks_of_finite_width_average_to_the_kernel(normalize, filters, depth):
    """Within their standard errors; layers after the first are off by 1 / width besides, in the mean."""
    X = rows(4, 8)
    kernel = HierarchicalKernel(filters, depth=depth, kind="nngp", normalize=normalize)
    drawn = finite_width_kernel(X, kernel, 2000, n_draws=36, random_state=0)
    error = drawn.std(0, ddof=1) / 6
    assert (np.abs(drawn.mean(0) - kernel(X)) < 4.5 * error + 3e-3 * (depth > 1) * kernel.diag(X).max()).all()


def test_networks_are_drawn_as_matrices_of_weights_would_draw_them():
    """Mean and variance of one entry after two layers of width 3, over many networks."""
    X = rows(2, 4)
    kernel = HierarchicalKernel((2, 2), kind="nngp", normalize=False)
    found = finite_width_kernel(X, kernel, 3, n_draws=400, random_state=0)[:, 0, 1]
    rng = np.random.default_rng(1)
    patches = X.reshape(2, 2, 2)
    first = np.sqrt(2) * np.maximum(np.einsum("rpch,npc->rpnh", rng.normal(size=(2000, 2, 2, 3)), patches), 0)
    joined = np.einsum("rphk,rpnh->rnk", rng.normal(size=(2000, 2, 3, 3)), first) / np.sqrt(6)
    second = np.sqrt(2) * np.maximum(joined, 0)
    expected = (second[:, 0] * second[:, 1]).mean(1)
    se = np.sqrt(found.var() / 400 + expected.var() / 2000)
    assert abs(found.mean() - expected.mean()) < 4 * se
    assert np.log(found.std() / expected.std()) == pytest.approx(0, abs=0.25)


def test_deviations_fall_as_one_over_the_root_of_width():
    X = rows(4, 8)
    kernel = HierarchicalKernel((2, 2), kind="nngp")
    off = [
        np.sqrt(np.square(finite_width_kernel(X, kernel, w, n_draws=100, random_state=0) - kernel(X)).mean())
        for w in (25, 400)
    ]
    assert off[0] / off[1] == pytest.approx(4, rel=0.2)
    with pytest.raises(ValueError, match="nngp"):
        finite_width_kernel(X, LOCAL, 10)
