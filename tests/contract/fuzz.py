"""Throws bad and extreme values at the library, one argument at a time, and judges what comes back.

Every call below is fine as it stands. An input changes one of its arguments, or an option that it leaves at its
default, to a value of the pool of its kind (an array, a number, a choice). Three outcomes are right:

- an answer that is sane: finite where the plain call's is, or said in a warning not to be;
- a ValueError, TypeError, ImportError or MemoryError of the library's own that names an argument;
- for a value that means the same (a read-only copy, another order in memory), the same answer.

All else is a fault: another exception or one from the inside of a library below, a message that names nothing, a number
that is none taken silently, a call that does not return.

A process of its own runs it, because users have no run-time type checks, and prints the faults by kind, as JSON: in the
tests' folder ``python -m contract.fuzz 0 1 Diffusion`` takes every input of the calls with "Diffusion" in their names.
"""

from __future__ import annotations

import copy
import inspect
import json
import re
import signal
import sys
import traceback
import typing
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone
from sklearn.linear_model import LinearRegression, LogisticRegression

import lodim
import lodim.geometry as geometry
import lodim.landscape as landscape
import lodim.linalg as linalg
import lodim.metrics as metrics
import lodim.neighbors as neighbors
import lodim.nets as nets
import lodim.partition as partition
import lodim.representation as representation
import lodim.sketch as sketch
import lodim.training as training
import lodim.trust as trust
from lodim.validation import _is_a

from .examples import (
    ARRAYS,
    ESTIMATORS,
    PATCHED,
    classifier,
    filtering,
    light,
    net,
    slope,
    stacked_covariances,
    table,
    two_nets,
    undecided,
    whole,
)
from .finder import flat

HOME = str(Path(lodim.__file__).parent)
# of the processor for one call, so that a busy machine changes nothing; ten times that of the clock
SECONDS = 10
MANY = 0.4  # of those for a number so large that no answer is due
FINE, REFUSED = "fine", "refused"
UNDEFINED = {  # what their documentation says is NaN or infinite at times
    "r2", "find_crossing", "fit_scaling_law", "difficulty", "embedding_distortion", "mode_coverage", "auc",
    "keep_likely", "volume_quality", "kde_theory", "density_regime", "GeneralizationDifficulty",
    "intrinsic_dimensions", "IntrinsicDimension", "learning_curve_exponent", "probability_metrics", "relative_gap",
    "novel_class_scores", "SurrogateExplainer.report", "ProbabilisticNet.memorization",
    "cluster_geometry", "nc1", "nc1_trace", "cdnv", "collapse_report", "compare", "pretraining_gain",
    "predict_excess_risk", "chamfer_distances",
}  # fmt: skip
# choices that take a number too, by their documentation
NUMBER_TOO = ("n_rounds", "delta", "intrinsic_dim", "bandwidth", "baseline", "perturb", "k", "n_components")
GIGABYTES = {  # sizes of what is made in one call that nothing stops; many of these are just that many
    "MLC.feature_dim", "PHConv2d.kernel_size", "ResidualBlock.out_channels", "SmallUNet.base", "UnitMatcher.n_bins",
    "benchmark_classifier.width", "mutual_information.n_bins",
}  # fmt: skip
PATHS = ("X", "source")  # arguments that may be names of files
PARTS = [
    "row",
    "column",
    "object",
    "batch",
    "data",
    "sample",
    "label",
    "class",
    "classes",
    "point",
    "target",
    "values",
    "features",
    "shape",
    "simplex",
    "face",
    "shard",
    "ranks",
    "dim",
    "file",
    "cell",
    "vector",
    "loss",
    "weight",
    "references",
]  # what messages say instead of the argument


@dataclass(frozen=True)
class Call:
    """A call that is fine: what is called, with what; ``free`` names arguments that may be any text or object."""

    name: str
    function: Callable[..., Any]
    given: dict[str, Any]
    free: tuple[str, ...] = ()
    options: dict[str, Any] = field(
        default_factory=dict
    )  # arguments at their defaults, which are changed too


def call(function, _free=(), _name="", **given):
    """Return the call with its options read off the signature."""
    try:
        known = inspect.signature(function).parameters.values()
    except ValueError:
        known = ()
    options = {
        p.name: p.default
        for p in known
        if p.name not in given and p.default is not p.empty and not callable(p.default)
    }
    return Call(
        _name or getattr(function, "__qualname__", str(function)), function, given, tuple(_free), options
    )


# ---------------------------------------------------------------------------------------------------- what is called

X, y = table(40)
POINTS = torch.from_numpy(X).float()
NETS = two_nets()
SPD = np.diag([1.0, 2.0, 3.0]) + 0.1
IMAGES = np.random.default_rng(0).random((2, 16, 16))
P_HAT = np.linspace(0.05, 0.95, 40)


def task(X=X, y=y, X_val=X, y_val=y, kind="auto", score_by=None):
    return training.Task.from_arrays(X, y, X_val, y_val, kind=kind, score_by=score_by)


def fitted(lr=0.01, random_state=0, epochs=1, batch_size=20, optimizer="adam", schedule="onecycle", weight_decay=0.0,
           grad_clip=None, patience=None, early_stop_score=None, score_on="val", penalty="theta"):  # fmt: skip
    recipe = training.Recipe(
        epochs, batch_size, optimizer, schedule, weight_decay, penalty, grad_clip, patience
    )
    return training.fit(
        classifier(),
        task(),
        recipe,
        lr=lr,
        random_state=random_state,
        early_stop_score=early_stop_score,
        score_on=score_on,
    )


def descended(steps=2, lr=0.01, optimizer="adam", schedule="constant", warmup=0, grad_clip=None):
    x = torch.ones(3, requires_grad=True)
    recipe = training.DescentRecipe(
        steps=steps, lr=lr, optimizer=optimizer, schedule=schedule, warmup=warmup, grad_clip=grad_clip
    )
    return training.descend(lambda *_: x.square().sum(), [x], recipe).losses


