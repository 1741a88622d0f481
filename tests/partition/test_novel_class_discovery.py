"""What must hold of novel-class-discovery whatever the data: identities, invariances, limits."""

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import linkage
from scipy.sparse.csgraph import laplacian, minimum_spanning_tree
from scipy.spatial.distance import pdist, squareform
from sklearn.cluster import KMeans
from torch.nn import functional as F

import lodim.partition.novel_class_discovery as system
from lodim.claims.partition.novel_class_discovery.nuisance import nuisance
from lodim.metrics import clustering_accuracy
from lodim.partition import (
    PBN,
    NCDKMeans,
    NCDSearchCV,
    NCDSpectralClustering,
    TabularNCD,
    estimate_n_novel,
    novel_class_scores,
)
from lodim.partition.novel_class_discovery import clustering
from lodim.partition.novel_class_discovery.projection import ProjectionNet, train_projections
from lodim.partition.novel_class_discovery.search import _NearOne, hidden_classes
from lodim.partition.novel_class_discovery.tabular_ncd import alike, neighbors_of_kind
from lodim.randomness import as_generator, build_seeded, derive_seed


def blobs(n=30, k=6, d=5, far=6.0, seed=0):
    """Groups of n rows about k corners, and their numbers."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n * k, d)) + np.repeat(far * rng.normal(size=(k, d)), n, axis=0)
    return rows / rows.std(0), np.repeat(np.arange(k), n)


X, truth = blobs()
y = np.where(truth < 3, truth, -1)


def net(seed=0, dropout=0.0, n_classes=3, d=5):
    return build_seeded(lambda: ProjectionNet(d, [4, 3], 2, n_classes, dropout), seed).double()


def batch(members=1, seed=0):
    rows = torch.from_numpy(X[np.random.default_rng(seed).permutation(len(X))[:40]])
    codes = torch.randint(-1, 3, (40, members), generator=torch.Generator().manual_seed(seed))
    return rows, codes


def losses(model, rows, codes, w):
    return model.losses(rows, codes, torch.tensor(w, dtype=torch.float64))


def test_the_package_names_its_source():
    assert "2311.05440" in system.__doc__


# ------------------------------------------------------------------------------------------------ the projection


def test_the_loss_is_the_papers():
    model, (rows, codes) = net(), batch()
    z = model.encode(rows)[0].T
    torch.testing.assert_close(z.norm(dim=1), torch.ones(40).double())
    known = codes[:, 0] >= 0
    entropy = F.cross_entropy(model.classifier(z.T)[0].T[known], codes[known, 0])
    error = F.mse_loss(model.decoder(z.T, model.dropout)[0].T, rows, reduction="sum") / 40
    for w in (0.0, 0.3, 1.0):
        torch.testing.assert_close(losses(model, rows, codes, [w])[0], w * entropy + (1 - w) * error)


def test_the_ends_of_w_leave_a_part_untaught():
    for w, idle in ((0.0, "classifier"), (1.0, "decoder")):
        model = net()
        losses(model, *batch(), [w]).sum().backward()
        for name, p in model.named_parameters():
            assert bool((p.grad == 0).all()) == name.startswith(idle), name


def test_a_batch_without_known_rows_reconstructs_only():
    rows, codes = batch()
    found = losses(net(), rows, torch.full_like(codes, -1), [0.4])
    torch.testing.assert_close(found, 0.6 * losses(net(), rows, codes, [0.0]))


def test_layers_are_those_of_torch():
    """A member's encoder in training is Linear, ReLU, BatchNorm1d one after the other."""
    model, (rows, _) = net(), batch()
    linear, norm = model.encoder.linear, torch.nn.BatchNorm1d(4).double()
    one = torch.relu(F.linear(rows, linear[0].weight[0], linear[0].bias[0, :, 0]))
    expected = F.linear(norm(one), linear[1].weight[0], linear[1].bias[0, :, 0])
    found = linear[1](model.encoder.norm[0](linear[0](rows.T).relu()))[0].T
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(model.encoder.norm[0].mean[0], norm.running_mean)
    torch.testing.assert_close(model.encoder.norm[0].variance[0], norm.running_var)


