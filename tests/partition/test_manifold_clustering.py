"""What memberships, losses and subspaces must be whatever the data; and curved sheets that come apart."""

import copy
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from sklearn.cluster import KMeans
from sklearn.linear_model import orthogonal_mp
from torch import nn
from torch.nn import functional as F

from lodim.metrics import clustering_accuracy, coding_rate, rate_reduction
from lodim.partition import (
    MLC,
    MLCNet,
    cluster_geometry,
    coding_length,
    gaussian_jitter,
    mlc_loss,
    numerical_rank,
    pairwise_membership,
    random_affine,
    spectral_labels,
    subspace_affinity,
    tcr_loss,
)
from lodim.partition.manifold_clustering import estimator
from lodim.partition.manifold_clustering.subspaces import nearest_subspace, second_moments
from lodim.validation import ConvergenceWarning


def unit(*shape, seed=0):
    return F.normalize(
        torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1
    )


def planes(n=90, k=3, d=8, seed=0):
    """Rows of k planes of two dimensions at right angles, in turn."""
    rng = np.random.default_rng(seed)
    frame = np.linalg.qr(rng.normal(size=(d, d)))[0]
    y = np.arange(n) % k
    parts = frame[:, : 2 * k].reshape(d, k, 2)[:, y]
    return np.einsum("dnr,nr->nd", parts, rng.normal(size=(n, 2))), y


def arcs(n=400, seed=0):
    """Two concentric arcs of 170 degrees, which no straight line parts."""
    rng = np.random.default_rng(seed)
    y, t = np.arange(n) % 2, rng.uniform(0, 3, size=n)
    X = np.where(y, 1.0, 3.0)[:, None] * np.c_[np.cos(t), np.sin(t)]
    return X + 0.05 * rng.normal(size=(n, 2)), y


def small(n_clusters=3, **options):
    return MLC(n_clusters, **{"tcr_epochs": 1, "epochs": 0, "random_state": 0, **options})


# ---------------------------------------------------------------------------------------------- memberships and losses