OTHER = np.c_[X[:, :2] ** 2, X[:, 2]] + 0.5 * X[::-1]


def crossed(X=X, Y=OTHER):
    return linalg.CrossMoments().update(X, Y).correlation()


def told_apart(samples=X, reference=X + 0.1, classifier=None, n_permutations=0, random_state=0):
    """By a classifier that learns in less time than the network."""
    classifier = LogisticRegression() if classifier is None else classifier
    return metrics.c2st(
        samples, reference, classifier=classifier, n_permutations=n_permutations, random_state=random_state
    )


def in_batches(X=X, Y=OTHER):
    return representation.minibatch_cka([(X, Y), (X, Y)])


def beside(X=X, Y=OTHER):
    return representation.pairwise([X, Y], representation.cka).to_numpy()


def projected(kind="cyclic", D=20, d=4, seed=0, scale="column"):
    return sketch.make_projection(kind, D, d, seed=seed, scale=scale)(torch.ones(4))


def given_to(kind, adjoint):
    P = sketch.make_projection(kind, 20, 4)
    return P.adjoint if adjoint else P.forward


def indexed(E=X, Q=X[:5], k=3, metric="l2", backend="auto", kind="flat"):
    return neighbors.NeighborIndex(metric, backend, kind).fit(E).kneighbors(Q, k)


def graph(X=X, k=3, query=None, backend="auto"):
    return neighbors.NeighborGraph.from_data(X, k, backend, query, random_state=0).dist


def pairs(X=X, Y=X[:7], k=2, block_q=16, block_r=16):
    return neighbors.stream_pairs(X, Y, reducers=[neighbors.TopK(k)], block_q=block_q, block_r=block_r)


def streamed(source=X, k=None, n_queries=4096, block_rows=65536, method="twonn"):
    model = geometry.stream_dimension(
        source, method, k=k, n_queries=n_queries, block_rows=block_rows, random_state=0
    )
    return model.dimension_


def batches(batch=X, max_points=100, method="twonn"):
    model = geometry.StreamingDimension(method, max_points=max_points, random_state=0)
    model.update(batch)
    return model.compute()


def subspace(d=4, projection="cyclic", seed=0, scale="column", penalty="theta", said=None, said_lr=1.0):
    made = landscape.SubspaceModule(
        classifier(),
        d,
        projection=projection,
        seed=seed,
        scale=scale,
        penalty=penalty,
        said=said,
        said_lr=said_lr,
    )
    return made(POINTS)


def difficulty(
    eps=0.01, n=1000.0, m=5.0, radius=1.0, delta=0.1, n_outputs=10.0, n_combinations=1.0, bound=1.0
):
    return geometry.generalization_difficulty(
        eps, n, m, radius, delta, n_outputs, n_combinations, bound
    ).log10_bits


def profiled(X=X, y=None, model=None, budget=1.0, random_state=0, n_jobs=1, kind="auto", feature_names=None,
             classes=None, image_shape=None):  # fmt: skip
    found = lodim.profile(X, y, model, budget=budget, random_state=random_state, n_jobs=n_jobs, kind=kind,
                          feature_names=feature_names, classes=classes, image_shape=image_shape)  # fmt: skip
    return found.data.dimension


def quantized(recipe="w8", mode="fake", random_state=0):
    return landscape.quantize(net().eval(), recipe, mode=mode, random_state=random_state)(torch.ones(2, 8))


def quant_spec(**given):
    spec = landscape.QuantSpec(**given)
    return landscape.quantize(net().eval(), landscape.QuantRecipe(spec))(torch.ones(2, 8))


def options_of(kind):
    def run(**given):
        kind(**given).check()

    run.__annotations__ = typing.get_type_hints(kind)
    return run


def pruned(sparsity=0.5, total_steps=4, targets="all", scope="global"):
    return (
        landscape.MagnitudePruner(net(), sparsity, total_steps=total_steps, targets=targets, scope=scope)
        and 0.0
    )


def sparse(n=2, m=4, recipe="mdgf-exp", total_steps=4, targets="all"):
    return landscape.NMSparsifier(net(), n, m, recipe, total_steps=total_steps, targets=targets) and 0.0


def flora(r: int | list = 2, scale=1.0, dropout=0.0, target_modules="all", form="auto", random_state=0):
    return landscape.inject_flora(
        net(), r, scale, dropout, target_modules, form=form, random_state=random_state
    )(torch.ones(2, 8))


def shared(budget_bytes=(300, 600), methods="subspace", lr=0.001, n_seeds=1, random_state=0):
    return landscape.compare(
        classifier, task(), methods, budget_bytes, recipe=training.Recipe(epochs=1), lr=lr, n_seeds=n_seeds,
        lr_grid=(1.0,), random_state=random_state,
    ).dense  # fmt: skip


OTHERS = X[::-1] + 0.1, 1 - y
SPHERES = representation.HierarchicalKernel((2,))
EYE, ONES, COVARIANCES, LINE = np.eye(3), np.ones(3), stacked_covariances(), np.diag([1.0, 2.0], -1)


def certified(Phi=EYE[:2, :2], w=ONES[:2], covariances=COVARIANCES, eps=None, gamma=0.05, mode="learned",
              form="gradient", sites=None, in_degrees=None):  # fmt: skip
    return trust.certify(Phi, w, covariances=covariances, eps=eps, gamma=gamma, mode=mode, form=form, sites=sites,
                         in_degrees=in_degrees)  # fmt: skip


def certified_rows(X=X, y=y, w=ONES, n_bootstrap=200, random_state=0):
    return trust.certify(None, w, [(X, y), OTHERS], n_bootstrap=n_bootstrap, random_state=random_state)