def test_a_member_of_a_stack_has_the_loss_and_the_gradient_that_it_has_alone():
    nets, w = [net(seed, dropout) for seed, dropout in ((0, 0.0), (1, 0.3), (2, 0.5))], [0.2, 0.9, 1.0]
    rows, codes = batch(3)
    together = ProjectionNet.stack(nets)
    torch.manual_seed(5)
    found = losses(together, rows, codes, w)
    found.sum().backward()
    for i, alone in enumerate(nets):
        torch.manual_seed(5)
        expected = losses(alone, rows, codes[:, i : i + 1], w[i : i + 1])
        expected.sum().backward()
        torch.testing.assert_close(found[i : i + 1], expected)
        for name, p in together.named_parameters():
            torch.testing.assert_close(p.grad[i : i + 1], alone.get_parameter(name).grad)
        torch.testing.assert_close(together.member(i).state_dict(), alone.state_dict())


@pytest.mark.trains
def test_a_member_learns_what_it_learns_alone():
    settings = ((1e-2, 0.5, 0.3), (1e-3, 0.9, 0.0), (3e-3, 1.0, 0.5))
    models = [PBN(w=w, lr=lr, dropout=p, epochs=4, batch_size=64, random_state=3) for lr, w, p in settings]
    codes = np.stack([y, np.where(truth > 3, truth - 4, -1), y], 1)
    for i, (together, _) in enumerate(train_projections(models, X, codes)):
        [(alone, _)] = train_projections(models[i : i + 1], X, codes[:, i : i + 1])
        np.testing.assert_allclose(together.latents(X), alone.latents(X), atol=2e-4)


@pytest.mark.trains
def test_a_member_that_diverges_is_lost_alone():
    models = [PBN(lr=lr, epochs=3, random_state=0) for lr in (1e-3, 1e30)]
    (kept, _), (lost, _) = train_projections(models, X, np.stack([y, y], 1))
    [(alone, _)] = train_projections(models[:1], X, y[:, None])
    np.testing.assert_allclose(kept.latents(X), alone.latents(X), atol=1e-4)
    assert not np.isfinite(lost.latents(X)).all()


@pytest.fixture(scope="module")
def one_training(tmp_path_factory):
    """Where clusterers of the same latents share their training."""
    return tmp_path_factory.mktemp("training") / "run"


@pytest.mark.trains
@pytest.mark.parametrize("clusterer", ["kmeans", "ncd_kmeans", "spectral", "ncd_spectral"])
def test_projections_find_clear_groups_by_any_clusterer(clusterer, one_training):
    settings = {"hidden": [16], "latent_dim": 5, "batch_size": 64, "lr": 5e-3, "random_state": 0}
    model = PBN(n_novel=3, clusterer=clusterer, epochs=40, **settings).fit(X, y, checkpoint=one_training)
    assert (model.labels_[y >= 0] == y[y >= 0]).all()
    assert clustering_accuracy(truth[y < 0], model.labels_[y < 0]) > 0.95
    assert (model.predict_known(X[y >= 0]) == y[y >= 0]).mean() > 0.95
    assert (model.predict(X) == model.labels_).mean() > 0.9
    assert (model.predict_novel(X[y < 0]) == model.labels_[y < 0]).mean() > 0.99
    np.testing.assert_allclose(np.linalg.norm(model.transform(X), axis=1), 1)


@pytest.fixture
def double_by_default():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("kind", [PBN, TabularNCD])
def test_another_default_precision_of_torch_is_no_obstacle(kind, double_by_default):
    model = kind(3, epochs=1, random_state=0).fit(X, y)
    assert set(model.labels_[y < 0]) <= {3, 4, 5}
    train_projections([PBN(lr=lr, epochs=1) for lr in (1e-3, 2e-3)], X, np.c_[y, y])


def test_no_batch_is_left_with_one_row():
    """It would have no variance; 65 rows in batches of 16 leave one."""
    labels = np.where(truth[:65] > 0, -1, 0)
    model = PBN(n_novel=2, epochs=1, batch_size=16, random_state=0).fit(X[:65], labels)
    assert model.training_.steps == 4
    assert np.isfinite(model.training_.loss)