@pytest.mark.parametrize("eta", [0.05, 0.2, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_memberships_are_symmetric_and_doubly_stochastic(eta, dtype):
    codes = unit(2, 200, 16).to(dtype)
    found = pairwise_membership(codes, eta)
    torch.testing.assert_close(found, found.mT)
    for matrix in (found, found.mean(0)[None]):  # a mean over views is one too
        assert float((matrix.sum(-1) - 1).abs().max()) < 1e-4
    signs = torch.where(unit(200, 1) > 0, 1.0, -1.0)
    torch.testing.assert_close(pairwise_membership((codes * signs).to(dtype), eta), found)
    # and of its form: the logarithm is the scores over eta plus a number a row and one a column
    left = found.double().log() - (codes @ codes.mT).abs() / eta
    parts = left[:, :, :1] + left[:, :1] - left[:, :1, :1]
    torch.testing.assert_close(left, parts, atol=1e-4, rtol=0)


def test_entropy_goes_from_every_row_for_itself_to_all_rows_alike():
    codes = unit(30, 6)
    torch.testing.assert_close(pairwise_membership(codes, 1e-3), torch.eye(30).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(pairwise_membership(codes, 1e6), torch.full((30, 30), 1 / 30).double())


def test_half_precision_and_autocast_do_not_reach_memberships():
    codes = unit(50, 8).float()
    expected = pairwise_membership(codes, 0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(pairwise_membership(codes, 0.1), expected)
        assert mlc_loss(codes, codes).dtype == torch.float32


def test_losses_are_their_parts():
    Z, C = unit(2, 40, 6), unit(2, 40, 6, seed=1)
    gamma = pairwise_membership(C, 0.1).mean(0)
    mean = F.normalize(Z.mean(0), dim=-1)
    expected = 0.15 * gamma.square().sum() - rate_reduction(mean, gamma, 0.3)
    torch.testing.assert_close(mlc_loss(Z, C, eps2=0.3, eta=0.1, gamma=0.3), expected)
    torch.testing.assert_close(mlc_loss(Z[:1], C[:1]), mlc_loss(Z[0], C[0]))
    torch.testing.assert_close(tcr_loss(Z[0], Z[0], eps2=0.3, alignment=7), -coding_rate(Z[0], 0.3) - 7)


def test_loss_gradients():
    Z, C = unit(2, 5, 3).requires_grad_(), unit(2, 5, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda Z, C: mlc_loss(Z, C, eta=0.3), (Z, C), fast_mode=True)
    assert torch.autograd.gradcheck(tcr_loss, (Z[0], Z[1]))


def test_without_the_last_term_every_row_for_itself_is_best_and_with_it_blocks_are():
    """Three groups of equal rows: a sharp entropy sees copies only as one another, so codes of their own are given."""
    rows = torch.from_numpy(np.repeat(np.eye(3), 20, axis=0)) + 0.1 * unit(60, 3)
    rows = F.normalize(rows, dim=-1)
    blocks, alone = torch.from_numpy(np.repeat(np.eye(3), 20, axis=0)), torch.eye(60, dtype=torch.float64)

    def loss(codes, gamma):
        return float(gamma / 2 * pairwise_membership(codes, 0.02).square().sum() - rate_reduction(
            rows, pairwise_membership(codes, 0.02), 0.2))  # fmt: skip

    assert loss(alone, 0.0) < loss(blocks, 0.0)
    assert loss(alone, 0.1) > loss(blocks, 0.1)


# ---------------------------------------------------------------------------------------------- views


def test_views_of_no_strength_are_the_batch_and_draws_come_from_the_generator():
    x = torch.rand(3, 2, 8, 6, generator=torch.Generator().manual_seed(0))
    still = random_affine(x, rotation=0, scale=0, shear=0, shift=0)
    torch.testing.assert_close(still, x)
    one, other = (random_affine(x, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    assert torch.equal(one, random_affine(x, generator=torch.Generator().manual_seed(1)))
    assert not torch.equal(one, other)
    assert x.min() <= one.min() <= one.max() <= x.max()
    rows = torch.cat([torch.randn(500, 1, generator=torch.Generator().manual_seed(0)), torch.ones(500, 1)], 1)
    moved = gaussian_jitter(rows, 0.3, torch.Generator().manual_seed(0)) - rows
    assert float(moved[:, 0].std()) == pytest.approx(0.3, rel=0.1)
    assert not moved[:, 1].any()


def test_a_turn_of_an_oblong_image_keeps_circles():
    at = torch.meshgrid(torch.arange(20) - 9.5, torch.arange(40) - 19.5, indexing="ij")
    disc = (-(at[0] ** 2 + at[1] ** 2) / 9).exp().expand(5, 1, 20, 40)
    turned = random_affine(
        disc, rotation=3, scale=0, shear=0, shift=0, generator=torch.Generator().manual_seed(0)
    )
    torch.testing.assert_close(turned, disc, atol=0.04, rtol=0)


# ---------------------------------------------------------------------------------------------- subspaces


def test_planes_at_right_angles_are_measured_as_they_are():
    X, y = planes()
    assert numerical_rank(X) == 6
    found = cluster_geometry(X, np.array(list("abc"))[y])
    assert found.ranks.tolist() == [2, 2, 2]
    assert found.rank == 6
    assert found.sizes.tolist() == [30, 30, 30]
    assert found.between == pytest.approx(0, abs=1e-12)
    assert found.within == pytest.approx(2 / np.pi, abs=0.05)  # of two directions in a plane
    assert found.rate - found.mean_rate == pytest.approx(
        rate_reduction(F.normalize(torch.from_numpy(X)), np.eye(3)[y], 0.2)
    )
    assert np.isnan(cluster_geometry(X, np.zeros(90)).between)
    assert np.isnan(cluster_geometry(X, np.arange(90)).within)
    assert numerical_rank(np.zeros((3, 2))) == 0
    assert numerical_rank(1e-200 * X) == numerical_rank(1e200 * X) == 6


def test_the_code_is_shortest_at_the_right_number_of_planes():
    X, y = planes(600, 4)
    lengths = {k: coding_length(X, y % k) for k in (1, 2, 4)}
    assert lengths[4] < lengths[2] < lengths[1]
    assert coding_length(X, y + 4 * (np.arange(600) % 8 > 3)) > lengths[4]
    assert coding_length(np.ones((5, 1)), np.zeros(5)) == pytest.approx(3 * np.log(6))


def test_rows_go_to_their_plane_and_a_pursuit_stays_in_it():
    X, y = planes(300)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    moments = second_moments(X[:150], y[:150])
    np.testing.assert_array_equal(nearest_subspace(X, moments, 0.2), y)
    affinity = subspace_affinity(X, 2)
    assert scipy.sparse.issparse(affinity)
    assert not affinity.toarray()[y[:, None] != y].any()


def test_the_pursuit_is_scikit_learns():
    X = unit(40, 6).numpy()
    weights = np.zeros((40, 40))
    for i in range(40):
        others = np.arange(40) != i
        weights[i, others] = np.abs(orthogonal_mp(X[others].T, X[i], n_nonzero_coefs=3))
    np.testing.assert_allclose(subspace_affinity(3 * X, 3).toarray(), weights + weights.T, atol=1e-6)


def test_spectral_labels_at_the_ends():
    blocks = np.kron(np.eye(3), np.ones((4, 4))) + 1e-3
    truth = np.repeat(np.arange(3), 4)
    assert clustering_accuracy(truth, spectral_labels(blocks, 3, random_state=0)) == 1
    assert clustering_accuracy(truth, spectral_labels(torch.from_numpy(blocks), 3, random_state=1)) == 1
    assert clustering_accuracy(truth, spectral_labels(1e308 * blocks, 3, random_state=0)) == 1
    connected = scipy.sparse.csr_array(
        np.kron(np.eye(3), np.ones((4, 4))) + np.eye(12, k=4) + np.eye(12, k=-4) > 0
    )
    np.testing.assert_array_equal(
        spectral_labels(connected, 3, random_state=0),
        spectral_labels(connected.astype(float), 3, random_state=0),
    )
    with pytest.raises(ValueError, match="real numbers"):
        spectral_labels(connected * 1j, 2)
    assert spectral_labels(blocks, 1).tolist() == [0] * 12
    assert sorted(spectral_labels(blocks, 12)) == list(range(12))
    for bad, said in ((blocks[:5], "square"), (-blocks, "nonnegative"), (np.triu(blocks), "symmetric")):
        with pytest.raises(ValueError, match=said):
            spectral_labels(bad, 2)
    with pytest.raises(ValueError, match="more than the 12 rows"):
        spectral_labels(blocks, 13)


def test_pieces_that_nothing_joins_are_groups_and_more_than_asked_for_is_said():
    apart = scipy.sparse.csr_array(np.kron(np.eye(3), np.ones((4, 4))))
    apart.indices, apart.indptr = apart.indices.astype(np.int64), apart.indptr.astype(np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for affinity in (apart, apart.toarray()):
            assert (
                clustering_accuracy(np.repeat(range(3), 4), spectral_labels(affinity, 3, random_state=0)) == 1
            )
    assert apart.indices.dtype == np.int64
    with pytest.warns(
        ConvergenceWarning, match="nothing joins 3 pieces of the affinity, more than the 2 clusters"
    ):
        spectral_labels(apart, 2, random_state=0)


# ---------------------------------------------------------------------------------------------- the clusterer


def test_after_the_start_codes_are_features_exactly():
    X, _ = arcs(60)
    model = small(2).fit(X)
    net = model.module_
    Z, C = net(torch.from_numpy(X).float())
    assert torch.equal(Z, C)
    assert torch.equal(net.features(torch.from_numpy(X).float()), Z)
    assert net.cluster_head.weight is not net.feature_head.weight
    assert len(model.tcr_losses_) == 1
    assert len(model.losses_) == 0


def test_given_features_begin_as_they_are_and_a_net_with_its_heads(monkeypatch):
    monkeypatch.setattr(estimator, "MOST_CLUSTERS", 6)
    X, y = planes()
    model = small(init="given").fit(X)
    Z = model.transform(X)
    unit_X = X / np.linalg.norm(X, axis=1, keepdims=True)
    np.testing.assert_allclose(Z @ Z.T, unit_X @ unit_X.T, atol=1e-5)
    assert clustering_accuracy(y, model.labels_) == 1
    free = small(None, init="given", eta=None).fit(X)
    assert free.n_clusters_ == min(free.coding_lengths_, key=free.coding_lengths_.get) == 3
    assert free.eta_ in estimator.ETAS
    assert free.coding_lengths_[3] == pytest.approx(coding_length(free.transform(X), free.labels_))
    net = MLCNet(nn.Identity(), 8, 4)
    before = copy.deepcopy(net.state_dict())
    trained = MLC(3, net, init="given", epochs=2, random_state=0).fit(X)
    assert trained.moments_.shape == (3, 4, 4)
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())
    assert not torch.equal(trained.module_.cluster_head.weight, before["cluster_head.weight"])


@pytest.mark.trains
def test_two_curved_sheets_come_apart_and_new_rows_find_theirs():
    (X, y), (fresh, fresh_y) = arcs(200), arcs(200, 10)
    model = MLC(2, random_state=0).fit(X)
    assert clustering_accuracy(y, model.labels_) == 1
    assert clustering_accuracy(fresh_y, model.predict(fresh)) == 1
    assert clustering_accuracy(y, KMeans(2, n_init=10, random_state=0).fit_predict(X)) < 0.7
    start = MLC(2, epochs=0, random_state=0).fit(X)

    def saved(model):
        return rate_reduction(model.transform(X), pairwise_membership(model._of(X)[1], model.train_eta), 0.2)

    assert saved(model) > saved(start)


@pytest.mark.trains
def test_a_run_goes_on_from_its_checkpoint_with_the_same_bits(tmp_path):
    X, _ = arcs(60)
    seen = []
    model = small(2, tcr_epochs=3, epochs=2)
    model.fit(X, checkpoint=tmp_path / "run", progress=lambda done, text: seen.append(done))
    assert seen == pytest.approx([1 / 6, 2 / 6, 3 / 6, 3 / 4, 1])
    (tmp_path / "run.mlc").unlink()
    before = model.transform(X)
    for again in (model, small(2, tcr_epochs=3, epochs=2)):  # a fitted one, too
        np.testing.assert_array_equal(again.fit(X, checkpoint=tmp_path / "run").transform(X), before)


def test_images_are_taken_as_images_and_keep_their_shape():
    X = np.random.default_rng(0).random((30, 1, 8, 6))
    model = small().fit(X)
    assert model.transform(torch.from_numpy(X)).shape == (30, 32)
    assert model.n_features_in_ == 48
    bright = small().fit(100 * X + 7)
    np.testing.assert_allclose(bright.transform(100 * X + 7), model.transform(X), atol=1e-4)
    with pytest.raises(ValueError, match=r"rows of shape \(1, 8, 6\)"):
        model.predict(X.reshape(30, 48))
    with pytest.raises(ValueError, match="images of one channel are"):
        small().fit(X[:, 0])
    with pytest.raises(ValueError, match="0 sample"):
        small().fit(X[:0])
    with pytest.raises(ValueError, match="at least 4 by 4"):
        small().fit(X[..., :3])
    with pytest.raises(ValueError, match='augment="affine" needs images'):
        small(augment="affine").fit(X.reshape(30, 48))


def test_units_frames_and_anchors():
    X, _ = planes()
    expected = small().fit(X)
    for unit_of in (1e200, 1e-200, 2.0 ** np.arange(8)):
        np.testing.assert_array_equal(small().fit(unit_of * X).labels_, expected.labels_)
    frame = pd.DataFrame(X, columns=list("abcdefgh"))
    found = small().fit(frame)
    np.testing.assert_array_equal(found.labels_, expected.labels_)
    assert found.feature_names_in_.tolist() == list("abcdefgh")
    few = small(init="given", n_anchors=40).fit(X)
    assert len(few.anchors_) == 40
    np.testing.assert_array_equal(few.labels_, few.predict(X))
    assert set(few.predict(0 * X)) <= {0, 1, 2}
    membership = expected.membership(X)
    np.testing.assert_allclose(membership.sum(0), 1, atol=1e-4)


@pytest.mark.parametrize("init", ["given", "tcr"])
def test_equal_rows_are_never_parted(init):
    """Of a membership of rank two, a third eigenvector is noise."""
    X = np.repeat(planes()[0][:2], 10, axis=0)
    with pytest.warns(ConvergenceWarning, match="only 2 distinct directions"):
        model = small(init=init).fit(X)
    assert model.n_clusters_ == 2
    np.testing.assert_array_equal(model.labels_, model.predict(X))
    assert clustering_accuracy(np.repeat([0, 1], 10), model.labels_) == 1
    free = small(None, init=init).fit(X)
    assert set(free.coding_lengths_) == {1, 2}


def test_views_may_be_made_in_place_and_nets_train_on_from_their_units():
    X = 50 * planes()[0] + 7
    made = [
        small(augment=how).fit(X).transform(X)
        for how in (lambda x: x + torch.rand_like(x), lambda x: x.add_(torch.rand_like(x)))
    ]
    np.testing.assert_array_equal(*made)
    model = small().fit(X)
    again = small(backbone=model.module_, init=None).fit(X)
    np.testing.assert_array_equal(again.transform(X), model.transform(X))


@pytest.fixture
def double_by_default():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_views_may_be_of_another_precision():
    X, _ = planes()
    views = small(augment=lambda x: gaussian_jitter(x).double()).fit(X)
    np.testing.assert_array_equal(views.transform(X), small().fit(X).transform(X))


def test_so_may_nets_and_what_torch_makes_by_default(double_by_default):
    X, _ = planes()
    nets = nn.Linear(8, 4), MLCNet(nn.Linear(8, 4), 4, 8)
    for net in (None, *nets):
        assert np.isfinite(small(backbone=net).fit(X).transform(X)).all()
    assert all(p.dtype == torch.float64 for net in nets for p in net.parameters())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"augment": None}, "augment must not be None"),
        ({"batch_size": 2}, "batch_size=2 must be at least n_clusters=3"),
        ({"n_anchors": 2}, "n_anchors=2 must be at least n_clusters=3"),
        ({"n_clusters": 91}, "n_clusters=91 is more than the rows"),
        ({"eps2": 0}, "eps2 must be positive"),
        ({"eta": -1.0}, "eta must be positive"),
        ({"train_eta": 0}, "train_eta must be positive"),
        ({"lr": 0}, "lr must be positive"),
        ({"init": "tcl"}, "Did you mean 'tcr'"),
        ({"augment": "affin"}, "Did you mean 'affine'"),
        ({"augment": lambda x: x[:1]}, "augment must return a tensor of shape"),
        ({"augment": lambda x: x * np.nan}, "augment must return finite numbers"),
    ],
)
def test_what_cannot_be_done_is_said(options, said):
    with pytest.raises(ValueError, match=said):
        small(**options).fit(planes()[0])


def test_rows_that_cannot_be_told_apart_are_refused():
    X, _ = planes()
    with pytest.raises(ValueError, match="X is constant"):
        small().fit(np.full((9, 2), 3.0))
    with pytest.raises(ValueError, match="1e12 times as far out"):
        small().fit(X).predict(1e14 * X)
    bad = nn.Linear(8, 4)
    nn.init.constant_(bad.weight, np.nan)
    with pytest.raises(ValueError, match="backbone must give finite"):
        small(backbone=bad, init="given").fit(X)
    with pytest.raises(TypeError, match="backbone must be a torch"):
        small(backbone=3).fit(X)