def compared(X=X, y=y, Phi=EYE, level=0.05):
    return trust.invariance_test([(X, y), OTHERS], Phi, level=level)


def model(B=LINE, noise_var=ONES, mixing=None, sites=(1,), kind="soft", size=None, scale=1.5,
          random_state=0):  # fmt: skip
    drawn = trust.LinearSEM(B, noise_var, mixing).intervene(sites, kind, random_state, size=size, scale=scale)
    return drawn.covariance()


WEIGHT = POINTS[:8, :2].repeat(1, 2)


def codes(W=WEIGHT, n=2, m=4, dim="in"):
    return landscape.nm_mask(W, n, m, dim)


CALLS = (
    call(geometry.intrinsic_dimensions, X=X, methods=("twonn",), y=y, random_state=0),
    call(geometry.intrinsic_dimensions, X=X, methods="twonn", random_state=0),
    call(streamed), call(batches), call(graph), call(indexed), call(pairs), call(profiled, _free=("feature_names",)),
    call(neighbors.estimate_search, n=1000, d=10, k=5, n_queries=100, workers=2, rate=1e10),
    call(neighbors.search_shards, shards=[X[:20], X[20:]], queries=X[:3], k=2, n_jobs=1),
    call(neighbors.split_rows, source=X, n_shards=3),
    call(neighbors.pair_distances, X=X, query_idx=np.array([0, 1]), idx=np.array([[1, 2], [2, 3]])),
    call(neighbors.first_occurrences, X=X), call(neighbors.n_distinct, X=X), call(neighbors.constant_columns, X=X),
    call(neighbors.CountBelow, radii=np.array([1.0, 2.0])), call(neighbors.LogSumExp, bandwidths=np.array([1.0, 2.0])),
    call(neighbors.TopK, k=3),
    call(geometry.class_margin, X=X, y=y, n_pairs=500, k=10, random_state=0),
    call(geometry.density_regime, X=X), call(geometry.kde_theory, n=100, d=5),
    call(geometry.leverage_scores, A=X, random_state=0), call(geometry.lewis_weights, A=X, p=1.0),
    call(geometry.lp_sensitivities, A=X, p=3.0, random_state=0),
    call(geometry.total_sensitivity, A=X, p=3.0, random_state=0),
    call(geometry.embedding_distortion, A=X, idx=[0, 5, 9, 20], weight=np.ones(4), p=1.0, random_state=0),
    call(geometry.sample_size, eps=0.5, d=4, n=1000),
    call(geometry.sensitivity_growth, families=("gaussian",), dims=(2, 3), n=60, n_rows=10, random_state=0),
    call(geometry.structured_matrix, family="gaussian", n=20, d=3, random_state=0),
    call(geometry.adversarial_accuracy, model=classifier(), X=X.astype(np.float32), y=y, eps_list=(0.1, 0.2),
         random_state=0),
    call(geometry.fgsm, model=classifier(), X=POINTS, y=torch.from_numpy(y), eps=0.1),
    call(geometry.pgd, model=classifier(), X=POINTS, y=torch.from_numpy(y), eps=0.1),
    call(trust.bpda, model=classifier(), X=POINTS, y=torch.from_numpy(y), eps=0.1, steps=3),
    call(trust.transfer, substitute=classifier(), X=POINTS, y=torch.from_numpy(y), eps=0.1, steps=3),
    call(trust.cw_l2, model=classifier(), X=POINTS, y=torch.from_numpy(y), bounds=(-9, 9), steps=3, binary_steps=2),
    call(trust.deepfool, model=classifier(), X=POINTS, y=torch.from_numpy(y), max_iter=3),
    call(trust.random_noise, X=POINTS, eps=0.1, random_state=0),
    call(trust.random_search, predict_proba=undecided, X=X, y=y, eps=0.1, n_queries=4, random_state=0),
    call(trust.robust_accuracy, model=classifier(), X=X, y=y, eps=(0.1, 0.2), steps=2, n_queries=3, random_state=0),
    call(trust.robustness_report, classifier=classifier(), defences={"same": classifier()}, X=X, y=y, eps=0.1,
         bounds=None, steps=2, n_restarts=1, n_queries=3, substitute=classifier(), random_state=0),
    call(trust.adversarial_training, model=classifier(), X=X, y=y, eps=0.1, bounds=None, attack_steps=2, epochs=1,
         random_state=0),
    call(trust.benchmark_classifier, kind="D", image_shape=(1, 4, 4), width=2),
    call(trust.LQVAE, latent_dim=4, image_shape=(1, 4, 4), width=2),
    call(trust.LQVAE.fit, _name="LQVAE.fit", self=filtering(), x=light(), steps=2, random_state=0),
    call(trust.code_stability, model=filtering(), X=light()),
    call(difficulty), call(geometry.cartpole_difficulty, n_observations=4),
    call(geometry.rl_difficulty, obs_dim=4, act_dim=2),
    call(geometry.id_profile, model=classifier(), loader=[POINTS], max_points=40, random_state=0),
    call(geometry.representation_id, model=classifier(), loader=[POINTS], layer="0", random_state=0),
    call(geometry.optimize_points, x=whole(8, 2), loss=lambda p: p.square().sum(), steps=2),
    call(geometry.topology_summary, X=X, random_state=0),
    call(geometry.fit_scaling_law, n=np.array([100.0, 200, 400, 800]), loss=np.array([3.0, 2, 1.5, 1])),
    call(certified, sites=(0,), in_degrees=(1,)), call(certified_rows), call(compared), call(model),
    call(trust.split_environments, X=X, y=y, by=y), call(trust.random_sem, n=5, random_state=0),
    call(trust.polynomial_dimension, in_degrees=(2, 1)), call(trust.required_environments, delta=0.1),
    call(trust.required_environments, delta=0.1, mode="learned", dimension=10),
    call(trust.fit_invariant, covariances=stacked_covariances(), random_state=0),
    call(trust.feature_importance, model=slope, X=X, y=y, random_state=0),
    call(trust.compare_rankings, model=slope, X=X, y=y, random_state=0),
    call(trust.comprehensiveness, model=slope, X=X, columns=[0, 1]),
    call(trust.sufficiency, model=slope, X=X, columns=[0, 1]),
    call(trust.mean_reciprocal_rank, scores=[[3.0, 1.0], [1.0, 2.0]]),
    call(trust.SelfAttentionNetwork, n_features=4, n_classes=2),
    *(call(each, features=X, labels=y, _free=("frame",)) for each in (
        representation.nc1, representation.nc1_trace, representation.nc2, representation.cdnv
    )),
    *(call(each, features=X, labels=y, W=whole(2, X.shape[1]), _free=("frame",)) for each in (
        representation.nc3, representation.nc3_angle, representation.nc4
    )),
    call(representation.frame_distance, vectors=whole(3, 4)), call(representation.equinorm, vectors=whole(3, 4)),
    call(representation.equiangularity, vectors=whole(3, 4) + 1),
    call(representation.ufm_minimizer, n_per_class=[30, 20, 10], lam_w=[0.1, 0.2], lam_h=0.001),
    call(representation.predict_geometry, n_per_class=[30, 20, 10], weight_decay=[0.1, 0.2], feature_decay=0.001),
    call(representation.DeepLinearUFM, n_per_class=[5, 4], dims=[3], lam_w=[0.1], lam_h=0.001, random_state=0),
    call(representation.collapse_report, model=classifier(), loader=[(POINTS, torch.from_numpy(y))], n_null=2,
         random_state=0),
    call(representation.CollapseMonitor, _free=("frame",), model=classifier(), layer_names=None, classifier=None,
         loader=[(POINTS, torch.from_numpy(y))]),
    call(partition.centre_and_normalise, X=X),
    call(partition.sample_episodes, labels=y, n_way=2, n_query=4, n_episodes=3, random_state=0),
    call(partition.few_shot_episodes, features=X, labels=y, n_way=2, n_query=4, n_episodes=3, random_state=0),
    call(partition.search_lambda, features=X, labels=y, grid=(0.0, 0.5), n_way=2, n_query=4, n_episodes=3,
         random_state=0),
    call(partition.pca_part_init, X=X, n_clusters=3), call(partition.compactness, X=X, labels=y),
    call(partition.repeatability, estimator=partition.PPP((2, 3)), X=X, n_repeats=2, random_state=0),
    call(partition.partition_curves, model=partition.PPP((2, 3)).fit(X), X=X, n_references=2, random_state=0),
    call(representation.match_units, scores=whole(3, 4)),
    call(representation.mutual_information, X=NETS[0], Y=NETS[1], n_bins=4),
    call(representation.apply_matching, model_b=classifier(), match=np.arange(8)[::-1].copy(), layer="0",
         next_layer="2"),
    call(representation.top_activating, X=NETS[0], Y=NETS[1], match=np.array([1, -1, 0]), n_top=3),
    call(representation.consensus_units, representations=[*NETS, NETS[0] ** 3]),
    call(representation.compare_mappings, X=NETS[0], Y=NETS[1], random_state=0),
    call(representation.principal_angles, X=NETS[0], Y=NETS[1]), call(representation.subspace_dimension, X=X),
    call(representation.stitching_test, model_a=classifier(), model_b=classifier(), layer_a="1", layer_b="1",
         train=[POINTS], test=[(POINTS, torch.from_numpy(y))], random_state=0),
    call(representation.UnitMatcher.fit_models, _name="UnitMatcher.fit_models", self=representation.UnitMatcher(),
         model_a=classifier(), model_b=classifier(), layer_a="1", layer_b="1", loader=[POINTS], random_state=0),
    call(metrics.accuracy, logits=POINTS[:, :2], target=torch.from_numpy(y)),
    call(metrics.auc, logits=POINTS[:, :2], target=torch.from_numpy(y)),
    call(metrics.r2, prediction=POINTS[:, 0], target=POINTS[:, 1]),
    call(metrics.clustering_accuracy, y_true=y, y_pred=1 - y),
    call(metrics.coding_rate, Z=X, eps2=0.5), call(metrics.coding_rate, Z=X, eps2=0.5, membership=np.eye(2)[y]),
    call(metrics.rate_reduction, Z=X, membership=np.eye(2)[y], eps2=0.5),
    call(partition.tcr_loss, first=POINTS, second=POINTS + 0.1), call(partition.mlc_loss, Z=POINTS, C=POINTS / 9),
    call(partition.gaussian_jitter, x=POINTS), call(partition.random_affine, x=torch.from_numpy(IMAGES)[:, None]),
    call(metrics.density_coverage, samples=X, reference=X[::-1] + 0.1, random_state=0),
    call(metrics.precision_recall, samples=X, reference=X[::-1] + 0.1, random_state=0),
    call(metrics.frechet_distance, samples=X, reference=X + 0.1, random_state=0),
    call(metrics.kid, samples=X, reference=X + 0.1, random_state=0),
    call(metrics.mmd_rbf, samples=X, reference=X + 0.1, n_permutations=3, random_state=0),
    call(metrics.sliced_wasserstein, samples=X, reference=X + 0.1, n_projections=5, random_state=0),
    call(told_apart, _name="c2st"),
    call(metrics.memorisation_gap, samples=X, train=X + 0.1, test=X - 0.1, random_state=0),
    call(metrics.mode_coverage, samples=X, modes=X[:3], radius=1.0),
    call(metrics.learning_curve_exponent, n=np.array([10.0, 20, 40, 80]), error=np.array([0.5, 0.4, 0.3, 0.2])),
    call(metrics.holm, p_values=P_HAT),
    call(metrics.probability_metrics, p_hat=P_HAT, y=y), call(metrics.reliability_curve, p_hat=P_HAT, y=y),
    call(metrics.psnr, images=IMAGES, reference=IMAGES + 0.1), call(metrics.ssim, images=IMAGES, reference=IMAGES),
    call(linalg.conjugate_gradient, A=SPD, b=np.ones(3)), call(linalg.gmres, A=SPD, b=np.ones(3)),
    call(linalg.minres, A=SPD, b=np.ones(3)), call(linalg.sor, A=SPD, b=np.ones(3)),
    call(linalg.psd_sqrt, A=SPD), call(linalg.safe_cholesky, A=SPD), call(linalg.randomised_svd, A=X, rank=2),
    call(crossed), call(in_batches), call(beside), *(
        call(getattr(representation, name), X=X, Y=OTHER)
        for name in (
            "cka", "linear_cka", "rbf_cka", "cca", "mean_cca", "svcca", "pwcca", "procrustes_distance",
            "linear_regression_r2", "rsa", "mutual_knn", "soft_matching", "permutation_distance",
        )
    ),
    call(representation.null_calibrate, metric=representation.cka, X=X, Y=OTHER, n_permutations=3, random_state=0),
    call(
        representation.compare,
        _free=("progress",),
        model_a=classifier(),
        model_b=classifier(),
        loader=POINTS,
        n_shuffles=3,
        n_neighbors=3,
        random_state=0,
    ),
    call(representation.collect, _free=("unit_axis",), model=classifier(), layers=["0"], data=POINTS, random_state=0),
    call(linalg.sinkhorn, scores=SPD, eta=1.0), call(linalg.fwht, x=np.ones(8)),
    call(linalg.hutchinson_trace, product=lambda v: 2 * v, n=5, n_probes=10),
    call(projected), *(
        call(given_to(kind, adjoint), _name=f"{kind}.{'adjoint' if adjoint else 'forward'}",
             **{"g" if adjoint else "v": torch.ones(20 if adjoint else 4)})
        for kind in ("cyclic", "fastfood", "srht", "ams") for adjoint in (False, True)
    ),
    call(task, _name="Task.from_arrays"), call(fitted, _name="fit"), call(descended, _name="descend"),
    call(training.ExponentialMovingAverage, parameters=classifier(), half_life=10),
    call(training.schedule_at, schedule="cosine", step=1, total=10),
    call(nets.mlp, widths=[3, 4, 2]), call(nets.fc, n_in=3, n_out=2), call(nets.linear, n_in=3, n_out=2),
    call(nets.lenet), call(nets.resnet, widths=(4, 4), depths=(1, 1)), call(nets.vgg, widths=(4, 4), depths=(1, 1)),
    call(nets.Attention, width=8, heads=2), call(nets.BiasFreeUNet, width=4, depth=2),
    call(nets.BFCNN, width=4, depth=3),
    call(nets.BiasFreeNorm2d, channels=3), call(nets.ResidualBlock, in_channels=3, out_channels=3),
    call(nets.LocallyConnected2d, in_channels=1, out_channels=2, kernel_size=3, size=(6, 6)),
    call(nets.CausalTransformer, n_tokens=5, length=6, width=8, depth=1, heads=2),
    call(nets.SmallUNet, channels=1, base=4, heads=2), call(nets.TimeMLP, dim=2, hidden=8),
    call(nets.TransformerEncoder, width=8, depth=1, heads=2), call(nets.VectorQuantizer, n_codes=4, dim=2),
    call(nets.VisionTransformer, width=8, depth=1, heads=2), call(nets.find_layers, module=net()),
    call(nets.keep_likely, logits=POINTS), call(nets.sample_categorical, logits=POINTS),
    call(nets.tokenize, texts=["a b", "c"]),
    call(partition.estimate_n_novel, X=X, n_novel_range=(2, 4), random_state=0),
    call(partition.novel_class_scores, y_true=y, y_pred=1 - y, known_classes=[0]),
    call(landscape.arithmetic_code_length, symbols=np.array([0, 1, 1, 2])),
    call(landscape.message_length_bits, symbols=np.array([0, 1, 1, 2])), call(landscape.prefix_free_bits, bits=10.0),
    call(landscape.quantize_codebook, vec=whole(9), n_levels=3),
    call(landscape.find_crossing, sizes=[10.0, 20, 40, 80], scores=[2.0, 5, 9, 10], threshold=7.0, n_bootstrap=20,
         random_state=0),
    call(landscape.compression_bound, train_error=0.1, bits=1000.0, n=10_000),
    call(landscape.dimension_bound, train_error=0.1, d=10, n=10_000),
    call(landscape.relative_gap, train_score=0.9, score=0.8),
    call(landscape.shuffle_labels, y=y), call(landscape.shuffle_pixels, X=X),
    call(landscape.toy_sum_problem, D=100, n_groups=10),
    call(landscape.ranks_for_budget, shape=(8, 6), n_params=30), call(landscape.FLoRAWeight, shape=(8, 6), r=2),
    call(landscape.es_train, fitness=lambda v: -float(v @ v), d=4, n_pairs=2, generations=2),
    call(landscape.cem_train, fitness=lambda v: -float(v @ v), d=4, population=4, generations=2, n_fresh=2),
    call(landscape.learn_algebra, n_numbers=2, n_samples=10, max_steps=2, random_state=0),
    call(landscape.tucker_energy, delta=torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(0))),
    call(codes, _name="nm_mask"), call(landscape.clamp_ste, x=POINTS, low=-1.0, high=1.0),
    call(landscape.round_ste, x=POINTS), call(landscape.nearest_kronecker_sum, weight=torch.ones(4, 6), n=2),
    call(landscape.PHMLinear, in_features=8, out_features=6, n=2), call(landscape.PHEmbedding, num_embeddings=9,
         embedding_dim=8, n=2), call(landscape.PHMAttention, embed_dim=8, num_heads=2, n=2),
    call(landscape.PHConv2d, in_channels=8, out_channels=6, kernel_size=3, n=2),
    call(landscape.FLoRALinear, _free=("adapter_name",), base_layer=torch.nn.Linear(8, 6), r=2),
    call(subspace), call(quantized), call(pruned), call(sparse), call(flora), call(shared, _name="compare"),
    call(landscape.to_hypercomplex, model=net(), n=2), call(landscape.suggest_adapter, measured=10.0, model=net()),
    call(partition.simulate_dictionary, n_samples=9, dictionary=whole(2, 4), coef=[[1.0, 0.5]], random_state=0),
    call(partition.trade_off_curve, estimator=partition.SupervisedDictionary(2), X=X, y=y, xi=(0.1, 1.0), n_folds=2),
    call(representation.central_path, X=X, y=y, lam_w=0.2, lam_h=0.1, t=[0.0, 0.5]),
    call(representation.depth_profile, X=X, y=y, lam_w=0.2, lam_h=0.1, beta=5.0, n_layers=2),
    call(representation.estimate_beta, H0=X, H=X[::-1], y=y, lam_w=0.2, lam_h=0.1),
    call(representation.collapsed_minimizer, n_classes=2, n_per_class=3, n_features=4, lam_w=0.2, lam_h=0.1,
         random_state=0),
    call(representation.collapsed_spectrum, n_classes=2, n_per_class=3, n_features=4, lam_w=0.2, lam_h=0.1, beta=5.0),
    call(representation.HierarchicalKernel, filter_sizes=(2, 2), depth=3, image_shape=(4, 8)),
    call(PATCHED.__call__, _name="HierarchicalKernel()", X=whole(9, 4), Y=whole(5, 4, seed=1)),
    call(PATCHED.diag, X=whole(9, 4)), call(PATCHED.fans, n_features=4),
    call(representation.kernel_spectrum, X=whole(9, 4), kernel=PATCHED, n_eigenvalues=3),
    call(representation.circle_eigenvalues, kernel=SPHERES, n_frequencies=3, n_points=20),
    call(representation.predicted_exponent, teacher=SPHERES, student=SPHERES),
    call(representation.sample_sphere_product, n=5, d=6, s1=3, random_state=0),
    call(representation.sample_grf, K=SPD, random_state=0),
    call(representation.teacher_student_curve, teacher=SPHERES, student=SPHERES, sizes=(5, 9), d=4, n_test=7,
         random_state=0),
    call(representation.finite_width_kernel, X=whole(5, 4), kernel=representation.HierarchicalKernel((2,), kind="nngp",
         normalize=False), width=3, random_state=0),
    call(representation.to_ufm_lambdas, lam_w=0.2, lam_h=0.1, n_classes=2, n_per_class=3),
    call(representation.split_weight_decay, model=nets.mlp([3, 4, 2]), last_layer="2", wd_features=0.1,
         wd_classifier=0.1),
    call(representation.greedy_train, model=nets.mlp([3, 4, 2]), X=X, y=y, epochs=1, random_state=0),
    call(representation.pretraining_gain, X_unlabelled=X + 0.5, X=X, y=y, n_labels=[8, 20], n_repeats=5, random_state=0,
         predictor=representation.PretrainedRegressor(representation.FactorPretrainer(1)), baseline=LinearRegression()),
    call(representation.predict_excess_risk, model=representation.FactorModel.random(6, 2, random_state=0), m=20, n=12),
    call(representation.FactorModel.random, _name="FactorModel.random", n_features=6, n_components=2, random_state=0),
    call(representation.MixtureModel.random, _name="MixtureModel.random", n_features=6, n_components=2, n_classes=2,
         random_state=0),
    call(representation.PairModel.random, _name="PairModel.random", n_features=6, n_components=2, random_state=0),
    call(representation.informativeness, pretrainer=representation.FactorPretrainer(1), X=X, random_state=0),
    call(representation.learning_surface, predictor=representation.PretrainedRegressor(
         representation.FactorPretrainer(1)), baseline=representation.supervised_baselines(False)["least squares"],
         X_pool=X, y_pool=y, X_test=X, y_test=y, m_grid=[0, 5], n_grid=[4, 8], n_repeats=2, random_state=0),
    call(trust.calibration_check, p_hat=P_HAT, y=y, n_bins=4, n_bootstrap=100, random_state=0),
    call(trust.empirical_probabilities, p_hat=P_HAT, y=y, n_bins=4),
    call(trust.simulate_outcomes, z=P_HAT, random_state=0),
    call(trust.simulate_memorization, n=9, d=20, steps=5, random_state=0),
    Call("QuantSpec", quant_spec, {}, (), call(landscape.QuantSpec).options),
    Call("SearchOptions", options_of(landscape.SearchOptions), {}, (), call(landscape.SearchOptions).options),
    Call("RunOptions", options_of(landscape.RunOptions), {}, ("cache_dir", "ray"), call(landscape.RunOptions).options),
)  # fmt: skip