@pytest.mark.trains
def test_a_training_goes_on_from_its_checkpoint_and_from_no_other(tmp_path):
    settings = {"n_novel": 3, "epochs": 3, "random_state": 0}
    first = PBN(**settings).fit(X, y, checkpoint=tmp_path / "run")
    again = PBN(**settings).fit(X, y, checkpoint=tmp_path / "run")
    assert (first.labels_ == again.labels_).all()
    with pytest.raises(ValueError, match="w differs"):
        PBN(w=0.9, **settings).fit(X, y, checkpoint=tmp_path / "run")


@pytest.mark.trains
def test_known_classes_prevail_over_nuisance_for_weights_near_one_only():
    rows, classes = nuisance(1000, 0)
    labels = np.where(classes < 5, classes, -1)
    novel, settings = labels < 0, {"lr": 3e-3, "latent_dim": 4, "epochs": 80, "n_novel": 5}
    models = [PBN(w=w, random_state=0, **settings) for w in (0.5, 0.99)]
    nets = train_projections(models, rows, np.stack([labels, labels], 1))
    found = [m._sort_latents(n.latents(rows), labels, novel) for m, (n, _) in zip(models, nets, strict=True)]
    found.append(KMeans(5, n_init=10, random_state=0).fit_predict(rows[novel]))
    low, high, plain = (clustering_accuracy(classes[novel], each) for each in found)
    assert abs(low - plain) < 0.1
    assert high - plain > 0.15


# ------------------------------------------------------------------------------------------------ clusterings


def test_without_known_classes_it_is_k_means_from_the_same_seeds():
    start = clustering.draw_seeds(X, None, 4, 2, as_generator(derive_seed(7, "start", 0)))
    expected = KMeans(4, init=start, n_init=1, tol=0).fit(X)
    found, labels, inertia, n_iter = clustering.place_centroids(X, None, 4, 7, power=2, n_init=1)
    np.testing.assert_allclose(found, expected.cluster_centers_)
    assert inertia == pytest.approx(expected.inertia_)
    assert (labels == expected.labels_).all()
    assert n_iter == expected.n_iter_ - 1  # which counts the step that finds nothing to move
    model = NCDKMeans(4, random_state=0).fit(X)
    assert model.labels_.max() == 3
    with pytest.warns(UserWarning, match=f"still moved after max_iter={model.n_iter_} steps"):
        NCDKMeans(4, max_iter=model.n_iter_, random_state=0).fit(X)


@pytest.mark.parametrize(("update", "still"), [("novel", True), ("both", False), ("known", False)])
def test_known_centroids_stand_still_unless_told_to_move(update, still):
    labels = np.where(np.arange(len(X)) % 2, y, -1)  # rows of known classes among the unlabelled ones
    model = NCDKMeans(3, update=update, random_state=0).fit(X, labels)
    means = np.stack([X[labels == c].mean(0) for c in range(3)])
    assert np.allclose(model.cluster_centers_[:3], means) == still
    if still:
        members = np.stack([X[model.labels_ == 3 + j].mean(0) for j in range(3)])
        np.testing.assert_allclose(model.cluster_centers_[3:], members)


def test_seeds_keep_away_from_known_centroids():
    rows = np.array([[0.0], [0.0], [10.0]])
    drawn = [clustering.draw_seeds(rows, np.zeros((1, 1)), 1, 2, as_generator(s))[0, 0] for s in range(20)]
    assert set(drawn) == {10.0}


def test_a_centroid_without_rows_keeps_its_place():
    centroids = np.array([[0.0], [100.0]])
    assert clustering.move_centroids(np.array([[1.0], [2.0]]), centroids, 10) == (1, True)
    assert centroids.ravel().tolist() == [1.5, 100.0]


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("legacy", [False, True])
def test_the_longest_edge_of_the_spanning_tree_has_the_similarity_asked_for(dense, legacy, monkeypatch):
    if not dense:
        monkeypatch.setattr(clustering, "_DENSE", 10)
        monkeypatch.setattr(clustering, "_NEIGHBORS", 8)
    rows = np.r_[X, X[:3]]  # repeated ones too
    affinity, sigma = clustering.spanning_affinity(rows, 0.3, legacy_sigma=legacy)
    longest = linkage(pdist(rows), "single")[-1, 2]
    assert np.exp(-(longest**2) / (2 * sigma**2)) == pytest.approx(0.3 ** (0.5 if legacy else 1), abs=1e-6)
    full = affinity if dense else affinity.toarray()
    assert (full == full.T).all()
    assert not full.diagonal().any()
    values, vectors = np.linalg.eigh(laplacian(full, normed=True))
    assert values.min() > -1e-9
    assert values.max() < 2 + 1e-9
    found = clustering.laplacian_eigenvectors(affinity, 4, 0)
    np.testing.assert_allclose(np.abs(np.sum(found * vectors[:, 1:5], 0)), 1, atol=1e-6)


