"""Partitions are the same to the last bit in any order of the rows, and are what the mixtures uphold."""

import pickle
import warnings
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation
from sklearn.cluster import DBSCAN, HDBSCAN, KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.metrics import adjusted_rand_score, pairwise_distances, silhouette_score
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import lodim.partition.partitive_partitioning.kmeans as kmeans
import lodim.partition.partitive_partitioning.partition as partition
from lodim.partition import (
    PPP,
    PartitionCurves,
    Repeatability,
    compactness,
    partition_curves,
    pca_part_init,
    repeatability,
)
from lodim.randomness import as_generator

IRIS = load_iris().data


def blobs(sd=0.3, n=20, seed=0):
    """Seven groups on a circle, of unequal sizes."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(7), n + np.arange(7))
    angle = 2 * np.pi * y / 7
    X = 8 * np.c_[np.cos(angle), np.sin(angle)] + sd * rng.standard_normal((len(y), 2))
    return np.c_[X, 5.0 + 0.1 * rng.standard_normal(len(y))], y


# ------------------------------------------------------------------------------------------ k-means without chance


def test_the_first_cut_is_at_the_mean_across_the_longest_direction():
    X = np.array([[0.0, 0], [1, 1], [2, 0], [20, 0], [21, 1], [22, 0]])
    np.testing.assert_allclose(pca_part_init(X, 2), [[1, 1 / 3], [21, 1 / 3]])
    np.testing.assert_allclose(pca_part_init(X, 1), [X.mean(0)])


def test_starts_for_k_are_one_cut_from_those_for_fewer():
    grown = kmeans.grow(blobs()[0], 9)
    for fewer, more in pairwise(grown):
        assert sum(any((one == other).all() for other in more) for one in fewer) == len(fewer) - 1


def test_a_side_that_rounding_empties_is_cut_at_the_median():
    Z = 1 + 2 * np.finfo(float).eps * np.array([[0.0], [1], [1], [1]])
    assert not (Z - Z.mean(0) > 0).any()
    assert (np.sort(kmeans.grow(Z, 2)[1], axis=0) == Z[:2]).all()


def test_equal_rows_cap_the_number_of_parts():
    X = np.repeat([[0.0, 0.1], [1.0, 0.1], [5.0, 0.1]], 7, axis=0)
    assert sorted(pca_part_init(X, 3)[:, 0]) == pytest.approx([0, 1, 5])
    with pytest.raises(ValueError, match="only 3 distinct rows"):
        pca_part_init(X, 4)


def test_the_order_of_rows_is_their_own():
    X = np.array([[0.0, 1], [2, 3], [-0.0, 1], [2, -3]])
    order, first = kmeans.canonical_order(X)
    again, _ = kmeans.canonical_order(X[[3, 0, 1, 2]])
    assert (X[order] == X[[3, 0, 1, 2]][again]).all()
    assert len(set(first)) == 3
    assert (X[order][first] == X[order]).all()


def test_one_k_is_scikit_learns_kmeans_from_these_starts():
    X, _ = blobs(2.0)
    ours = PPP((5, 5), variance=None).fit(X)
    theirs = KMeans(5, init=pca_part_init(X, 5), n_init=1).fit(X)
    assert adjusted_rand_score(ours.labels_, theirs.labels_) == 1
    assert set(ours.validation_curve_) == {5}


# ------------------------------------------------------------------------------------------------ invariances


@pytest.mark.parametrize("strategy", ["validate", "merge"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_another_order_of_the_rows_gives_the_same_bits(strategy, dtype):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((150, 4)).astype(dtype)
    X[100:] = X[:50]  # equal rows
    model = PPP((2, 4), strategy=strategy, k0=8).fit(X)
    place = rng.permutation(len(X))
    other = PPP((2, 4), strategy=strategy, k0=8).fit(X[place])
    for name in ("labels_", "probabilities_", "separable_mask_"):
        assert (getattr(model, name)[place] == getattr(other, name)).all(), name
    assert (model.labels_[100:] == model.labels_[:50]).all()
    for name in ("cluster_centers_", "components_", "separable_features_"):
        assert (getattr(model, name) == getattr(other, name)).all(), name
    assert model.validation_curve_ == other.validation_curve_
    assert model.bic_ == other.bic_


def test_the_same_bits_by_mini_batches_and_from_a_sample(monkeypatch):
    X, y = blobs(n=60)
    whole = PPP((7, 7)).fit(X)
    monkeypatch.setattr(kmeans, "MANY", 200)
    monkeypatch.setattr(kmeans, "_BATCH", 100)
    monkeypatch.setattr(partition, "SAMPLE", 150)
    place = np.random.default_rng(0).permutation(len(X))
    model, other = PPP((7, 7)).fit(X), PPP((7, 7)).fit(X[place])
    assert (model.labels_[place] == other.labels_).all()
    assert (model.probabilities_[place] == other.probabilities_).all()
    assert adjusted_rand_score(model.labels_, y) == 1
    assert (model.labels_ == whole.labels_).all()
    assert model.labels_.shape == model.probabilities_.shape == (len(X),)


@pytest.mark.parametrize("move", ["shift", "rotation", "unit", "tiny", "huge"])
def test_the_frame_does_not_matter(move):
    X, _ = blobs(1.0, n=8)
    turn = Rotation.from_euler("xyz", [1.0, 0.3, 2.0]).as_matrix()
    moved = {"shift": X + 1e4, "rotation": X @ turn, "unit": 1024 * X, "tiny": X * 1e-250, "huge": X * 1e250}
    model, other = PPP((6, 7)).fit(X), PPP((6, 7)).fit(moved[move])
    assert (model.labels_ == other.labels_).all()
    np.testing.assert_allclose(model.probabilities_, other.probabilities_, atol=1e-6)
    assert np.isfinite(other.cluster_centers_).all()
    if move != "rotation":
        assert (model.separable_features_ == other.separable_features_).all()


def test_no_seed_is_drawn():
    before = np.random.get_state()[1].copy()
    X, _ = blobs()
    PPP((2, 4)).fit(X)
    assert (np.random.get_state()[1] == before).all()


# ------------------------------------------------------------------------------------------------ validation


def test_separate_groups_are_counted_though_every_merger_of_them_is_upheld_too():
    X, y = blobs()
    model = PPP((2, 9)).fit(X)
    assert model.n_clusters_ == 7
    assert adjusted_rand_score(model.labels_, y) == 1
    perfect = [k for k, score in model.validation_curve_.items() if score == 1]
    assert len(perfect) > 1
    assert max(perfect) == 7
    assert (np.bincount(model.labels_) == np.arange(26, 19, -1)).all()
    assert model.separable_mask_.all()
    assert model.separable_features_[-1] == 2


def test_the_curve_is_the_mean_of_the_families_and_its_best_is_taken():
    model = PPP((2, 6)).fit(IRIS)
    for k, scores in model.family_scores_.items():
        assert model.validation_curve_[k] == pytest.approx(np.mean(list(scores.values())))
    assert model.validation_curve_[model.n_clusters_] == max(model.validation_curve_.values())


def test_one_gaussian_has_no_score_of_09_and_none_of_05_when_cut_finely():
    X = np.random.default_rng(0).standard_normal((300, 5))
    assert max(PPP((2, 5)).fit(X).validation_curve_.values()) < 0.9
    with pytest.warns(UserWarning, match="no validated structure"):
        PPP((10, 10)).fit(X)


@pytest.mark.parametrize("family", partition.FAMILIES)
def test_a_mixture_starts_from_the_partition_and_keeps_its_order(family):
    X, y = blobs()
    centres = np.array([X[y == j].mean(0) for j in range(7)])
    share = np.bincount(y) / len(y)
    mixture = partition.started(family, X, y, centres, share, 1e-3).set_params(max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert (mixture.fit(X).predict(X) == y).all()
    hard = GaussianMixture(7, covariance_type=family, reg_covar=1e-3)
    hard._initialize(X, np.eye(7)[y])  # scikit-learn's own M step on the partition
    inverse = np.linalg.inv if family in ("tied", "full") else np.reciprocal
    np.testing.assert_allclose(mixture.precisions_init, inverse(hard.covariances_), rtol=1e-6)


def test_families_with_more_numbers_than_rows_are_left_out_but_not_all():
    X = np.random.default_rng(0).standard_normal((40, 6))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = PPP((2, 12), variance=None).fit(X).family_scores_
    assert set(scores[2]) == {"spherical", "diag", "tied"}  # 14, 24, 33 numbers; full has 54
    assert set(scores[12]) == {"spherical"}  # 84, the fewest
    assert partition.n_numbers("full", 2, 6) == 2 * (6 + 21)


def test_separable_rows_are_fewer_the_surer_they_must_be_and_are_those_agreed_on():
    rows = [PPP((3, 3), tau=tau).fit(IRIS).separable_mask_ for tau in (0.5, 0.9, 0.99, 1.0)]
    assert all((more >= fewer).all() for more, fewer in pairwise(rows))
    assert 0 < rows[2].sum() < rows[0].sum()
    assert not rows[-1].any()
    assert not len(PPP((3, 3), tau=1.0).fit(IRIS).separable_features_)


def test_new_rows_are_placed_as_the_old_ones_were():
    for model in (PPP((2, 6)), PPP(strategy="merge", k0=9)):
        model.fit(IRIS)
        P = model.predict_proba(IRIS)
        assert (model.predict(IRIS) == model.labels_).all()
        np.testing.assert_allclose(P[np.arange(150), model.labels_], model.probabilities_, rtol=1e-9)
        np.testing.assert_allclose(P.sum(1), 1)
        assert ((P >= 0) & (P <= 1)).all()
        assert (pickle.loads(pickle.dumps(model)).predict(IRIS) == model.labels_).all()
        assert (model.predict(model.cluster_centers_) == np.arange(model.n_clusters_)).all()
        np.testing.assert_allclose(model.cluster_centers_[0], IRIS[model.labels_ == 0].mean(0))


def test_merging_ends_where_overlap_does():
    X, y = blobs()
    model = PPP(strategy="merge", k0=20).fit(X)
    assert adjusted_rand_score(model.labels_, y) == 1
    assert list(model.validation_curve_) == list(range(20, 6, -1))
    assert PPP(strategy="merge", k0=20, merge_threshold=0.0).fit(X).n_clusters_ < 7
    assert PPP(strategy="merge", k0=5, merge_threshold=1.0).fit(IRIS).n_clusters_ == 5


# ------------------------------------------------------------------------------------------------ odd data


def test_what_is_degenerate_is_answered_with_a_warning():
    with pytest.warns(UserWarning, match="all rows of X are equal"):
        model = PPP().fit(np.full((30, 2), 0.1))
    assert model.n_clusters_ == 1
    assert (model.predict_proba([[3.0, 4.0]]) == 1).all()
    with pytest.warns(UserWarning, match="only 3 distinct rows"):
        model = PPP((5, 8)).fit(np.repeat(np.eye(3), 10, axis=0))
    assert model.n_clusters_ == 3
    assert model.validation_curve_ == {3: 1.0}
    with (
        pytest.warns(UserWarning, match="20 rows: k goes up to 10"),
        pytest.warns(UserWarning, match=r"2\.5 rows on average"),
    ):
        PPP().fit(blobs()[0][:20])
    with pytest.warns(UserWarning, match="max_iter=1"):
        PPP((3, 3), max_iter=1).fit(IRIS)


def test_a_partition_is_filed_under_the_number_of_clusters_it_has():
    X = np.r_[blobs()[0], [[1e80, 0, 0]]]
    with pytest.warns(UserWarning, match="k-means left 2 of [34] clusters"):
        model = PPP((2, 4)).fit(X)
    assert model.n_clusters_ == len(model._centres) == 2
    assert set(model.validation_curve_) == {2}
    X[-1, 0] = 1e200
    with pytest.warns(UserWarning, match="2 distinct rows at the scale of its spread"):
        assert PPP((2, 4)).fit(X).n_clusters_ == 2


def test_a_sample_that_misses_clusters_is_no_obstacle(monkeypatch):
    monkeypatch.setattr(partition, "SAMPLE", 20)
    X = np.zeros((400, 2))
    X[7:9], X[50] = [[1.0, 2.0], [1.0, 2.5]], [-30.0, 4.0]
    model = PPP((3, 3)).fit(X)
    assert (np.bincount(model.labels_) == [397, 2, 1]).all()
    assert np.isfinite(model.predict_proba(X)).all()
    merged = PPP(strategy="merge", k0=3).fit(X)
    assert (np.bincount(merged.labels_) == [397, 2, 1]).all()
    assert (merged.labels_ == model.labels_).all()


def test_single_rows_and_constant_columns():
    X = np.r_[np.random.default_rng(0).standard_normal((50, 2)), [[1e3, 0.0]], [[0.0, 1e3]]]
    model = PPP((3, 3), variance=None).fit(np.c_[X, np.ones(52)])
    assert (np.bincount(model.labels_) == [50, 1, 1]).all()
    assert np.isfinite(model.predict_proba(np.c_[X, np.ones(52)])).all()
    assert model.separable_features_[-1] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k_range": (1, 5)}, "k_range must be at least 2"),
        ({"k_range": (5, 4)}, "k_range must rise"),
        ({"k_range": (150, 160)}, "150 rows"),
        ({"k_range": 3}, "k_range must be a pair"),
        ({"families": ("round",)}, "families must be one of"),
        ({"families": "full"}, "families must be a list"),
        ({"variance": 0.0}, "variance must be above 0"),
        ({"n_components": 5}, "n_components must be at least 1 and at most 4"),
        ({"reg": 0.0}, "reg must be"),
        ({"strategy": "split"}, "strategy must be one of"),
    ],
)
def test_bad_parameters_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        PPP(**options).fit(IRIS)


def test_rows_of_another_unit_and_a_missing_column_are_refused():
    frame = pd.DataFrame(IRIS, columns=list("abcd"))
    model = PPP((2, 3)).fit(frame)
    assert list(model.feature_names_in_) == list("abcd")
    with pytest.raises(ValueError, match="another unit"):
        model.predict(frame * 1e120)
    with pytest.raises(ValueError, match="another unit"):
        PPP((2, 3), variance=None).fit(IRIS * 1e-20).predict([[1.7e308, 0, 0, 0]])
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[list("bacd")])


# ------------------------------------------------------------------------------------------------ reports


def test_repeatability_tells_chance_from_none():
    X, _ = blobs(3.0)
    for mode in ("seed", "permute"):
        assert repeatability(PPP((3, 4)), X, 3, mode, random_state=0).ari.min() == 1
    loose = repeatability(KMeans(10, n_init=1), X, 4, random_state=0)
    assert 0 < loose.mean < 0.95
    assert loose.std > 0
    assert (
        repeatability(KMeans(10, n_init=1, random_state=3), X, 4, random_state=0) == loose
    )  # seeds are replaced
    fixed = repeatability(KMeans(10, n_init=1), X, 3, "permute", random_state=0)
    assert fixed.ari.min() < 1  # one seed meets other rows
    piped = repeatability(make_pipeline(StandardScaler(), KMeans(10, n_init=1)), X, 3, random_state=0)
    assert piped.method == "Pipeline"
    assert piped.mean < 1


def test_subsamples_are_compared_on_rows_in_common_and_noise_is_no_cluster():
    X, _ = blobs()
    found = repeatability(PPP((7, 7)), X, 4, "subsample", random_state=0)
    assert found.mean == 1
    assert found.n_clusters == (7,) * 4
    noisy = repeatability(HDBSCAN(min_cluster_size=5, copy=True), np.r_[X, [[90.0, 0, 0]]], 2, random_state=0)
    assert noisy.n_clusters == (7, 7)
    assert "7 (2 x)" in str(noisy)
    three = Repeatability("m", "seed", np.array([[1, 0.2, 0.4], [0.2, 1, 0.9], [0.4, 0.9, 1]]), (2, 2, 3))
    assert three.mean == pytest.approx(0.5)
    assert three.std == pytest.approx(np.std([0.2, 0.4, 0.9]))
    D = np.abs(X[:, :1] - X[:, 0])
    assert repeatability(DBSCAN(metric="precomputed"), D, 2, "permute", random_state=0).mean == 1
    one = make_pipeline(ColumnTransformer([("a", "passthrough", ["a"])]), KMeans(3))
    assert repeatability(one, pd.DataFrame(X, columns=list("abc")), 2, "subsample").n_clusters == (3, 3)
    with pytest.raises(TypeError, match="estimator must be a clusterer"):
        repeatability(StandardScaler(), X)


class Named(KMeans):
    """k-means whose clusters have names of any kind."""

    names = (0, 1, 2)

    def fit_predict(self, X, y=None, sample_weight=None):
        return np.array(self.names)[super().fit_predict(X)]


@pytest.mark.parametrize("names", [(0.2, 0.4, 0.6), ("a", "b", "c"), (True, False, True), ("-1", "a", "b")])
def test_clusters_may_have_any_names(names, monkeypatch):
    X, _ = blobs(3.0)
    expected = repeatability(Named(3, n_init=1), X, 4, random_state=0)
    monkeypatch.setattr(Named, "names", names)
    found = repeatability(Named(3, n_init=1), X, 4, random_state=0)
    if len(set(names)) == 3:
        np.testing.assert_array_equal(found.ari, expected.ari)
    assert found.n_clusters == (len(set(names) - {"-1"}),) * 4


def test_compactness_is_scikit_learns_and_free_of_the_unit():
    X, y = blobs(2.0)
    found, tiny = compactness(X, y), compactness(X * 1e-140, y)
    assert found.within_sse == pytest.approx(
        sum(((X[y == j] - X[y == j].mean(0)) ** 2).sum() for j in range(7))
    )
    assert found.silhouette == pytest.approx(silhouette_score(X, y))
    assert tiny.davies_bouldin == pytest.approx(found.davies_bouldin)
    for noisy in (np.r_[y, -1, -1], np.r_[y, -1, -1].astype(str)):
        assert compactness(np.r_[X, [[90.0, 0, 0]] * 2], noisy) == found
    with pytest.raises(ValueError, match="divide X"):
        compactness(X * 1e-200, y)
    with pytest.raises(ValueError, match="labels must name 2"):
        compactness(X, np.zeros(len(X)))


def test_curves_agree_on_separate_groups():
    X, _ = blobs()
    model = PPP((5, 8)).fit(X)
    curves = partition_curves(model, X, n_references=4, random_state=0)
    assert curves.choices == {"agreement": 7, "silhouette": 7, "gap": 7, "bic": 7}
    assert curves.agreement == tuple(model.validation_curve_.values())
    with pytest.raises(ValueError, match="no partitions over k"):
        partition_curves(PPP(strategy="merge", k0=9).fit(X), X)


def test_a_curve_is_finite_where_every_row_is_at_a_centre():
    X = np.repeat([[0.0, 0.0], [1.0, 0.0], [5.0, 5.0]], [10, 10, 3], axis=0)
    with pytest.warns(UserWarning, match="only 3 distinct rows"):
        model = PPP((2, 6)).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = partition_curves(model, X, random_state=0)
    assert np.isfinite(found.gap).all()
    assert found.choices["gap"] == 3
    assert type(found).from_json(found.to_json()).choices == found.choices


def test_curves_are_those_of_scikit_learn_and_of_tibshirani_by_hand():
    X, _ = blobs(2.0, n=8)
    model = PPP((3, 5), families=("full",), variance=None).fit(X)
    curves = partition_curves(model, X, n_references=3, random_state=5)

    def partition_of(Z, k):
        return KMeans(k, init=pca_part_init(Z, k), n_init=1).fit_predict(Z)

    def log_w(Z, k):  # half the squared distances of all pairs in a cluster, over its size
        labels = partition_of(Z, k)
        each = [pairwise_distances(Z[labels == j]) ** 2 for j in range(k)]
        return np.log(sum(D.sum() / (2 * len(D)) for D in each))

    rng, Z = as_generator(5), X - X.mean(0)
    boxes = [rng.uniform(Z.min(0), Z.max(0), Z.shape) for _ in range(3)]
    for at, k in enumerate((3, 4, 5)):
        logs = [log_w(U, k) for U in boxes]
        assert curves.gap[at] == pytest.approx(np.mean(logs) - log_w(X, k), abs=1e-3)
        assert curves.gap_se[at] == pytest.approx(np.std(logs) * np.sqrt(1 + 1 / 3), abs=1e-3)
        assert curves.silhouette[at] == pytest.approx(silhouette_score(X, partition_of(X, k)))
        assert curves.bic[at] == model.bic_[k]["full"]
    table = PartitionCurves(
        (2, 3, 4), (1.0, 1.0, 0.5), (0.1, 0.3, 0.2), (0.1, 0.5, 0.55), (0.0, 0.1, 0.1), (3.0, 1.0, 2.0)
    )
    assert table.choices == {"agreement": 3, "silhouette": 3, "gap": 3, "bic": 3}