def fit_with(example):
    """Return a function of an estimator's parameters and data."""
    learns = "y : ignored" not in (example.model.fit.__doc__ or "")
    data = [part for part in example.data()[: 1 + learns] if part is not None]

    def run(**given):
        data = [given.pop(name) for name in names]
        model = clone(example.model).set_params(**given)
        model.fit(*data)
        return [v for k, v in sorted(vars(model).items()) if k.endswith("_") and not k.startswith("_")]

    given = dict(zip(inspect.signature(example.model.fit).parameters, data, strict=False))
    names = list(given)
    return Call(
        type(example.model).__name__, run, given, ("cache_dir", "ray", "progress"), example.model.get_params(deep=False)
    )  # fmt: skip


def read_back(result, text):
    return type(result).from_json(text)


def calls():
    """Return all calls: those above, estimators on their examples, and what else the contract of arrays names."""
    examples = [e for several in ESTIMATORS.values() for e in several if e.tables or e.data()[0] is None]
    fits = [fit_with(e) for e in examples]
    above = [(one.function, one.given) for one in CALLS]
    above += [(type(e.model).fit, one.given) for e, one in zip(examples, fits, strict=True)]
    arrays = [
        Call(f"{t.__qualname__}()", e.call, dict(e.arrays))
        for t, e in ARRAYS.items()
        if not e.plain
        and not any(t is function and e.arrays.keys() <= given.keys() for function, given in above)
    ]
    return [*CALLS, *fits, *arrays]