def test_pieces_are_joined_by_the_edges_of_the_spanning_tree():
    """Five groups so far apart that no row has a neighbour in another one."""
    rows, _ = blobs(20, 5, far=100.0)
    graph = clustering.joined_neighbors(rows, 4)
    tree = minimum_spanning_tree(squareform(pdist(rows))).data
    np.testing.assert_allclose(np.sort(minimum_spanning_tree(graph).data)[-4:], np.sort(tree)[-4:])


def test_spectral_clustering_finds_rings_that_k_means_does_not():
    angle = np.linspace(0, 2 * np.pi, 150, endpoint=False)
    rows = np.vstack([radius * np.c_[np.cos(angle), np.sin(angle)] for radius in (3, 1, 5)])
    labels = np.r_[np.full(300, -1), np.zeros(150)]
    ring = np.repeat([0, 1], 150)
    model = NCDSpectralClustering(2, min_dist=0.01, n_components=2, random_state=0)
    assert clustering_accuracy(ring, model.fit(rows, labels).labels_[:300]) == 1
    assert clustering_accuracy(ring, NCDKMeans(2, random_state=0).fit(rows, labels).labels_[:300]) < 0.8
    assert (model.predict(rows) == model.labels_).all()


@pytest.mark.parametrize("index", clustering.INDICES)
def test_clear_groups_are_counted(index):
    rows, _ = blobs(40, 4, far=20.0)
    found = estimate_n_novel(rows, (2, 8), index=index, random_state=0)
    assert found.n_novel == 4
    assert found.k == tuple(range(2, 9))
    assert estimate_n_novel(rows + 1e9, (2, 8), index=index, random_state=0).n_novel == 4


def test_a_range_is_searched_for_clear_groups():
    rows, _ = blobs(40, 4, far=20.0)
    assert NCDKMeans(n_novel_range=(2, 8), random_state=0).fit(rows).n_novel_ == 4


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_units_decide_nothing(scale):
    for model in (NCDKMeans(3, random_state=0), NCDSpectralClustering(3, random_state=0)):
        expected = model.fit(X, y).labels_
        assert (model.fit(X * scale, y).labels_ == expected).all()
    with pytest.raises(ValueError, match="single precision"):
        PBN(n_novel=3, epochs=1).fit(X * scale, y)


@pytest.mark.parametrize("model", [NCDKMeans(4, random_state=0), NCDSpectralClustering(4, random_state=0)])
def test_the_fit_and_later_rows_are_told_apart_alike_however_far_some_lie(model):
    """Squares of differences that were multiplied out would leave no digit of the other rows."""
    for far in (np.arange(len(X)) == len(X) - 1, truth % 2 == 1):
        rows = X + np.where(far, 1e9, 0)[:, None]
        labels = model.fit(rows, y).labels_
        assert (model.predict_novel(rows[y < 0]) == labels[y < 0]).all()
        assert (model.predict(rows[y < 0]) == labels[y < 0]).all()


def test_of_rows_far_from_all_anchors_the_direction_decides():
    anchors = np.eye(3)
    for far in (1e3, 1e20, 1e300):
        assert clustering.nearest_anchor(far * anchors, anchors).tolist() == [0, 1, 2]
    assert clustering.nearest_anchor(X, np.zeros((1, 5))).tolist() == [0] * len(X)


# ------------------------------------------------------------------------------------------------ labels and errors


@pytest.mark.parametrize(
    ("labels", "novel"),
    [
        ([1, 2, 7], [8, 9, 10]), (["b", "a", "c"], ["novel 0", "novel 1", "novel 2"]),
        (["a", "novel 0", "novel 4"], ["novel 5", "novel 6", "novel 7"]), ([0.5, 1.5, 2.0], [3.0, 4.0, 5.0]),
        ([False, True, True], [2, 3, 4]),
    ],
)  # fmt: skip
def test_novel_classes_have_names_of_their_own(labels, novel):
    given = np.array([*labels, None], dtype=object)[np.where(y < 0, 3, y)]
    model = NCDKMeans(3, random_state=0).fit(X, given)
    assert model.novel_classes_.tolist() == novel
    assert set(model.labels_[y < 0]) == set(novel)
    assert (model.labels_[y >= 0] == given[y >= 0].astype(model.labels_.dtype)).all()


@pytest.mark.parametrize(("precision", "last"), [(np.float16, 2048), (np.float32, 2**24)])
def test_numbers_of_low_precision_are_counted_on_from(precision, last):
    names = clustering.novel_names(np.array([1, last], precision), 2)
    assert names.tolist() == [last + 1, last + 2]


@pytest.mark.trains
@pytest.mark.filterwarnings("ignore")
def test_a_training_that_diverged_is_said_to_have():
    for estimator in (PBN, TabularNCD):
        with pytest.raises(ValueError, match="diverged"):
            estimator(n_novel=3, lr=1e30, epochs=3, random_state=0).fit(X, y)
    search = NCDSearchCV(TabularNCD(epochs=3), {"lr": [1e30, 1e-3]}, n_trials=2, random_state=0)
    rates = search.fit(X, np.where(truth < 4, truth, -1)).cv_results_
    assert [score > 0 for score in rates["mean_test_score"]] == [p["lr"] < 1 for p in rates["params"]]


def test_a_net_refuses_rows_whose_squares_it_cannot_hold():
    for model in (PBN(n_novel=3, epochs=1), TabularNCD(3, epochs=1)):
        model.fit(X, y)
        with pytest.raises(ValueError, match="single precision"):
            model.predict(X * 1e200)


def test_rows_that_are_all_zero_are_rows_that_are_all_equal():
    for model in (PBN(1, epochs=1, random_state=0), TabularNCD(1, epochs=1, random_state=0)):
        labels = [
            model.fit(np.full((6, 3), value), [0, 0, 1, -1, -1, -1]).labels_.tolist() for value in (0.0, 1.0)
        ]
        assert labels == [[0, 0, 1, 2, 2, 2]] * 2


def test_one_row_can_be_a_class():
    assert PBN(n_novel=1, epochs=1, random_state=0).fit(X[:4], [0, 0, 1, -1]).labels_.tolist() == [0, 0, 1, 2]


def test_what_cannot_be_sorted_is_refused():
    for labels, said in ((truth, "-1"), (np.full(len(X), -1), "labels no row"), (None, "requires y")):
        with pytest.raises(ValueError, match=said):
            PBN().fit(X, labels)
    with pytest.raises(ValueError, match="n_novel=91"):
        NCDKMeans(91).fit(X, y)
    with pytest.raises(ValueError, match="all rows of X are equal"):
        NCDSpectralClustering(1).fit(np.ones((6, 2)), [0, 0, 0, -1, -1, -1])
    with pytest.raises(ValueError, match="needs 3"):
        NCDSearchCV(NCDKMeans(2), {"power": [1]}).fit(X, np.where(truth < 2, truth, -1))
    with pytest.raises(ValueError, match="leave n_novel to the search"):
        NCDSearchCV(NCDKMeans(2), {"n_novel": [2]}).fit(X, y)
    with pytest.raises(ValueError, match="maps the unlabelled rows"):
        PBN(n_novel=3)._sort_latents(np.ones((len(X), 2)), y, y < 0)
    with pytest.warns(UserWarning, match="standardise"):
        NCDKMeans(3, random_state=0).fit(X * [1, 1, 1e4, 1, 1], y)