# ---------------------------------------------------------------------------------------------------- bad values

NUMBERS = {
    "nan": np.nan, "inf": np.inf, "-inf": -np.inf, "negative": -1, "negative fraction": -0.5, "zero": 0, "one": 1,
    "fraction": 1.9, "many": 10_000, "text": "3", "word": "no such thing", "true": True, "list": [1, 2], "dict": {},
    "complex": 1 + 1j, "object": object(), "array": np.ones(2), "huge": 1e300, "tiny": 1e-300, "whole float": 2.0,
    "numpy": np.float32(0.5), "0-d": np.array(2), "meta": torch.ones((), device="meta"), "none": None,
}  # fmt: skip
NO_NUMBER = {"nan", "text", "word", "true", "list", "dict", "complex", "object", "array", "meta"}
CHOICES = {
    "misspelt": "no such thing", "empty": "", "number": 3, "nan": np.nan, "list": ["a"], "dict": {}, "bytes": b"auto",
    "object": object(), "array": np.ones(2), "true": True,
}  # fmt: skip


def like(values, array):
    """The changed array in the hands the plain one came in."""
    return torch.from_numpy(np.ascontiguousarray(array)) if isinstance(values, torch.Tensor) else array


def arrays(values):
    """Return bad or extreme arrays in the place of an array, by name; those that mean the same are called so."""
    plain = np.asarray(values)
    wide = plain.astype(np.float64) if plain.dtype.kind in "fiu" else plain
    rows = wide.reshape(len(wide), -1)
    spoilt = {
        "empty": plain[:0], "one": plain[:1], "two": plain[:2], "shorter": plain[:-1], "0-d": np.array(1.0),
        "one axis more": plain[..., None], "one axis less": plain.ravel(), "no columns": plain[..., :0],
        "constant": np.ones_like(plain), "zeros": np.zeros_like(plain), "twice": np.concatenate([plain, plain]),
        "negative": -1.0 * wide, "huge": wide * 1e160, "tiny": wide * 1e-300, "int8": plain.astype(np.int8),
        "float16": plain.astype(np.float16), "complex": plain + 1j, "bool": plain.astype(bool),
        "half the rows equal": np.concatenate([plain[: len(plain) // 2]] * 2)[: len(plain)],
    }  # fmt: skip
    for name, bad in (("NaN", np.nan), ("inf", np.inf), ("extreme", 1e300)):
        spoilt[name] = wide.copy()
        if wide.dtype.kind == "f":
            spoilt[name].flat[-1] = bad
    spoilt = {k: like(values, v) for k, v in spoilt.items()}
    mask = np.zeros(plain.shape, dtype=bool)
    mask.flat[-1] = True
    read_only = plain.copy()
    read_only.flags.writeable = False
    tensor = torch.as_tensor(plain.copy())
    spoilt |= {
        "masked": np.ma.masked_array(plain, mask), "meta": tensor.to("meta"), "text": plain.astype(str),
        "objects": np.full(plain.shape, object()), "words": "no such thing", "none": None, "number": 3, "dict": {},
        "object": object(), "ragged": [[1.0], [1.0, 2.0]], "function": len, "sparse": tensor.to_sparse(),
        "dates": np.full(plain.shape, np.datetime64("2020-01-01")), "records": np.zeros(3, dtype=[("a", "f8")]),
        "nested": [[[[1.0]]]], "quantised": "", "missing": pd.array([1, None, 3]), "set": {1.0, 2.0},
        "complex tensor": tensor + 1j, "grad": tensor.double().requires_grad_(),
    }  # fmt: skip
    del spoilt["quantised"]
    if not isinstance(values, torch.Tensor):
        spoilt |= {
            "same: read-only": read_only, "same: Fortran": np.asfortranarray(plain),
            "same: bytes swapped": plain.astype(plain.dtype.newbyteorder()), "same: list": plain.tolist(),
            "same: backwards": plain[::-1].copy()[::-1], "same: longdouble": wide.astype(np.longdouble),
            "frame": pd.DataFrame(rows), "bfloat16": torch.as_tensor(wide.astype(float)).bfloat16(),
        }  # fmt: skip
    return spoilt


def is_array(value):
    return isinstance(value, np.ndarray | torch.Tensor) or (
        isinstance(value, list | tuple) and bool(value) and all(isinstance(v, int | float) for v in value)
    )


def inputs_of(one):
    """Yield (argument, what is wrong with it, its value, whether it may not be taken silently)."""
    hints = typing.get_type_hints(one.function.__init__ if isinstance(one.function, type) else one.function)
    for name, value in {**one.given, **one.options}.items():
        if name in one.free or isinstance(value, bool) or callable(value):
            continue
        if is_array(value):
            for what, bad in arrays(value).items():
                yield name, what, bad, what in ("masked", "complex", "meta", "complex tensor")
        elif isinstance(value, int | float | np.number):
            hint = hints.get(name, "")
            whole = (
                isinstance(value, int | np.integer) and "float" not in str(hint) and "Number" not in str(hint)
            )
            for what, bad in NUMBERS.items():
                if (name, what) == ("n_jobs", "negative"):
                    continue  # as many processes as there are processors: tests/test_workers.py
                if what == "many" and f"{one.name}.{name}" in GIGABYTES:
                    continue
                never = what in NO_NUMBER or (whole and what in ("fraction", "numpy"))
                taken = what != "nan" and hint not in ("", Any) and _is_a(bad, hint)  # by its annotation
                yield name, what, bad, never and not taken and name != "random_state"
        elif isinstance(value, str):
            for what, bad in CHOICES.items():
                # a list of layers, say, of which none need be
                named = what in ("list", "true") and _is_a(bad, hints.get(name, str))
                named |= what == "number" and name in NUMBER_TOO
                named |= (name, what) == ("layer", "empty")  # the model itself
                yield name, what, bad, not named
        elif value is None:
            for what, bad in NUMBERS.items():
                yield name, what, bad, what in ("word", "object", "dict", "nan", "complex")
        elif isinstance(value, list | tuple):
            for what, bad in CHOICES.items():
                named = what == "list" and name in hints and _is_a(bad, hints[name])
                yield name, what, bad, what not in ("empty", "array") and not named


# ---------------------------------------------------------------------------------------------------- judging


class TooLong(KeyboardInterrupt):
    """One call took longer than ``SECONDS``: it is stopped as by Ctrl-C, since a job's other errors are its outcome."""


LATE = []  # what stopped the present call, which may have answered with what was done so far


def _stop(*_):
    LATE.append(TooLong())
    raise LATE[-1]


def _watch(seconds):
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 10 * seconds)


def judge(one, name, what, bad, never, plain):
    """Return the outcome of a call with one argument changed: ``FINE``, ``REFUSED``, or what is wrong and how."""
    given = {**{k: copy.deepcopy(v) for k, v in one.given.items()}, name: bad}
    LATE.clear()
    _watch(MANY if what == "many" else SECONDS)
    try:
        with warnings.catch_warnings(record=True) as said, np.errstate(all="ignore"):
            warnings.simplefilter("always")
            answer = one.function(**given)
            _watch(0)
    except KeyboardInterrupt:
        if not LATE:
            raise
    except MemoryError as error:
        return REFUSED if HOME in _raised_in(error).filename else f"MemoryError: {error}"
    except Exception as error:
        if not LATE:
            return _judge_error(error, one, name)
    finally:
        _watch(0)
    if LATE:
        torch.set_grad_enabled(True)  # it may have been stopped between a no_grad and its block
        return FINE if what == "many" else f"does not return within {SECONDS} s"  # much was asked for
    if isinstance(answer, torch.Tensor) and (answer.is_meta or (never and answer.is_complex())):
        return FINE  # shapes in, shapes out; complex in, complex out
    parts = answer if isinstance(answer, list | tuple) else [getattr(answer, "x", answer)]
    through = "complex" in what and any(np.iscomplexobj(part) for part in parts)  # complex in and out
    if never and not through:
        return FINE if said else f"taken silently: {answer!r}"[:160]
    found = flat(answer)
    shown = what in ("inf", "-inf", "NaN", "extreme", "huge", "missing") and is_array(
        {**one.given, **one.options}.get(name)
    )  # infinity in, infinity out
    bad_ones = found[~np.isfinite(found)]
    echo = isinstance(bad, float) and bool((bad_ones == bad).all())
    told = one.name.removesuffix("()") in UNDEFINED or said or shown or echo or hasattr(answer, "status")
    if not np.isfinite(found).all() and np.isfinite(plain).all() and not told:
        return f"not finite without a warning: {found[~np.isfinite(found)][:3]}"
    if what.startswith("same") and not (
        len(found) == len(plain) and np.allclose(found, plain, rtol=1e-9, atol=1e-12, equal_nan=True)
    ):
        return f"another answer: {found[:3]} for {plain[:3]}"
    return FINE


def _raised_in(error):
    return traceback.extract_tb(error.__traceback__)[-1]


def _judge_error(error, one, name):
    """A refusal is a ``raise`` of the library's own that says which argument, or which part of it, is wrong."""
    frame, text = _raised_in(error), str(error)
    ours = HOME in frame.filename and frame.line.startswith("raise")
    if isinstance(error, OSError) and ours and name in PATHS:
        return REFUSED
    head = f"{type(error).__name__}: {text[:150]!r} at {Path(frame.filename).name}:{frame.lineno}"
    if not isinstance(error, ValueError | TypeError | ImportError | NotImplementedError):
        return head
    if not ours and "sklearn" not in frame.filename:
        return "from below: " + head
    wanted = [*one.given, *one.options, name.replace("_", " "), name.removesuffix("_list"), *PARTS]
    named = any(re.search(rf"(?<!\w){re.escape(w)}s?(?!\w)", text) for w in wanted)
    return REFUSED if named else "unnamed: " + head


def plain_answer(one):
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return flat(one.function(**{k: copy.deepcopy(v) for k, v in one.given.items()}))


def run(first=0, step=1, only=""):
    """Judge every ``step``-th input, from the ``first`` on, of the calls that have ``only`` in their names.

    Returns the counts and the faults.
    """
    for kind in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(kind, _stop)
    drawn = [(one, *rest) for one in calls() if only in one.name for rest in inputs_of(one)][first::step]
    answers, counts, faults = {}, Counter(), {}
    for one, name, what, bad, never in drawn:
        if id(one) not in answers:
            answers[id(one)] = plain_answer(one)
        outcome = judge(one, name, what, bad, never, answers[id(one)])
        counts[outcome if outcome in (FINE, REFUSED) else "fault"] += 1
        if outcome not in (FINE, REFUSED):
            faults[f"{one.name} {name}={what}"] = outcome
    return dict(counts), faults


if __name__ == "__main__":
    counts, faults = run(*map(int, sys.argv[1:3]), *sys.argv[3:4])
    print(json.dumps({"counts": counts, "faults": faults}, indent=1))