def test_scores_do_not_depend_on_names():
    rng = np.random.default_rng(0)
    said = np.where(rng.random(len(truth)) < 0.2, rng.integers(0, 6, len(truth)), truth)
    first = novel_class_scores(truth, said, [0, 1, 2])
    again = novel_class_scores(truth, np.array([0, 1, 2, 4, 5, 3])[said], [0, 1, 2])
    assert first == again
    assert novel_class_scores(truth, np.zeros_like(truth), [0]).acc == 0
    assert novel_class_scores(truth, truth, [0]).balanced_acc == 1
    with pytest.raises(TypeError, match="y_true and known_classes must both"):
        novel_class_scores(truth, said, ["0", "1"])
    with pytest.raises(TypeError, match="y_pred and known_classes must both"):
        novel_class_scores(truth, said.astype(str), [0, 1])
    only_novel = novel_class_scores(truth[truth > 2].astype(str), said[truth > 2] + 3, ["0", "1", "2"])
    assert only_novel.n_known_rows == 0


# ------------------------------------------------------------------------------------------------ the search


@pytest.mark.parametrize("n_classes", range(3, 12))
def test_every_class_is_hidden_and_folds_differ(n_classes):
    for n_hidden in range(2, n_classes):
        for n_folds in range(-(-n_classes // n_hidden), n_classes + 1):
            folds = hidden_classes(n_classes, n_folds, n_hidden, as_generator(0))
            assert {len(set(fold)) for fold in folds} == {n_hidden}
            assert set(np.concatenate(folds)) == set(range(n_classes))
            assert len({tuple(fold) for fold in folds}) == n_folds or n_folds > n_classes


def test_weights_near_one_are_drawn_as_often_as_others():
    draws = np.array([_NearOne().rvs(np.random.RandomState(s)) for s in range(300)])
    assert ((draws >= 0) & (draws <= 0.999)).all()
    assert np.mean(draws > 1 - 10**-1.5) == pytest.approx(0.5, abs=0.1)


def test_the_default_space_fits_the_rows_of_a_fold():
    search = NCDSearchCV(NCDSpectralClustering(2), n_trials=8, random_state=0)
    found = search.fit(X[::6], np.where(truth < 4, truth, -1)[::6]).cv_results_
    assert max(p["n_components"] for p in found["params"]) <= 18


@pytest.mark.trains
@pytest.mark.parametrize("include_novel", [False, True])
def test_a_stacked_search_finds_what_one_after_another_finds(include_novel):
    rows, classes = blobs(30, 7, far=3.0)
    labels = np.where(classes < 5, classes, -1)
    found = [
        NCDSearchCV(
            PBN(n_novel=2, epochs=2, batch_size=64), n_trials=2, stack=stack, include_novel=include_novel,
            random_state=0,
        ).fit(rows, labels)
        for stack in (True, False)
    ]  # fmt: skip
    one, other = (search.cv_results_ for search in found)
    np.testing.assert_allclose(one["mean_test_score"], other["mean_test_score"], atol=0.03)
    assert one["params"] == other["params"]
    assert found[0].best_score_ == one["mean_test_score"].max()
    assert set(found[0].labels_[labels < 0]) == {5, 6}
    assert (found[0].predict(rows) == found[0].best_estimator_.predict(rows)).all()


# ------------------------------------------------------------------------------------------------ TabularNCD


def test_pairs_are_alike_both_ways():
    z = torch.from_numpy(X[:50])
    pairs = alike(z, 0.1)
    assert (pairs == pairs.T).all()
    assert not pairs.diagonal().any()
    assert pairs.sum(1).min() >= 5
    near = neighbors_of_kind(X, y >= 0, 4)
    assert ((y[near] >= 0) == (y >= 0)[:, None]).all()
    assert (near != np.arange(len(X))[:, None]).all()


@pytest.mark.trains
def test_tabular_ncd_finds_clear_groups():
    model = TabularNCD(3, [16], 5, epochs=40, batch_size=64, lr=5e-3, top_k=20.0, random_state=0).fit(X, y)
    assert clustering_accuracy(truth[y < 0], model.labels_[y < 0]) > 0.9
    scores = novel_class_scores(truth, model.predict(X), [0, 1, 2])
    assert scores.balanced_acc > 0.9
    assert set(model.predict_novel(X)) <= {3, 4, 5}
