"""How to build a small instance of every entry point that the contract suite holds to its kind's contract.

A system adds a line for each of its estimators, layers, generators and results; `test_finder.py` fails until it has.
Several examples of one thing stand in one tuple. What does not apply to an example is named with the reason, in its
own line.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from sklearn.base import clone
from torch import nn

import lodim.datasets as datasets
import lodim.discrete as discrete
import lodim.generative as generative
import lodim.geometry as geometry
import lodim.landscape as landscape
import lodim.partition as partition
import lodim.representation as representation
import lodim.shapes as shapes
import lodim.trust as trust
from lodim.generative import diffusion_mbir as mbir
from lodim.geometry import multiparameter_persistence as persistence
from lodim.geometry.dataset_properties.sharpness_report import PairRecord
from lodim.geometry.differentiable_persistence import PointOptimization
from lodim.geometry.difficulty.formula import Task as DifficultyTask
from lodim.geometry.difficulty.margin import ClassMargin
from lodim.geometry.high_dimensional_kde.theory import RegimeMap
from lodim.landscape.comparison.adapters import AdapterOption, AdapterRun
from lodim.landscape.hypercomplex import LearnedAlgebra
from lodim.landscape.nm_sparsity import NMCheck
from lodim.landscape.objective_landscapes.compression_sweep import CompressionPoint
from lodim.linalg import TraceEstimate
from lodim.nets import BiasFreeUNet, CausalTransformer, DilatedConvNet, ResidualMLP, TimeMLP, mlp
from lodim.randomness import build_seeded
from lodim.shapes.epigraf import Patch
from lodim.training import DescentResult
from lodim.validation import check_numbers, plain_array

# ---------------------------------------------------------------------------------------------------- estimators


def table(n=60, d=3):
    """Points of three dimensions with labels that go with the first; balanced, no two rows equal."""
    X = np.random.default_rng(0).normal(size=(n, d))
    return X, (X[:, 0] > np.median(X[:, 0])).astype(int)


def few_labels():
    X, y = table()
    return X, np.where(np.arange(len(y)) < 12, y, -1)


def numbers():
    X, _ = table()
    return X, X @ np.arange(1.0, 4.0) + 0.5


def two_nets():
    """What two nets say of the same rows."""
    X, _ = table()
    return X, np.tanh(X @ np.random.default_rng(1).normal(size=(3, 4)))


def clouds():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(15, 2)) for _ in range(4)], None


def complexes():
    return [persistence.FunctionRips()(torch.from_numpy(cloud)) for cloud in clouds()[0]], None


def intervals():
    return persistence.FiberedDecomposition(3).fit_transform(complexes()[0]), None


@dataclass(frozen=True, eq=False)
class Estimator:
    """An estimator, and what it is fitted to.

    ``tables``: whether X is a table of numbers, so that scikit-learn's own checks and those of arrays apply.
    ``failing``: scikit-learn's checks that it need not pass, each with the reason. ``needs``: optional libraries.
    """

    model: Any
    data: Callable[[], tuple[Any, Any]] = table
    tables: bool = True
    failing: dict[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()


def mixed_table():
    X, y = table()
    return pd.DataFrame(
        {"number": X[:, 0], "word": np.where(y, "yes", "maybe"), "text": X[:, 1].astype(str)}
    ), y


def some_noisy():
    X, y = table()
    return X + np.array([[4.0, 0.0, 0.0]]) * y[:, None], y


def some_labelled():
    """A table of which rows of three classes have labels, and others none."""
    X, _ = table()
    rank = X[:, 0].argsort().argsort()
    return X, np.where(rank < 36, rank // 12, -1)


class Slope:
    """A black box of any table: the probability of the second class rises in the first column."""

    def __call__(self, X):
        first = np.asarray(X.iloc[:, 0] if hasattr(X, "iloc") else X[:, 0], dtype=float)
        return 1 / (1 + np.exp(-first / (np.abs(first).max() or 1)))

    def __repr__(self):
        return "slope"  # without an address: tests are named by it, and workers must agree on their names


slope = Slope()


class Unlabels:
    """Takes the labels of every other row away where all have one, as in scikit-learn's own checks."""

    def fit(self, X, y=None, **options):
        given = None if y is None else plain_array(y, "y")
        plain = given is not None and given.ndim == 1 and given.dtype.kind in "biufUO"
        if plain and not np.any(given == -1):
            y = np.where(np.arange(len(given)) % 2, given.astype(object), -1)
            if isinstance(self, partition.NCDSearchCV):  # which needs three classes
                y = np.where(y == -1, -1, np.arange(len(y)) % 6)
        return super().fit(X, y, **options)


class SomePBN(Unlabels, partition.PBN):
    pass


class SomeTabularNCD(Unlabels, partition.TabularNCD):
    pass


class SomeNCDKMeans(Unlabels, partition.NCDKMeans):
    pass


class SomeNCDSpectralClustering(Unlabels, partition.NCDSpectralClustering):
    pass


class SomeNCDSearchCV(Unlabels, partition.NCDSearchCV):
    pass


SEARCH = SomeNCDSearchCV(partition.NCDKMeans(2, n_init=2), {"power": [1, 2]}, n_trials=2, random_state=0)


def log_odds():
    return whole(60, top=100) / 25 - 2, whole(60, top=80, seed=1) % 2


def half_sure(X):
    """A classifier that is a function."""
    return 1 / (1 + np.exp(-np.asarray(X)[:, 0] / 2))


class Point(nn.Module):
    """A model that is nothing but its numbers."""

    def __init__(self):
        super().__init__()
        self.numbers = nn.Parameter(torch.ones(6))

    def forward(self):
        return self.numbers


def turn(model, train, *, lr, seed):
    """One step of a descent towards zero."""
    with torch.no_grad():
        for p in model.parameters():
            p.sub_(lr * torch.ones_like(p))
    return 1


def length(model, data):
    return float((-model().detach().norm()).exp())


def decoder_model(latent_dim=2, perturb=0.1, objective="vae", **options):
    return generative.PerturbedLikelihoodModel(
        latent_dim, perturb, objective, **{"n_grid": 16, "steps": 1, "random_state": 0, **options}
    )


_too_few = {
    "check_estimators_nan_inf": "it fits 10 rows, and 20 are needed",
    "check_n_features_in_after_fitting": "it fits 15 rows, and 20 are needed",
}
_in_single_precision = {
    "check_methods_subset_invariance": "a network rounds by the size of a batch, and 1e-7 is asked"
}
_persistence = {"data": clouds, "tables": False, "needs": ("gudhi",)}

_one_step: dict[str, Any] = {"epochs": 1, "batch_size": 1000, "lr": 0.03, "random_state": 0}

ESTIMATORS = {
    representation.UnitMatcher: (
        Estimator(representation.UnitMatcher(), two_nets),
        Estimator(representation.UnitMatcher("mutual_information", "semi", n_bins=4), two_nets),
    ),
    representation.SparsePredictor: (
        Estimator(representation.SparsePredictor(n_alphas=4, random_state=0), two_nets),
        Estimator(representation.SparsePredictor([0.1, 0.0], standardize=False, random_state=0), numbers),
    ),
    representation.CoClusterer: (
        Estimator(representation.CoClusterer(2, random_state=0), two_nets),
        Estimator(representation.CoClusterer(2, hierarchical=True, random_state=0), two_nets),
    ),
    geometry.IntrinsicDimension: (
        Estimator(geometry.IntrinsicDimension(random_state=0)),
        Estimator(geometry.IntrinsicDimension("mle", random_state=0)),
        Estimator(geometry.IntrinsicDimension("lpca", random_state=0)),
        Estimator(geometry.IntrinsicDimension("consensus", random_state=0)),
    ),
    geometry.LabelSharpness: (
        Estimator(geometry.LabelSharpness(random_state=0)),
        Estimator(geometry.LabelSharpness(exact=True)),
    ),
    geometry.GeneralizationDifficulty: (
        Estimator(geometry.GeneralizationDifficulty(n_pairs=500, k=10, n_bootstrap=2, random_state=0)),
    ),
    geometry.HighDimKDE: (
        Estimator(geometry.HighDimKDE(n_queries=50, random_state=0)),
        Estimator(geometry.HighDimKDE("nn", whiten="diag", random_state=0)),
    ),
    generative.HeteroscedasticGMM: (
        Estimator(generative.HeteroscedasticGMM(random_state=0), some_noisy),
        Estimator(
            generative.HeteroscedasticGMM(2, two_stage=True, max_iter=2000, random_state=0), some_noisy
        ),
    ),
    geometry.LpRegression: (Estimator(geometry.LpRegression(random_state=0), numbers),),
    geometry.LpSampler: (
        Estimator(geometry.LpSampler(random_state=0)),
        Estimator(geometry.LpSampler(p=3.0, n_rows=10, rule="combined", random_state=0)),
    ),
    persistence.MultiparameterPersistence: (
        Estimator(
            persistence.MultiparameterPersistence(method="fibered", n_lines=3, resolution=4), **_persistence
        ),
        Estimator(
            persistence.MultiparameterPersistence(method="hilbert", grid=4, resolution=4), **_persistence
        ),
    ),
    persistence.MMADecomposition: (
        Estimator(persistence.MMADecomposition(0.1, (0,)), complexes, False, needs=("gudhi", "multipers")),
    ),
    persistence.CandidateRepresentation: (
        Estimator(persistence.CandidateRepresentation(resolution=4), intervals, False, needs=("gudhi",)),
    ),
    generative.PerturbedLikelihoodModel: (
        Estimator(decoder_model(), failing=_too_few),
        Estimator(decoder_model(1, "theory", "grid", learn_sigma=False, sigma=0.3), failing=_too_few),
        Estimator(decoder_model(3, objective="iwae"), failing=_too_few),
    ),
    partition.SLK: (
        Estimator(partition.SLK(random_state=0), few_labels),
        Estimator(partition.SLK(prototype="mode", lam=0.2, random_state=0), few_labels),
        Estimator(partition.SLK(prototype="bo", random_state=0), few_labels),
        Estimator(partition.SLK(prototype="medoid", random_state=0), few_labels),
    ),
    partition.PBN: tuple(
        Estimator(SomePBN(n_novel=2, epochs=1, clusterer=clusterer, random_state=0), some_labelled)
        for clusterer in ("kmeans", "ncd_spectral")
    ),
    partition.TabularNCD: (Estimator(SomeTabularNCD(2, epochs=1, random_state=0), some_labelled),),
    partition.NCDKMeans: (
        Estimator(SomeNCDKMeans(2, random_state=0), some_labelled),
        Estimator(SomeNCDKMeans(2, update="both", random_state=0), some_labelled),
    ),
    partition.NCDSpectralClustering: (
        Estimator(SomeNCDSpectralClustering(2, n_components=2, random_state=0), some_labelled),
    ),
    partition.NCDSearchCV: (
        Estimator(
            partition.NCDSearchCV(partition.PBN(n_novel=2, epochs=1), n_trials=2, random_state=0),
            some_labelled,
            False,
        ),
        Estimator(SEARCH, some_labelled),
    ),
    partition.SupervisedDictionary: (
        Estimator(partition.SupervisedDictionary(tol=0.01, random_state=0)),
        Estimator(
            partition.SupervisedDictionary(
                2, solver="bcd", nonneg=(False, True), l1=0.1, tol=0.01, random_state=0
            )
        ),
        Estimator(
            partition.SupervisedDictionary(
                2, model="feature", decision="exhaustive", alpha=0.01, tol=0.01, random_state=0
            )
        ),
    ),
    partition.PPP: (
        Estimator(partition.PPP((2, 3), max_iter=20)),
        Estimator(partition.PPP(strategy="merge", k0=6)),
    ),
    partition.MLC: (
        Estimator(
            partition.MLC(3, feature_dim=8, tcr_epochs=1, epochs=0, random_state=0),
            failing=_in_single_precision,
        ),
        Estimator(
            partition.MLC(3, eta=None, init=None, n_anchors=20, epochs=0, random_state=0),
            failing=_in_single_precision,
        ),
        Estimator(partition.MLC(3, init="given", epochs=1, random_state=0)),
    ),
    representation.FactorPretrainer: (
        Estimator(representation.FactorPretrainer()),
        Estimator(representation.FactorPretrainer("parallel", random_state=0)),
        Estimator(representation.FactorPretrainer(1, "diagonal")),
    ),
    representation.MixturePretrainer: (
        Estimator(representation.MixturePretrainer(random_state=0)),
        Estimator(representation.MixturePretrainer(2, "diag", random_state=0)),
    ),
    representation.ContrastivePretrainer: (
        Estimator(representation.ContrastivePretrainer(2, (4,), steps=1, random_state=0)),
    ),
    representation.PretrainedRegressor: (Estimator(representation.PretrainedRegressor(), numbers),),
    representation.PretrainedClassifier: (Estimator(representation.PretrainedClassifier()),),
    representation.JointMixtureClassifier: (
        Estimator(representation.JointMixtureClassifier(3, random_state=0)),
    ),
    representation.HierarchicalKernelRegressor: (
        Estimator(representation.HierarchicalKernelRegressor(), numbers),
        Estimator(
            representation.HierarchicalKernelRegressor(
                representation.HierarchicalKernel(depth=1, kind="nngp", normalize=False, block_size=16),
                ridge=0.01,
                n_landmarks=7,
                random_state=0,
            ),
            numbers,
            failing={"check_regressors_train": "seven landmarks say little of its ten columns"},
        ),
    ),
    representation.HierarchicalKernelClassifier: (
        Estimator(representation.HierarchicalKernelClassifier()),
        Estimator(
            representation.HierarchicalKernelClassifier(
                representation.HierarchicalKernel((1,), normalize=False), ridge=0.1
            )
        ),
    ),
    representation.NearCollapseModel: (
        Estimator(representation.NearCollapseModel()),
        Estimator(representation.NearCollapseModel(0.2, 0.1, 1.0, "anderson")),
    ),
    trust.SurrogateExplainer: (
        Estimator(trust.SurrogateExplainer(slope, random_state=0)),
        Estimator(
            trust.SurrogateExplainer(
                slope, 1, "logistic", None, "mean", target="probabilities", random_state=0
            )
        ),
        Estimator(trust.SurrogateExplainer(slope, random_state=0), lambda: (mixed_table()[0], None), False),
    ),
    trust.SelfAttentionClassifier: (
        Estimator(trust.SelfAttentionClassifier(epochs=1, random_state=0), tables=False),
    ),
    trust.ConvEmbeddingClassifier: tuple(
        Estimator(trust.ConvEmbeddingClassifier(kind, "correlation", 1, 1, random_state=0), tables=False)
        for kind in ("mlp", "conv")
    ),  # both pass scikit-learn's checks, which want them trained, with their own tests
    trust.ProbabilisticNet: (Estimator(trust.ProbabilisticNet(**_one_step)),),
    trust.CaPE: (
        Estimator(
            trust.CaPE(n_bins=2, fine_tune_epochs=1, **{**_one_step, "epochs": 0}),
            failing={"check_classifiers_train": "one step towards the means of two bins learns little"},
        ),
    ),
    **{
        each: (Estimator(each(), log_odds, False),)
        for each in (
            trust.TemperatureScaling,
            trust.PlattScaling,
            trust.IsotonicScaling,
            trust.HistogramBinning,
            trust.BetaCalibration,
            trust.DirichletCalibration,
        )
    },
    trust.Calibrated: (Estimator(trust.Calibrated(half_sure, "platt"), tables=False),),
    landscape.LandscapeDimension: (
        Estimator(
            landscape.LandscapeDimension(Point, turn, length, n_seeds=1, lr_grid=(0.1,), search=[1, 2, 4]),
            lambda: (None, None),
            False,
        ),
    ),
}

# not an entry point of a card, but under the same contract; it passes scikit-learn's checks with its own tests
ESTIMATORS[datasets.TableEncoder] = (Estimator(datasets.TableEncoder(), mixed_table, tables=False),)

# ---------------------------------------------------------------------------------------------------- layers


@dataclass(frozen=True)
class Layer:
    """A layer, or a function that changes a model's layers.

    Attributes
    ----------
    make
        Returns the layer; with ``base``, changes the model it is given and returns what replaces it.
    inputs
        Returns a tensor of several samples.
    base
        Returns the model that is changed.
    there_and_back
        Changes a model and undoes it; returns the model.
    starts_as_base
        How far the changed model's output may be from the model's at first, as a share of its size; None: anywhere.
    reseeded
        Whether its state loads over another initialisation; False where a part of it is kept as a seed.
    keyword
        What torch calls the first argument.
    without
        What does not apply, and why.
    """

    make: Callable[..., nn.Module]
    inputs: Callable[[], Any] = lambda: torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    base: Callable[[], nn.Module] | None = None
    there_and_back: Callable[[nn.Module], nn.Module] | None = None
    starts_as_base: float | None = None
    reseeded: bool = True
    keyword: str = "input"
    without: dict[str, str] = field(default_factory=dict)

    def build(self, seed=0, base=None):
        """Return a new one: from scratch, or made of another model."""
        if self.base is None:
            return build_seeded(self.make, seed)
        base = build_seeded(self.base, seed) if base is None else base
        return build_seeded(lambda: self.make(base), seed)


def net():
    return mlp([8, 16, 16, 8])


class Tied(nn.Module):
    """Two layers of one weight, one layer in two places; ``untied`` has them apart."""

    def __init__(self, tied=True):
        super().__init__()
        self.a, self.b, self.c, self.last = (nn.Linear(8, 8) for _ in range(4))
        self.again = self.c if tied else nn.Linear(8, 8)
        if tied:
            self.b.weight = self.a.weight

    def forward(self, input):
        return self.last(self.again(self.c(self.b(self.a(input).relu()).relu()).relu()))


def images(*size):
    return lambda: torch.randn(3, 8, *size, generator=torch.Generator().manual_seed(0))


def tokens():
    return torch.tensor([[0, 3, 7], [1, 1, 5], [2, 0, 4]])


def cloud():
    return torch.randn(9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def flora(model):
    return landscape.inject_flora(model, r=2, target_modules="all")


def without_flora(model):
    return landscape.remove_flora(flora(model), merge=False)


def merged_flora(model):
    return landscape.remove_flora(flora(model), merge=True)


def hypercomplex(model):
    return landscape.to_hypercomplex(model, 2, skip_first=False, skip_last=False).module


def back_from_hypercomplex(model):
    done = landscape.to_hypercomplex(model, 2, skip_first=False, skip_last=False)
    done.undo()
    return done.module


def masked(model):
    landscape.NMSparsifier(model, 2, 4, targets="all", total_steps=4)
    return model


def pruned(model):
    pruner = landscape.MagnitudePruner(model, 0.5, targets="all", total_steps=4)
    for _ in range(4):
        pruner.step()
    return model


def quantized_subspace():
    return landscape.QuantizedSubspace(landscape.SubspaceModule(net(), 12), np.linspace(-1, 1, 5))


class Moved(nn.Module):
    """A weight that moves by a Tucker product, as a parametrization uses it."""

    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(8, 8)
        nn.utils.parametrize.register_parametrization(self.lin, "weight", landscape.FLoRAWeight((8, 8), 2))

    def forward(self, input):
        return self.lin(input)


class Read(nn.Module):
    """The numbers of what a layer made of points."""

    def __init__(self, read, *layers):
        super().__init__()
        self.read, self.layers = read, nn.Sequential(*layers)

    def forward(self, x):
        return self.read(self.layers(x))


class Regularized(nn.Module):
    """The regulariser of a map that leaves one column out."""

    def __init__(self):
        super().__init__()
        self.regulariser = geometry.TopologicalRegularizer()

    def forward(self, x):
        return self.regulariser(x, x[:, :1])


def points_and_weights(measure):
    return torch.cat([measure.points, measure.weights[:, None]], 1)


def filtration(fc):
    return fc.filtration


class BothHeads(nn.Module):
    """Features and codes side by side."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return torch.cat(self.net(x), -1)


class AtOneLevel(nn.Module):
    """A denoiser at one level of the noise, as a layer."""

    def __init__(self, denoiser):
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x):
        return self.denoiser(x, 0.5)


_of_noise = {"keyword": "x", "without": {"autocast": "a denoiser answers in single precision"}}
_parametrized = {"pickle": "torch pickles no module with parametrized weights"}
_of_points = {
    "inputs": cloud, "keyword": "x",
    "without": {
        "empty": "a cloud is one sample",
        "autocast": "half precision is computed in single",
        "compile": "homology is computed outside of torch",
    },
}  # fmt: skip


class OfOneShape(nn.Module):
    """A BSP-Net at the planes of one shape, as a layer of points."""

    def __init__(self):
        super().__init__()
        self.net = shapes.BSPNet(6, 2, encoder=None)
        self.register_buffer("planes", torch.arange(24.0).sin().view(1, 4, 6))

    def forward(self, points):
        S, h2 = self.net(points, self.planes)
        return S[0] + h2[0, :, 0]


class OfOneSequence(nn.Module):
    """A tokenizer of shapes at the tokens of one shape, as a layer of points."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.register_buffer("tokens", torch.arange(16)[None] % 8)
        used = self.tokenizer
        decoder = (
            used.quantizer,
            used.raise_dim,
            used.map_unet,
            used.uncouple,
            used.out_unet,
            used.occupancy,
        )
        model.requires_grad_(False)
        nn.ModuleList(decoder).requires_grad_()

    @property
    def tokenizer(self):
        return getattr(self.model, "tokenizer", self.model)

    def forward(self, points):
        return self.tokenizer.decode(self.tokens, points[None] - 0.5)[0]


_of_tokens = {"keyword": "points", "without": {"compile": "tokens and points are checked by their values"}}


def tokenizer():
    return shapes.ShapeTokenizer(
        8, 4, n_codes=8, downsamples=1, latent_channels=8, unet_width=4, unet_depth=2
    )


def argus():
    return shapes.Argus3D(tokenizer(), shapes.ShapeGPT(8, 16, 8, 1, 2))


def places(d):
    return lambda: torch.rand(5, d, generator=torch.Generator().manual_seed(0))


def field_generator(random_state=None):
    return shapes.TriplaneGenerator(
        3, 4, 8, 4, base_channels=4, hidden=8, n_coarse=4, n_fine=4, random_state=random_state
    )


class Pictures(nn.Module):
    """A generator of fields seen by one camera, as a layer of noise."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.register_buffer("pose", shapes.camera_to_world(torch.zeros(1, 2)))
        if model is not self.seen:
            model.requires_grad_(False)
            self.seen.requires_grad_()

    @property
    def seen(self):
        return getattr(self.model, "generator", self.model)

    def forward(self, z):
        return self.seen(z, self.pose.expand(len(z), 4, 4), None, 4).images


class Scores(nn.Module):
    """A discriminator of whole pictures, as a layer of them."""

    def __init__(self, random_state=None):
        super().__init__()
        self.net = shapes.PatchDiscriminator(
            4, 8, channels=4, max_channels=4, embedding=4, table=4, random_state=random_state
        )

    def forward(self, images):
        return self.net(images, Patch.whole(len(images)))


def field_gan(random_state=None):
    return shapes.EpiGRAF(field_generator(random_state), Scores(random_state).net)


_of_fields = {"keyword": "z", "without": {"compile": "cameras are checked by their values"}}


LAYERS = {
    shapes.TriplaneGenerator: (Layer(lambda: Pictures(field_generator()), places(3), **_of_fields),),
    shapes.EpiGRAF: (Layer(lambda: Pictures(field_gan()), places(3), **_of_fields),),
    shapes.PatchDiscriminator: (Layer(Scores, lambda: light()[:4].expand(-1, 3, -1, -1), keyword="images"),),
    shapes.ShapeTokenizer: (Layer(lambda: OfOneSequence(tokenizer()), places(3), **_of_tokens),),
    shapes.Argus3D: (Layer(lambda: OfOneSequence(argus()), places(3), **_of_tokens),),
    shapes.BSPNet: (Layer(OfOneShape, places(3), keyword="points"),),
    shapes.HashEncoding: (
        Layer(
            lambda: shapes.HashEncoding(3, 3, log2_table=6, n_min=2, n_max=8), places(3), keyword="x",
            without={"autocast": "tables are looked up, not multiplied"},
        ),
        Layer(
            lambda: shapes.HashEncoding(2, 3, log2_table=6, n_min=2, n_max=8, kind="grid"), places(2), keyword="x",
            without={"autocast": "tables are looked up, not multiplied"},
        ),
    ),
    shapes.NeuralField: (
        Layer(
            lambda: shapes.NeuralField(shapes.HashEncoding(2, 3, log2_table=6, n_min=2, n_max=8), 3, 8),
            places(2), keyword="x",
        ),
    ),
    landscape.inject_flora: (
        Layer(flora, base=net, there_and_back=without_flora, starts_as_base=0),
    ),
    landscape.remove_flora: (Layer(merged_flora, base=net, starts_as_base=1e-6),),
    landscape.FLoRALinear: (Layer(lambda: landscape.FLoRALinear(nn.Linear(8, 6), 2)),),
    landscape.FLoRAConv1d: (Layer(lambda: landscape.FLoRAConv1d(nn.Conv1d(8, 6, 3), 2), images(7)),),
    landscape.FLoRAConv2d: (Layer(lambda: landscape.FLoRAConv2d(nn.Conv2d(8, 6, 3), 2), images(6, 5)),),
    landscape.FLoRAConv3d: (Layer(lambda: landscape.FLoRAConv3d(nn.Conv3d(8, 6, 2), 2), images(3, 4, 3)),),
    landscape.FLoRAWeight: (Layer(Moved, without=_parametrized),),
    landscape.to_hypercomplex: (Layer(hypercomplex, base=net, there_and_back=back_from_hypercomplex),),
    landscape.PHMLinear: (Layer(lambda: landscape.PHMLinear(8, 6, 2)),),
    landscape.PHConv1d: (Layer(lambda: landscape.PHConv1d(8, 6, 3, 2), images(7)),),
    landscape.PHConv2d: (Layer(lambda: landscape.PHConv2d(8, 6, 3, 2), images(6, 5)),),
    landscape.PHConv3d: (Layer(lambda: landscape.PHConv3d(8, 6, 2, 2), images(3, 4, 3)),),
    landscape.PHConvTranspose2d: (Layer(lambda: landscape.PHConvTranspose2d(8, 6, 3, 2), images(6, 5)),),
    landscape.PHEmbedding: (
        Layer(
            lambda: landscape.PHEmbedding(9, 8, 2), tokens,
            without={"autocast": "a table is looked up, not multiplied"},
        ),
    ),
    landscape.PHMAttention: (Layer(lambda: landscape.PHMAttention(8, 2, 2), images(8), keyword="query"),),
    landscape.NMSparsifier: (Layer(masked, base=net, starts_as_base=0, without=_parametrized),),
    landscape.MagnitudePruner: (Layer(pruned, base=net, without=_parametrized),),
    landscape.SubspaceModule: (
        Layer(
            lambda model: landscape.SubspaceModule(model, 12), base=net, starts_as_base=0, reseeded=False,
        ),
        Layer(
            lambda model: landscape.SubspaceModule(model, 30, projection="fastfood", said="tensor"),
            base=net, starts_as_base=1e-6, reseeded=False,
        ),
    ),
    landscape.QuantizedSubspace: (Layer(quantized_subspace, reseeded=False),),
    landscape.quantize: (Layer(lambda model: landscape.quantize(model, "w8"), base=net, starts_as_base=0.05),),
    landscape.QuantizedModel: (
        Layer(lambda model: landscape.quantize(model, "w4").to_packed(), base=net, starts_as_base=0.5),
    ),
    geometry.FunctionRips: (Layer(lambda: Read(filtration, geometry.FunctionRips()), **_of_points),),
    geometry.SignedMeasureLayer: (
        Layer(
            lambda: Read(points_and_weights, geometry.FunctionRips(), geometry.SignedMeasureLayer("hilbert", 0)),
            **_of_points,
        ),
    ),
    geometry.TopologicalRegularizer: (Layer(Regularized, **_of_points),),
    generative.Denoiser: (Layer(lambda: AtOneLevel(generative.Denoiser(TimeMLP(8, 16, 1))), **_of_noise),),
    generative.GaussianDenoiser: (
        Layer(lambda: AtOneLevel(generative.GaussianDenoiser(torch.zeros(8), torch.eye(8))), **_of_noise),
    ),
    generative.MixtureDenoiser: (
        Layer(lambda: AtOneLevel(generative.MixtureDenoiser(torch.eye(8), 0.5)), **_of_noise),
    ),
    generative.SubspaceDenoiser: (Layer(lambda: AtOneLevel(generative.SubspaceDenoiser(8, 3)), **_of_noise),),
    trust.SelfAttentionNetwork: (
        Layer(lambda: trust.SelfAttentionNetwork(8, 3), keyword="x"),
        Layer(lambda: trust.SelfAttentionNetwork(6, 3, 1, encoder=nn.Linear(8, 6)), keyword="x"),
    ),
    partition.MLCNet: (
        Layer(
            lambda: BothHeads(partition.MLCNet(net(), 8, 4)), keyword="x",
            without={"autocast": "unit length is taken in single precision"},
        ),
    ),
}  # fmt: skip

# ---------------------------------------------------------------------------------------------------- generators


@dataclass(frozen=True)
class Generator:
    """A generator with its backbone, and data for its loss; ``differentiable``: whether samples carry gradients."""

    make: Callable[[], nn.Module]
    data: Callable[[], Any]
    differentiable: bool = True

    def build(self, seed=0):
        return build_seeded(self.make, seed)


def noisy_decoder():
    return generative.NoisyDecoder(mlp([2, 8, 3]), 2, mlp([3, 8, 4]), perturbation=0.1)


def labelled():
    model = generative.Diffusion(TimeMLP(2, 8, 1, n_classes=3), 2, n_classes=3)
    with torch.no_grad():
        for i, p in enumerate(model.denoiser.parameters()):
            p.copy_(torch.arange(p.numel()).view(p.shape).add(i).sin() / 4)
    return model


def noisy_dots():
    return torch.randn(6, 2, generator=torch.Generator().manual_seed(0))


def retrieving():
    X, _ = table(40, 2)
    model = generative.RetrievalDiffusion(TimeMLP(2, 16, 1, context_dim=2), 2, X)
    model.retrieval.prepare(X)
    return model


def pictures():
    return torch.from_numpy(whole(8, 4, 6))


def writing():
    codebook = generative.PatchCodebook((4, 6), n_codes=5).fit(pictures())
    net = CausalTransformer(6, codebook.length, 8, 1, 2, context_dim=24)
    model = generative.RetrievalTransformer(codebook, pictures(), k=2, net=net)
    model.retrieval.prepare(pictures())
    return model


def shown(make, **options):
    """How often each item is shown; without a step."""
    return build_seeded(make, 0).fit(**options, steps=0).retrieval.counts


def looked_up(**options):
    """Samples after two steps of an untrained network."""
    return build_seeded(retrieving, 0).sample(6, steps=2, top_m=1.0, generator=0, **options)


def database(index=None):
    return generative.Retrieval(whole(12, 3, seed=1) if index is None else index, k=2)


def rows():
    return torch.randn(6, 3, generator=torch.Generator().manual_seed(0))


def filtering(**options):
    encoder = nn.Sequential(nn.Flatten(), mlp([16, 8, 16]))
    decoder = nn.Sequential(mlp([8, 8, 16]), nn.Tanh(), nn.Unflatten(1, (1, 4, 4)))
    return trust.LQVAE(encoder, decoder, 8, image_shape=(1, 4, 4), **options)


def tokens(n, length=3, seed=0):
    """Of two kinds."""
    return torch.randint(2, (n, length), generator=torch.Generator().manual_seed(seed))


def light(n=3, seed=0):
    """Images on [0, 1]."""
    return torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(seed))


GENERATORS: dict[Any, tuple[Generator, ...]] = {
    discrete.MarginalizationModel: (
        Generator(lambda: discrete.MarginalizationModel([2, 4, 3]), lambda: tokens(6), False),
    ),
    shapes.ShapeGPT: (
        Generator(lambda: shapes.ShapeGPT(5, 4, 8, 1, 2, dropout=0.0), lambda: tokens(5, 4), False),
    ),
    discrete.MaskedDiffusion: (
        Generator(lambda: discrete.MaskedDiffusion([2, 4, 3]), lambda: tokens(6), False),
        Generator(
            lambda: discrete.MaskedDiffusion(3, 5, DilatedConvNet(4, 5, width=8), schedule="cosine"),
            lambda: tokens(6, 5),
            False,
        ),
    ),
    trust.LQVAE: (
        Generator(lambda: filtering(n_bits=2), light, False),
        Generator(lambda: filtering(n_bits=None, lambda_gp=0, noise_scale=1.0), light, False),
    ),
    generative.AmbientDiffusion: (
        Generator(lambda: generative.AmbientDiffusion(TimeMLP(2, 16, 1), 2), noisy_dots),
        Generator(
            lambda: generative.AmbientDiffusion(
                TimeMLP(2, 16, 1), 2, consistency=1.0, consistency_children=2, consistency_steps=2
            ),
            noisy_dots,
        ),
    ),
    generative.Diffusion: (
        Generator(lambda: generative.Diffusion(shape=2), lambda: torch.from_numpy(table(6, 2)[0]).float()),
        Generator(
            lambda: generative.Diffusion(shape=(1, 4, 4), schedule="ddpm"), lambda: torch.randn(3, 1, 4, 4)
        ),
    ),
    generative.NoisyDecoder: (Generator(noisy_decoder, lambda: torch.randn(6, 3)),),
    generative.PFGMPP: (Generator(lambda: generative.PFGMPP(TimeMLP(2, 16, 1), 2, 64), noisy_dots, False),),
    generative.RetrievalDiffusion: (Generator(retrieving, noisy_dots, False),),
    generative.RetrievalTransformer: (Generator(writing, pictures, False),),
    generative.SubspaceDiffusion: (Generator(lambda: generative.SubspaceDiffusion(3, 2), rows, False),),
}

# ---------------------------------------------------------------------------------------------------- arrays


@dataclass(frozen=True)
class Arrays:
    """A call with the arrays that a function, a class or a method is documented to take.

    Attributes
    ----------
    call
        Takes the arrays by name and returns numbers; what the function takes in a list or a pair, it is given so.
    arrays
        Small whole numbers where possible, which every dtype holds.
    strict
        Names of arguments that take integers only (or booleans), in no other dtype.
    plain
        Whether only NumPy arrays are taken, no lists or tensors: what its annotations say.
    needs
        Optional libraries.
    """

    call: Callable[..., Any]
    arrays: dict[str, np.ndarray]
    strict: tuple[str, ...] = ()
    plain: bool = False
    needs: tuple[str, ...] = ()


def whole(*shape, top=40, seed=0):
    """Whole numbers below ``top``, as floats; no two rows are equal."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, top, shape).astype(float)
    values.reshape(len(values), -1)[:, 0] = rng.permutation(top)[: len(values)]
    return values


def two_parts():
    X = whole(60, 2, top=60)
    X[30:] += 190
    return X


def streamed(batch):
    model = geometry.StreamingDimension(random_state=0)
    model.update(batch)
    return model.sample


@functools.cache
def fitted_decoder():
    return decoder_model().fit(whole(40, 2))


@functools.cache
def clustered():
    return partition.MLC(3, feature_dim=8, epochs=0, tcr_epochs=1, random_state=0).fit(whole(40, 2))


def doubly_stochastic():
    return np.eye(6)[[1, 0, 3, 2, 5, 4]]


@functools.cache
def densities():
    return geometry.HighDimKDE(9.0, random_state=0).fit(whole(40, 2))


@functools.cache
def explained():
    return trust.SurrogateExplainer(slope, random_state=0).fit(table()[0])


def reread(report):
    return [report.r2, report.accuracy_surrogate]


@functools.cache
def attentive():
    return trust.SelfAttentionClassifier(epochs=1, random_state=0).fit(whole(40, 2), np.arange(40) % 2)


@functools.cache
def embedded():
    return trust.ConvEmbeddingClassifier("mlp", epochs=1, random_state=0).fit(whole(40, 2), np.arange(40) % 2)


def answering(how):
    return lambda X: getattr(probabilities(), how)(X)


_asked = {"X": whole(12, 3), "y": np.arange(12) % 2}


def few_parts():
    return partition.PPP((2, 3), families=("spherical", "full"), max_iter=4)


@functools.cache
def ppp():
    return few_parts().fit(whole(40, 2))


def two_environments(Phi=None, X=None, y=None):
    X, y = whole(24, 2) if X is None else X, whole(24, seed=1) if y is None else y
    return [(X[::2], y[::2]), (X[1::2], y[1::2])], Phi


def stacked_covariances():
    return np.array([[[3, 1, 1], [1, 4, 0], [1, 0, 5]], [[5, 2, 1], [2, 3, 1], [1, 1, 4]]], dtype=float)


@functools.cache
def line():
    return geometry.LpRegression(n_rows=20, random_state=0).fit(whole(40, 2), whole(40, seed=1))


@functools.cache
def dictionary():
    return partition.SupervisedDictionary(2, random_state=0).fit(**_sided)


def drawn(dictionary, coef, aux_coef):
    found = partition.simulate_dictionary(9, dictionary, coef, aux_coef=aux_coef, random_state=0)
    return found.X, found.y


def law():
    return geometry.fit_scaling_law(**_observed)


def measure(degree=0):
    graph = persistence.graph_complex([[0, 1], [1, 2], [0, 2]], [[1.0, 4.0], [2.0, 3.0], [3.0, 1.0]])
    return persistence.hilbert_signed_measure(graph, degree)


def cells(fc):
    """Grades and the Euler measure of a complex."""
    found = persistence.euler_signed_measure(fc)
    return fc.filtration, found.points, found.weights


def persistence_images(*clouds):
    return persistence.PersistenceImage(resolution=3).fit([*clouds])


def some_intervals():
    return persistence.Intervals.from_lists([[[0.0, 1.0]], [[2.0, 0.0]]], [[[3.0, 5.0]], [[4.0, 7.0]]])


def trained(X, y, seed):
    return build_seeded(lambda: mlp([X.shape[1], 4, 2]), 0)


def first_steps(X, y, X_val, y_val):
    task = landscape.LandscapeDimension.for_classifier(
        classifier, X, y, X_val, y_val, n_seeds=1, random_state=0
    ).task
    return [task.X, task.y, task.X_val, task.y_val]


def stability(X):
    model = persistence_images(whole(8, 2))
    return persistence.perturbation_stability(model, [X], (0.5,), random_state=0).to_numpy()


class Still(generative.Diffusion):
    """Looks at its samples, and learns nothing."""

    def fit(self, X, cond=None, **options):
        self._samples(X)
        return self


class Unmoved(generative.AmbientDiffusion):
    """Learns nothing, and draws the same samples always."""

    def fit(self, X, noise_std, **options):
        self._samples(X)
        return self

    def sample(self, n, **options):
        return np.arange(2.0 * n).reshape(n, 2)


def untrained(seed):
    return Unmoved(TimeMLP(2, 8, 1), 2)


def ambient():
    model = generative.AmbientDiffusion(TimeMLP(2, 8, 1), 2, sigma_data=8.0)
    with torch.no_grad():
        for i, p in enumerate(model.denoiser.parameters()):
            p.copy_(torch.arange(p.numel()).view(p.shape).add(i).sin() / 4)
    return model


def rewarded(X_unlab, X_lab, y_lab):
    base = Still(TimeMLP(2, 8, 1, cond_dim=1), 2, cond_dim=1)
    return generative.RewardDirectedDiffusion(base).fit(X_unlab, X_lab, y_lab)


_observed = {
    "n": np.tile([1.0, 2.0, 3.0, 4.0], 2), "loss": np.array([40.0, 31, 20, 18, 30, 29, 25, 12]),
    "d": np.repeat([2.0, 3.0], 4), "k_f": np.array([1.0, 2, 4, 9, 3, 5, 1, 2]),
}  # fmt: skip
_labels, _pair = np.tile([0, 1], 20), np.array([1.0, 4.0])
_pixels, _cloud = {"image": whole(2, 4, 5)}, {"X": whole(8, 2)}
_line, _points = {"X": whole(40, 2), "y": whole(40, seed=1)}, {"X": whole(40, 2)}
_sided = {"X": whole(40, 3), "y": np.tile([0, 1], 20), "aux": whole(40, 2, seed=1)}
_law, _matrix, _gudhi = {"n": np.array([10.0, 40.0])}, {"A": whole(40, 3)}, ("gudhi",)


def watched():
    """A detector that has seen twenty samples, of scores 0 to 19."""
    detector = generative.HallucinationDetector((0, 2))
    for i in range(2):
        x = (i * 2 * torch.arange(20.0).sqrt())[:, None]
        detector(generative.SamplerState(i, 2, 2.0 - i, 1.0 - i, x, x, None))
    return detector


def few_generations(data):
    return generative.recursive_training(
        lambda: generative.Diffusion(TimeMLP(2, 8, 1), 2), data, generations=1, surplus=2, filter="random",
        fit={"steps": 0, "batch_size": 4}, sample={"steps": 3},
    ).samples  # fmt: skip


def binary(n, seed=0):
    """Images of zeros and ones."""
    return whole(n, 1, 4, 6, top=40, seed=seed) % 2


def trained_denoiser(images):
    net = build_seeded(lambda: BiasFreeUNet(1, 2, 1), 0)
    generative.train_denoiser(net, images, steps=2, batch_size=2)
    return net.last.weight.detach().numpy()


_classes = {"X": whole(40, 3), "y": np.arange(40) // 10}


@functools.cache
def projection():
    return SomePBN(n_novel=2, epochs=1, random_state=0).fit(**_classes)


@functools.cache
def joint_net():
    return SomeTabularNCD(2, epochs=1, random_state=0).fit(**_classes)


def halved(y):
    return y / 2


def halved_pair(test):
    pair = generative.compare_pair(
        _Halves(), _Halves(), (binary(2), binary(2)), test, n_samples=1, h=0.5, beta=1.0
    )
    return pair.psnr_test


class _Halves(nn.Module):
    def denoise(self, y):
        return y / 2


def short_curve(images=None, test=None):
    images, test = (binary(4) if each is None else each for each in (images, test))
    return generative.memorization_curve(
        _Halving, images, test, [1, 2], steps=1, batch_size=2, n_samples=2, h=0.5, beta=1.0
    )


class _Halving(_Halves):
    """Halves whatever it learns."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(1))

    def denoise(self, y):
        return y / 2 + 0 * self.scale


def volume_solver():
    prior = generative.GaussianDenoiser(torch.zeros(1, 4, 4), torch.eye(16))
    return generative.DiffusionMBIR(prior, generative.ParallelBeam(4, n_views=2), steps=3)


def volume_pair():
    return whole(12, 1, 4, 4), whole(12, 1, 4, 4, seed=1)


def through_beams(y, truth):
    found = volume_solver().reconstruct(y, truth, generator=0)
    return [found.volume, *found.quality.figures().values()]


def spread(X=None, y=None, at=None):
    """Labels and memberships of rows, or what is predicted of others."""
    X, y = whole(12, 2) if X is None else X, np.arange(12) % 3 if y is None else y
    model = partition.SLK(n_neighbors=3).fit(X, y)
    if at is not None:
        return model.predict(at)
    return np.r_[np.searchsorted(model.classes_, model.labels_), np.ravel(model.prototypes_)]


def shots(features=None, labels=None, base_mean=None, how=partition.few_shot_episodes, **options):
    features, labels = whole(40, 3) if features is None else features, _pairs if labels is None else labels
    found = how(
        features, labels, n_way=2, n_query=3, n_episodes=3, base_mean=base_mean, random_state=0, **options
    )
    return found.per_episode


_pairs = np.arange(40) // 10


def few_shots():
    return partition.few_shot_episodes(whole(40, 3), _pairs, n_way=2, n_query=3, n_episodes=3, random_state=0)


def few_probabilities(X, y, X_val, y_val):
    model = trust.ProbabilisticNet(epochs=1, random_state=0).fit(X, y, X_val, y_val)
    return model.predict_proba(whole(9, 2))


@functools.cache
def probabilities():
    return trust.ProbabilisticNet(epochs=1, random_state=0).fit(whole(30, 2), _outcomes)


def remembered(X, y, p_true):
    return probabilities().memorization(X, y, p_true, n_bins=3)


def tempered(X=None, y=None, at=None, how="predict_proba"):
    X, y = whole(30, 2) / 20 if X is None else X, _outcomes if y is None else y
    model = trust.Calibrated(undecided).fit(X, y)
    return getattr(model, how)(X if at is None else at)


_outcomes = whole(30, seed=3) % 2

_black_white = np.random.default_rng(0).integers(0, 2, (4, 1, 4, 4)).astype(float)


def answered_for(X, y, classes, environments):
    found = trust.report(undecided, X, y, environments, classes=classes, eps=0.5, random_state=0)
    return found.right.value if found.reasons is None else found.reasons.scores


def undecided(X):
    """Probabilities of two classes, whatever the rows are held in."""
    first = check_numbers(X, "X")
    while first.ndim > 1:
        first = first[:, 0]
    p = 1 / (1 + np.exp(np.cos(first)))
    return np.c_[1 - p, p]


def reported(X, y):
    net = classifier()
    return trust.robustness_report(
        net, {"the same": net}, X, y, eps=1.0, bounds=None, steps=2, n_restarts=1, n_queries=3, substitute=net,
        random_state=0,
    )  # fmt: skip


_classed = {"X": whole(12, 3, top=12), "y": np.arange(12) % 2}
PATCHED = representation.HierarchicalKernel((2,), normalize=False)
_patched = {"X": whole(12, 4), "Y": whole(9, 4, seed=1)}
_frames = {"features": whole(12, 3), "labels": np.arange(12) % 3}


def guessing(X, y, X_val, y_val):
    """What a model of three places says after two steps."""
    net = build_seeded(lambda: ResidualMLP(3, 3, width=8, depth=1, n_classes=2), 0)
    model = discrete.MaskedDiffusion(2, 3, net, n_classes=2)
    model.fit(X, y, X_val=X_val, y_val=y_val, steps=2)
    return model.score_samples(tokens(4), np.arange(4) % 2, n_samples=2)


def marginal():
    """A model of any three of three."""
    one = build_seeded(lambda: ResidualMLP(3, 3, 1, 8, 1), 0)
    conditional = discrete.MaskedDiffusion(2, 3, build_seeded(lambda: ResidualMLP(3, 3, 2, 8, 1), 0))
    return discrete.MarginalizationModel(marginal_net=one, conditional=conditional, random_state=0)


def after_two_steps(X):
    model = marginal()
    discrete.fit_mle(model, X, steps=2, batch_size=4)
    return model.log_prob(tokens(4))


def columns():
    return discrete.Columns.of(pd.DataFrame({"a": [True, False], "b": [5, 7]}))


def flat_shape():
    """Two convexes of the plane, side by side, and their planes."""
    net = shapes.BSPNet(8, 2, 2, encoder=None, phase=1, connections="private", random_state=0)
    rows = [[1, 0, 0], [-1, 0, -0.4], [0, 1, -0.4], [0, -1, -0.4]]
    rows += [[1, 0, -0.4], [-1, 0, 0], [0, 1, -0.4], [0, -1, -0.4]]
    return net, torch.tensor(rows).T[None]


def seen_twice(voxels, points, occupancy):
    net = shapes.BSPNet(8, 2, 2, 4, resolution=8, width=2, hidden=(8,), phase=1, random_state=0)
    shapes.fit_autoencoder(
        net, voxels, points, occupancy, stages=[(1, None, 2)], batch_size=2, n_points=4, random_state=0
    )
    return net.decoder[0].weight.detach().numpy()


def corners(polytope):
    return np.zeros((0, 3)) if polytope is None else polytope.vertices


def written(parts):
    with tempfile.TemporaryDirectory() as folder:
        shapes.save_mesh(_tetrahedron, f"{folder}/a.obj", parts)
        return np.frombuffer(Path(folder, "a.obj").read_bytes(), np.uint8).astype(float)


_tetrahedron = (
    np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]),
)
_small = (_tetrahedron[0] / 2, _tetrahedron[1])
_poses = np.stack([np.eye(4) + 2 * np.eye(4)[2][:, None] * np.eye(4)[3]] * 2)
_corner = {"halfspaces": np.array([[1.0, 0, 0, 0], [0, 1, 0, 0]])[[0, 1, 1]], "inside": -np.ones(3)}
_mesh_libraries = ("trimesh", "manifold3d", "skimage")

ARRAYS: dict[Any, Arrays] = {
    # shapes
    shapes.chamfer_distance: Arrays(
        shapes.chamfer_distance, {"a": whole(6, 3), "b": whole(5, 3, seed=1)}
    ),
    shapes.chamfer_distances: Arrays(
        lambda clouds, others: shapes.chamfer_distances([clouds], [others]),
        {"clouds": whole(6, 3), "others": whole(5, 3, seed=1)},
    ),
    shapes.CameraDistribution: Arrays(
        lambda poses: shapes.CameraDistribution("poses", poses=poses)
        .sample(3, torch.Generator().manual_seed(0))
        .numpy(),
        {"poses": _poses},
    ),
    shapes.render_solids: Arrays(
        lambda colours, light: shapes.render_solids(
            datasets.procedural_solids(1, random_state=0), torch.from_numpy(_poses[:1]), 0.7, 8, colours=colours,
            light=light,
        )[0].numpy(),
        {"colours": np.array([[0, 1, 0], [1, 1, 0]]), "light": np.array([1, 2, 1])},
    ),
    shapes.EpiGRAF.fit: Arrays(
        lambda poses: field_gan(0)
        .fit(torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), poses, steps=1, batch_size=2)
        .losses,
        {"poses": _poses},
    ),
    shapes.fit_autoencoder: Arrays(
        seen_twice,
        {"voxels": whole(3, 8, 8) % 2, "points": whole(3, 9, 2) % 2, "occupancy": whole(3, 9, seed=1) % 2},
    ),
    shapes.fit_volume: Arrays(
        lambda poses: shapes.fit_volume(
            np.zeros((2, 4, 4, 3)), poses, 0.6, steps=1, batch_size=4, n_samples=2, random_state=0
        )[1].loss,
        {"poses": _poses},
    ),
    shapes.halfspaces_to_polytope: Arrays(
        lambda halfspaces, inside: corners(shapes.halfspaces_to_polytope(halfspaces, 2.0, inside=inside)),
        _corner,
    ),
    shapes.isosurface: Arrays(
        lambda values: np.asarray(shapes.isosurface(values, 15.0).vertices), {"values": whole(4, 4, 4)},
        needs=_mesh_libraries,
    ),
    shapes.name_convexes: Arrays(
        lambda points, parts: shapes.name_convexes(flat_shape()[0], [flat_shape()[1][0]], [points], [parts]).votes,
        {"points": whole(6, 2) % 2, "parts": whole(6, seed=1).astype(int) % 2}, strict=("parts",),
    ),
    shapes.orient_normals: Arrays(shapes.orient_normals, {"points": whole(40, 3)}),
    shapes.part_iou: Arrays(
        lambda found, truth: np.array([*shapes.part_iou(found, truth).values()]),
        {"found": whole(20).astype(int) % 3, "truth": whole(20, seed=1).astype(int) % 3},
        strict=("found", "truth"),
    ),
    shapes.point_signed_distance: Arrays(
        lambda points, normals: shapes.point_signed_distance(points, normals, whole(5, 3, seed=1)),
        {"points": whole(9, 3), "normals": np.eye(3)[whole(9).astype(int) % 3]},
    ),
    shapes.read_points: Arrays(lambda source: shapes.read_points(source)[0], {"source": whole(6, 3)}),
    shapes.render_views: Arrays(
        lambda poses: shapes.render_views(
            lambda x: (x.abs(), x[:, 0].abs()), poses, 0.6, (3, 4), n_samples=3
        ),
        {"poses": _poses},
    ),
    shapes.save_mesh: Arrays(written, {"parts": np.array([0, 1, 1, 0])}, strict=("parts",), needs=("trimesh",)),
    shapes.unidirectional_hausdorff: Arrays(
        lambda part: np.array(shapes.unidirectional_hausdorff(part, [whole(9, 3, seed=1)])), {"part": whole(6, 3)}
    ),
    shapes.union_meshes: Arrays(
        lambda ids: shapes.union_meshes([_tetrahedron], ids).face_attributes["convex"], {"ids": np.array([3])},
        strict=("ids",), needs=_mesh_libraries,
    ),
    shapes.volume_iou: Arrays(
        lambda shape_a, shape_b: np.array(shapes.volume_iou(shape_a, shape_b)),
        {"shape_a": whole(3, 3, 3) > 9, "shape_b": whole(3, 3, 3) > 15},
    ),
    shapes.winding_number: Arrays(
        lambda points: shapes.winding_number(_tetrahedron, points), {"points": whole(6, 3) + 2},
        needs=("trimesh",),
    ),
    # discrete
    discrete.MaskedDiffusion.fit: Arrays(
        guessing,
        {"X": whole(12, 3) % 2, "y": np.arange(12) % 2, "X_val": whole(6, 3) % 2, "y_val": np.arange(6) % 2},
        strict=("y", "y_val"),
    ),
    discrete.MarginalizationModel.log_prob: Arrays(
        lambda x, observed: marginal().log_prob(x, observed), {"x": whole(6, 3) % 2, "observed": whole(6, 3) > 9}
    ),
    discrete.fit_mle: Arrays(after_two_steps, {"X": whole(12, 3) % 2}),
    discrete.truncated_gumbel_probs: Arrays(
        lambda p: discrete.truncated_gumbel_probs(p, 4), {"p": np.eye(3)[[1, 0]]}, plain=True
    ),
    discrete.effective_temperature: Arrays(
        discrete.effective_temperature, {"p": np.eye(3)[1], "q": np.eye(4)[2]}, plain=True
    ),
    discrete.bits_per_dim: Arrays(
        lambda log_prob: discrete.bits_per_dim(log_prob, 3), {"log_prob": whole(5)}, plain=True
    ),
    discrete.sequence_entropy: Arrays(
        discrete.sequence_entropy, {"samples": whole(6, 4).astype(int) % 3}, strict=("samples",)
    ),
    discrete.generative_perplexity: Arrays(
        lambda samples: (
            discrete.generative_perplexity(
                samples, discrete.NGramScorer(3).fit(np.arange(12).reshape(3, 4) % 3)
            ).perplexity
        ),
        {"samples": whole(6, 4).astype(int) % 3},
        strict=("samples",),
    ),
    discrete.Columns.decode: Arrays(
        lambda tokens: columns().decode(tokens).astype(float),
        {"tokens": whole(6, 2).astype(int) % 2},
        strict=("tokens",),
    ),
    # representation
    **{
        measure: Arrays(measure, {"X": whole(14, 3), "Y": whole(14, 4, seed=1)})
        for measure in (
            representation.cka,
            representation.linear_cka,
            representation.rbf_cka,
            representation.cca,
            representation.mean_cca,
            representation.svcca,
            representation.pwcca,
            representation.procrustes_distance,
            representation.linear_regression_r2,
            representation.rsa,
            representation.mutual_knn,
            representation.soft_matching,
            representation.permutation_distance,
        )
    },
    representation.minibatch_cka: Arrays(
        lambda X, Y: representation.minibatch_cka([(X, Y)]), {"X": whole(14, 3), "Y": whole(14, 4, seed=1)}
    ),
    representation.pairwise: Arrays(
        lambda X, Y: representation.pairwise([X, Y], representation.pwcca).to_numpy(),
        {"X": whole(14, 3), "Y": whole(14, 4, seed=1)},
    ),
    representation.null_calibrate: Arrays(
        lambda X, Y: representation.null_calibrate(
            representation.cka, X, Y, n_permutations=3, random_state=0
        ),
        {"X": whole(14, 3), "Y": whole(14, 4, seed=1)},
    ),
    representation.frame_distance: Arrays(
        representation.frame_distance, {"vectors": whole(3, 4), "frame": np.array([1.0, 2, 3])}
    ),
    representation.nc3: Arrays(
        lambda W, frame: representation.nc3(**_frames, W=W, frame=frame),
        {"W": whole(3, 3), "frame": np.array([1.0, 2, 3])},
    ),
    representation.nc4: Arrays(
        lambda W, b: representation.nc4(**_frames, W=W, b=b), {"W": whole(3, 3), "b": np.array([1.0, 2, 3])}
    ),
    representation.ufm_minimizer: Arrays(
        lambda n_per_class, lam_w: representation.ufm_minimizer(n_per_class, lam_w, 0.001).classifier_norms,
        {"n_per_class": np.array([30, 20, 10]), "lam_w": np.array([1.0, 2])},
    ),
    representation.predict_geometry: Arrays(
        lambda n_per_class, weight_decay: representation.predict_geometry(n_per_class, weight_decay, 1e-4).mean_norms,
        {"n_per_class": np.array([30, 20, 10]), "weight_decay": np.array([1.0, 2])},
    ),
    # trust
    trust.certify: Arrays(
        trust.certify, {"Phi": np.eye(2), "w": np.array([1.0, 2]), "covariances": stacked_covariances()}
    ),
    trust.invariance_test: Arrays(
        lambda Phi: trust.invariance_test(two_environments()[0], Phi).p_values, {"Phi": np.eye(2) + 1}
    ),
    trust.split_environments: Arrays(
        lambda X, y, by: [*trust.split_environments(X, y, by).values()],
        {"X": whole(9, 2), "y": whole(9, seed=1), "by": np.arange(9) % 2},
    ),
    trust.LinearSEM: Arrays(
        lambda B, noise_var, mixing: trust.LinearSEM(B, noise_var, mixing).covariance(),
        {"B": np.tril(whole(3, 3), -1), "noise_var": np.array([1.0, 2, 3]), "mixing": whole(4, 2)},
    ),
    trust.fit_invariant: Arrays(
        lambda covariances: trust.fit_invariant(covariances=covariances).w, {"covariances": stacked_covariances()}
    ),
    trust.report: Arrays(
        answered_for,
        {"X": whole(40, 3), "y": np.arange(40) % 2, "classes": np.arange(2), "environments": np.arange(40) // 20},
        strict=("y", "classes", "environments"),
    ),
    trust.read_black_box: Arrays(
        lambda X, classes: trust.read_black_box(undecided, X, classes=classes).predict_proba(whole(5, 3)),
        {"X": whole(12, 3), "classes": np.arange(2)}, strict=("classes",),
    ),
    trust.feature_importance: Arrays(
        lambda X, y, classes: trust.feature_importance(slope, X, y, classes=classes, random_state=0).scores,
        {**_asked, "classes": np.array([1, 0])}, strict=("y", "classes"),
    ),
    trust.compare_rankings: Arrays(
        lambda X, y: trust.compare_rankings(slope, X, y, random_state=0).comprehensiveness, _asked, strict=("y",)
    ),
    trust.comprehensiveness: Arrays(lambda X: trust.comprehensiveness(slope, X, [0, 2]), {"X": whole(12, 3)}),
    trust.sufficiency: Arrays(lambda X: trust.sufficiency(slope, X, [1, 2]), {"X": whole(12, 3)}),
    trust.mean_reciprocal_rank: Arrays(
        lambda scores: trust.mean_reciprocal_rank([scores, np.arange(5.0)]), {"scores": whole(5)}
    ),
    trust.SurrogateExplainer.fit: Arrays(
        lambda X: trust.SurrogateExplainer(slope, random_state=0).fit(X).predict_proba(whole(40, 2)),
        {"X": whole(40, 2)},
    ),
    trust.SurrogateExplainer.predict: Arrays(lambda X: explained().predict(X), {"X": whole(9, 3)}),
    trust.SurrogateExplainer.predict_proba: Arrays(lambda X: explained().predict_proba(X), {"X": whole(9, 3)}),
    trust.SurrogateExplainer.explain: Arrays(
        lambda x: list(explained().explain(x).contributions.values()), {"x": whole(3)}
    ),
    trust.SurrogateExplainer.what_if: Arrays(
        lambda x: explained().what_if(x, {"x1": 2.0}).black_box, {"x": whole(3)}
    ),
    trust.SurrogateExplainer.report: Arrays(
        lambda X, y: reread(explained().report(X, y)), _asked, strict=("y",)
    ),
    trust.SelfAttentionClassifier.fit: Arrays(
        lambda X, y: trust.SelfAttentionClassifier(epochs=1, random_state=0).fit(X, y).predict_proba(whole(5, 2)),
        {"X": whole(40, 2), "y": np.arange(40) % 2}, strict=("y",),
    ),
    trust.SelfAttentionClassifier.attention: Arrays(lambda X: attentive().attention(X), {"X": whole(5, 2)}),
    trust.ConvEmbeddingClassifier.fit: Arrays(
        lambda X, y: trust.ConvEmbeddingClassifier("mlp", "given", 1, 1, random_state=0).fit(X, y).encode(whole(5, 2)),
        {"X": whole(40, 2), "y": np.arange(40) % 2}, strict=("y",),
    ),
    trust.ConvEmbeddingClassifier.encode: Arrays(lambda X: embedded().encode(X), {"X": whole(5, 2)}),
    trust.ProbabilisticNet.fit: Arrays(
        few_probabilities, {"X": whole(30, 2), "y": _outcomes, "X_val": whole(20, 2), "y_val": whole(20, top=30) % 2}
    ),
    **{
        getattr(trust.ProbabilisticNet, how): Arrays(
            answering(how), {"X": whole(9, 2)}
        )
        for how in ("predict_proba", "decision_function", "predict")
    },
    trust.ProbabilisticNet.memorization: Arrays(
        remembered, {"X": whole(30, 2), "y": _outcomes, "p_true": _outcomes}
    ),
    trust.Calibrated.fit: Arrays(tempered, {"X": whole(30, 2), "y": _outcomes}),
    trust.Calibrated.predict_proba: Arrays(lambda X: tempered(at=X), {"X": whole(9, 2)}),
    trust.Calibrated.predict: Arrays(lambda X: tempered(at=X, how="predict"), {"X": whole(9, 2)}),
    trust.calibration_check: Arrays(
        lambda p_hat, y: trust.calibration_check(p_hat, y, n_bins=2, n_bootstrap=100, random_state=0),
        {"p_hat": whole(30, seed=4) % 2, "y": _outcomes},
    ),
    trust.empirical_probabilities: Arrays(
        lambda p_hat, y: trust.empirical_probabilities(p_hat, y, variant="kde"),
        {"p_hat": whole(30, seed=4) % 2, "y": _outcomes},
    ),
    trust.simulate_outcomes: Arrays(
        lambda z: trust.simulate_outcomes(z, "sigmoid", 0)[0], {"z": whole(30, seed=4) % 2}
    ),
    # partition
    partition.SLK.fit: Arrays(spread, {"X": whole(12, 2), "y": np.arange(12) % 3}, strict=("y",)),
    partition.SLK.predict: Arrays(lambda X: spread(at=X), {"X": whole(9, 2)}),
    partition.centre_and_normalise: Arrays(
        partition.centre_and_normalise, {"X": whole(9, 3), "mean": whole(3, seed=1)}
    ),
    partition.sample_episodes: Arrays(
        lambda labels: partition.sample_episodes(labels, n_way=2, n_query=3, n_episodes=3, random_state=0).rows,
        {"labels": _pairs},
        strict=("labels",),
    ),
    partition.few_shot_episodes: Arrays(
        shots, {"features": whole(40, 3), "labels": _pairs, "base_mean": whole(3, seed=1)}, strict=("labels",)
    ),
    partition.search_lambda: Arrays(
        lambda features, labels: shots(features, labels, how=partition.search_lambda, grid=(0.0, 0.5)),
        {"features": whole(40, 3), "labels": _pairs},
        strict=("labels",),
    ),
    # novel classes
    partition.PBN.fit: Arrays(
        lambda X, y: SomePBN(n_novel=2, epochs=1, random_state=0).fit(X, y).labels_, _classes
    ),
    partition.PBN.transform: Arrays(lambda X: projection().transform(X), {"X": whole(8, 3)}),
    partition.PBN.predict_known: Arrays(lambda X: projection().predict_known(X), {"X": whole(8, 3)}),
    partition.TabularNCD.predict: Arrays(lambda X: joint_net().predict(X), {"X": whole(8, 3)}),
    partition.TabularNCD.predict_novel: Arrays(lambda X: joint_net().predict_novel(X), {"X": whole(8, 3)}),
    partition.NCDSearchCV.fit: Arrays(
        lambda X, y: clone(SEARCH).fit(X, y).labels_,
        _classes,
    ),
    partition.estimate_n_novel: Arrays(
        lambda X: np.array(partition.estimate_n_novel(X, (2, 4), random_state=0).score), {"X": whole(40, 3)}
    ),
    partition.novel_class_scores: Arrays(
        lambda y_true, y_pred, known_classes: [
            partition.novel_class_scores(y_true, y_pred, known_classes).acc
        ],
        {"y_true": np.tile([0, 1, 2, 3], 5), "y_pred": np.tile([0, 4, 3, 3], 5), "known_classes": np.array([0, 1])},
    ),
    # generators
    partition.MLC.fit: Arrays(
        lambda X: partition.MLC(3, init="given", epochs=0, random_state=0).fit(X).labels_, {"X": whole(40, 2)}
    ),
    partition.MLC.predict: Arrays(lambda X: clustered().predict(X), {"X": whole(5, 2)}),
    partition.MLC.transform: Arrays(lambda X: clustered().transform(X), {"X": whole(5, 2)}),
    partition.MLC.membership: Arrays(lambda X: clustered().membership(X), {"X": whole(5, 2)}),
    partition.pairwise_membership: Arrays(
        lambda codes: partition.pairwise_membership(codes, 0.5), {"codes": np.eye(4)[[0, 1, 2, 3, 0, 1]]}
    ),
    partition.spectral_labels: Arrays(
        lambda membership: partition.spectral_labels(membership, 3, random_state=0), {"membership": doubly_stochastic()}
    ),
    partition.cluster_geometry: Arrays(
        lambda Z, labels: partition.cluster_geometry(Z, labels), {"Z": whole(9, 3), "labels": np.arange(9) % 2}
    ),
    partition.coding_length: Arrays(
        lambda Z, labels: partition.coding_length(Z, labels), {"Z": whole(9, 3), "labels": np.arange(9) % 2}
    ),
    partition.numerical_rank: Arrays(lambda Z: partition.numerical_rank(Z), {"Z": whole(9, 3)}),
    partition.subspace_affinity: Arrays(
        lambda X: partition.subspace_affinity(X, 2).toarray(), {"X": whole(9, 3)}
    ),
    generative.PerturbedLikelihoodModel.fit: Arrays(
        lambda X: decoder_model(1, objective="grid", steps=0).fit(X).sample(3), {"X": whole(40, 2)}
    ),
    generative.PatchCodebook.fit: Arrays(
        lambda X: generative.PatchCodebook((4, 6), n_codes=5).fit(X).quantizer.codebook, {"X": whole(8, 4, 6)}
    ),
    generative.RetrievalTransformer.fit: Arrays(
        lambda X, ids, neighbours: np.stack(
            [shown(writing, X=X, ids=ids), shown(writing, X=X, neighbours=neighbours)]
        ),
        {"X": whole(8, 4, 6), "ids": np.arange(8)[::-1].copy(), "neighbours": np.arange(16).reshape(8, 2) % 7},
        strict=("ids", "neighbours"),
    ),
    generative.RetrievalDiffusion: Arrays(
        lambda index: generative.RetrievalDiffusion(TimeMLP(2, 8, 1, context_dim=2), 2, index).retrieval.index.vectors,
        {"index": whole(8, 2)},
    ),
    generative.RetrievalDiffusion.fit: Arrays(
        lambda X, ids, neighbours: np.stack(
            [shown(retrieving, X=X, ids=ids), shown(retrieving, X=X, neighbours=neighbours)]
        ),
        {"X": whole(40, 2), "ids": np.arange(40)[::-1].copy(), "neighbours": np.arange(160).reshape(40, 4) % 37},
        strict=("ids", "neighbours"),
    ),
    generative.RetrievalDiffusion.sample: Arrays(
        lambda index, query, start: np.stack([looked_up(index=index, start=start), looked_up(query=query)]),
        {"index": whole(8, 2), "query": np.arange(6), "start": whole(6, 2, seed=2)},
        strict=("query",),  # other numbers are vectors
    ),
    generative.Retrieval: Arrays(lambda index: database(index).index.vectors, {"index": whole(8, 3)}),
    generative.Retrieval.swap: Arrays(
        lambda index: database().swap(index).index.vectors, {"index": whole(8, 3)}
    ),
    generative.Retrieval.prepare: Arrays(
        lambda X, ids, neighbours: np.hstack(
            [database().prepare(X, ids), database().prepare(X, neighbours=neighbours)]
        ),
        {"X": whole(8, 3), "ids": np.arange(8)[::-1].copy(), "neighbours": np.arange(16).reshape(8, 2) % 7},
        strict=("ids", "neighbours"),
    ),
    generative.Retrieval.context: Arrays(
        lambda query: database().context(query)[0], {"query": np.arange(6)}, strict=("query",)
    ),
    generative.Retrieval.maker: Arrays(
        lambda query: database().maker(6, lambda context: context, query=query)(torch.arange(6))[0],
        {"query": np.arange(6)},
        strict=("query",),
    ),
    generative.Retrieval.calibrate: Arrays(
        lambda X: np.array([database().calibrate(X, 0.5)]), {"X": whole(8, 3)}
    ),
    generative.proposal_curve: Arrays(
        lambda reference: generative.proposal_curve(
            build_seeded(retrieving, 0), reference, (1.0,), n=12, steps=2
        ).precision,
        {"reference": whole(12, 2)},
    ),
    generative.PerturbedLikelihoodModel.score_samples: Arrays(
        lambda X: fitted_decoder().score_samples(X), {"X": whole(5, 2)}
    ),
    generative.PerturbedLikelihoodModel.score: Arrays(
        lambda X: fitted_decoder().score(X), {"X": whole(5, 2)}
    ),
    generative.PerturbedLikelihoodModel.denoise: Arrays(
        lambda X: fitted_decoder().denoise(X), {"X": whole(5, 2)}
    ),
    # denoisers
    generative.train_denoiser: Arrays(trained_denoiser, {"images": binary(5)}),
    generative.psnr_curve: Arrays(lambda images: generative.psnr_curve(halved, images).denoised, {"images": binary(3)}),
    generative.oracle_shrinkage: Arrays(
        lambda images: generative.oracle_shrinkage(images, (0.1, 0.3)).mse, {"images": binary(3)}
    ),
    generative.compare_pair: Arrays(halved_pair, {"test": binary(2)}),
    generative.memorization_curve: Arrays(
        lambda images, test: short_curve(images, test).pairs[1].psnr_train, {"images": binary(4), "test": binary(2)}
    ),
    generative.subspace_overlap: Arrays(
        generative.subspace_overlap, {"A": whole(2, 5), "B": whole(2, 5, seed=1)}, plain=True
    ),
    # the dimension of data, labels
    geometry.FunctionRips.forward: Arrays(
        lambda x: geometry.FunctionRips()(x).filtration, {"x": whole(8, 2)}
    ),
    geometry.IntrinsicDimension.fit: Arrays(
        lambda X: geometry.IntrinsicDimension(random_state=0).fit(X).dimension_, {"X": whole(60, 3, top=200)}
    ),
    geometry.intrinsic_dimensions: Arrays(
        lambda X, y: geometry.intrinsic_dimensions(
            X, ("twonn",), y=y, scales=False, ci=None, random_state=0
        ).dimension,
        {"X": whole(60, 3, top=200), "y": np.tile([0, 1], 30)},
    ),
    geometry.StreamingDimension.update: Arrays(
        lambda batch: streamed(batch), {"batch": whole(60, 3, top=200)}
    ),
    geometry.LabelSharpness.fit: Arrays(
        lambda X, y: geometry.LabelSharpness(exact=True).fit(X, y).k_f_, {"X": whole(40, 2), "y": _labels}
    ),
    geometry.GeneralizationDifficulty.fit: Arrays(
        lambda X, y: geometry.GeneralizationDifficulty(n_pairs=99, k=9, n_bootstrap=2, random_state=0).fit(X, y).delta_,
        {"X": whole(40, 2), "y": _labels},
    ),
    geometry.class_margin: Arrays(
        lambda X, y: geometry.class_margin(X, y, n_pairs=500, k=10, random_state=0).delta,
        {"X": whole(40, 2), "y": _labels},
    ),
    geometry.fit_scaling_law: Arrays(
        lambda n, loss, d, k_f: geometry.fit_scaling_law(n, loss, d, k_f).exponent,
        _observed,
    ),
    geometry.ScalingLaw.predict: Arrays(
        lambda n, d, k_f: law().predict(n, d, k_f), {**_law, "d": np.array([2.0, 3.0]), "k_f": _pair}
    ),
    geometry.ScalingLaw.n_for_loss: Arrays(
        lambda loss, d, k_f: np.log(abs(law().n_for_loss(loss, d, k_f))),
        {"loss": np.array([30.0, 40.0]), "d": np.array([2.0, 3.0]), "k_f": _pair},
    ),
    geometry.adversarial_accuracy: Arrays(
        lambda X, y, eps_list: geometry.adversarial_accuracy(classifier(), X, y, eps_list, random_state=0).accuracy,
        {"X": whole(8, 3), "y": np.tile([0, 1], 4), "eps_list": _pair}, strict=("y",),
    ),
    geometry.sharpness_of_pairs: Arrays(
        lambda train, test: geometry.sharpness_of_pairs(
            (train, _labels), (test, _labels), trained, eps=1.0, n_train=None, n_repeats=1, random_state=0
        )[0].k_f,
        {"train": whole(40, 2), "test": whole(40, 2, seed=1)},
    ),
    # densities
    geometry.HighDimKDE.fit: Arrays(
        lambda X, sample_weight: (
            geometry.HighDimKDE(9.0).fit(X, sample_weight=sample_weight).score_samples(whole(9, 2))
        ),
        {**_points, "sample_weight": whole(40) + 1},
    ),
    geometry.HighDimKDE.score_samples: Arrays(lambda X: densities().score_samples(X), _points),
    geometry.HighDimKDE.score: Arrays(lambda X: densities().score(X), _points),
    geometry.HighDimKDE.diagnose: Arrays(lambda X: densities().diagnose(X).log_density, _points),
    geometry.HighDimKDE.grad_log_density: Arrays(lambda X: densities().grad_log_density(X), _points),
    geometry.density_regime: Arrays(lambda X: geometry.density_regime(X).bandwidth, _points),
    geometry.kde_theory: Arrays(
        lambda spectrum, position: geometry.kde_theory(100, spectrum=spectrum, position=position).h_g,
        {"spectrum": np.array([1.0, 2.0, 3.0]), "position": np.array([2.0, 1.0, 1.0])},
    ),
    geometry.regime_map: Arrays(
        lambda alphas, spectrum: geometry.regime_map(alphas, spectrum).h_g,
        {"alphas": np.array([1.0, 2.0]), "spectrum": np.array([1.0, 2.0, 3.0])},
    ),
    # generative
    generative.DiffusionMBIR.reconstruct: Arrays(
        through_beams, {"y": whole(3, 2, 6), "truth": whole(3, 1, 4, 4)}
    ),
    generative.volume_quality: Arrays(
        lambda volume, truth, y: list(
            generative.volume_quality(
                volume, truth, y=y, operator=generative.ParallelBeam(4, n_views=2)
            ).psnr.values()
        ),
        {"volume": whole(3, 1, 4, 4), "truth": whole(3, 1, 4, 4, seed=1), "y": whole(3, 2, 6)},
    ),
    generative.plot_planes: Arrays(
        lambda volume: generative.plot_planes(volume).images[0].get_array().compressed(), {"volume": whole(3, 1, 4, 4)}
    ),
    generative.AmbientDiffusion.fit: Arrays(
        lambda X, noise_std: ambient().fit(X, noise_std, steps=1).denoiser(torch.ones(2, 2), 1.0).detach(),
        {"X": whole(24, 2), "noise_std": np.tile([0, 1, 2], 8)},
    ),
    generative.AmbientDiffusion.loss: Arrays(
        lambda noise_std: (
            ambient().loss(torch.ones(3, 2), None, noise_std, generator=torch.Generator().manual_seed(0)).detach()
        ),
        {"noise_std": np.array([0, 2, 1])},
    ),
    generative.HeteroscedasticGMM.fit: Arrays(
        lambda X, noise_std: (
            generative.HeteroscedasticGMM(random_state=0, max_iter=5, tol=1.0).fit(X, noise_std=noise_std).means_
        ),
        {"X": whole(40, 2), "noise_std": np.tile([0, 1], 20)},
    ),
    generative.attach_noise: Arrays(
        lambda X, noise_std: np.asarray(generative.attach_noise(X, noise_std)[0]),
        {"X": whole(9, 2), "noise_std": whole(9)},
    ),
    generative.estimate_noise: Arrays(lambda X: generative.estimate_noise(X), {"X": whole(3, 12, 12)}),
    generative.fit_mixture: Arrays(
        lambda X, noise_std, held_out: generative.fit_mixture(
            X, noise_std, held_out, make=untrained, repeats=2, n_samples=9
        )[1],
        {"X": whole(40, 2), "noise_std": np.tile([0, 1], 20), "held_out": whole(9, 2, seed=1)},
    ),
    generative.phase_profile: Arrays(
        lambda Y, sigmas: generative.phase_profile(Y, (16,), sigmas, n=9, random_state=0).tv,
        {"Y": whole(20, 2), "sigmas": np.array([1.0, 4.0, 20.0])},
    ),
    partition.SupervisedDictionary.fit: Arrays(
        lambda X, y, aux: partition.SupervisedDictionary(2, random_state=0).fit(X, y, aux).coef_, _sided
    ),
    partition.SupervisedDictionary.transform: Arrays(lambda X: dictionary().transform(X), {"X": whole(5, 3)}),
    partition.SupervisedDictionary.reconstruct: Arrays(lambda X: dictionary().reconstruct(X), {"X": whole(5, 3)}),
    partition.SupervisedDictionary.predict_proba: Arrays(
        lambda X, aux: dictionary().predict_proba(X, aux), {"X": whole(5, 3), "aux": whole(5, 2)}
    ),
    partition.SupervisedDictionary.predict: Arrays(
        lambda X, aux: dictionary().predict(X, aux), {"X": whole(5, 3), "aux": whole(5, 2)}
    ),
    partition.SupervisedDictionary.score: Arrays(
        lambda X, y, sample_weight, aux: dictionary().score(X, y, sample_weight, aux),
        {**_sided, "sample_weight": whole(40) + 1},
    ),
    partition.simulate_dictionary: Arrays(
        drawn, {"dictionary": whole(3, 4), "coef": whole(1, 3), "aux_coef": whole(1, 2)}
    ),
    partition.trade_off_curve: Arrays(
        lambda X, y, aux: partition.trade_off_curve(
            partition.SupervisedDictionary(2, random_state=0), X, y, aux, xi=(0.1,), n_folds=2
        ).accuracy,
        _sided,
    ),
    representation.NearCollapseModel.fit: Arrays(
        lambda X, y: representation.NearCollapseModel().fit(X, y).features_, _classed
    ),
    representation.NearCollapseModel.linear_response: Arrays(
        lambda dH0: representation.NearCollapseModel().fit(**_classed).linear_response(dH0), {"dH0": whole(12, 3)}
    ),
    representation.central_path: Arrays(
        lambda X, y, t: representation.central_path(X, y, 0.2, 0.1, t).nc1_trace, {**_classed, "t": np.arange(3.0)}
    ),
    representation.depth_profile: Arrays(
        lambda X, y: representation.depth_profile(X, y, 0.2, 0.1, 5.0, 2).nc1_trace, _classed
    ),
    representation.estimate_beta: Arrays(
        lambda H0, H, y: representation.estimate_beta(H0, H, y, 0.2).beta,
        {"H0": _classed["X"], "H": whole(12, 3, seed=1, top=12), "y": _classed["y"]},
    ),
    representation.HierarchicalKernel.__call__: Arrays(lambda X, Y: PATCHED(X, Y), _patched),
    representation.HierarchicalKernel.diag: Arrays(lambda X: PATCHED.diag(X), {"X": whole(12, 4)}),
    representation.HierarchicalKernel.patches: Arrays(
        lambda X: np.concatenate([part.ravel() for part in PATCHED.patches(X)]), {"X": whole(12, 4)}
    ),
    representation.HierarchicalKernelRegressor.fit: Arrays(
        lambda X, y: representation.HierarchicalKernelRegressor(PATCHED).fit(X, y).dual_coef_,
        {"X": whole(12, 4), "y": np.stack([whole(12), whole(12, seed=1)], axis=1)},
    ),
    representation.HierarchicalKernelRegressor.predict: Arrays(
        lambda X: representation.HierarchicalKernelRegressor().fit(whole(12, 4), whole(12)).predict(X),
        {"X": whole(9, 4, seed=1)},
    ),
    representation.HierarchicalKernelClassifier.fit: Arrays(
        lambda X, y: representation.HierarchicalKernelClassifier().fit(X, y).dual_coef_, _classed
    ),
    representation.HierarchicalKernelClassifier.predict: Arrays(
        lambda X: representation.HierarchicalKernelClassifier().fit(**_classed).predict(X),
        {"X": whole(9, 3, seed=1)},
    ),
    representation.HierarchicalKernelClassifier.decision_function: Arrays(
        lambda X: representation.HierarchicalKernelClassifier().fit(**_classed).decision_function(X),
        {"X": whole(9, 3, seed=1)},
    ),
    representation.kernel_spectrum: Arrays(
        lambda X: representation.kernel_spectrum(X, PATCHED), {"X": whole(12, 4)}
    ),
    representation.sample_grf: Arrays(
        lambda K: representation.sample_grf(K, 2, 0), {"K": np.diag([2.0, 3.0, 4.0]) + 1}
    ),
    representation.finite_width_kernel: Arrays(
        lambda X: representation.finite_width_kernel(
            X, representation.HierarchicalKernel((2,), kind="nngp", normalize=False), 3, random_state=0
        ),
        {"X": whole(5, 4)},
    ),
    representation.greedy_train: Arrays(
        lambda X, y: representation.greedy_train(
            build_seeded(lambda: mlp([3, 4, 2]), 0), X, y, epochs=1, random_state=0
        ).nc1_trace[1:],
        _classed,
    ),
    representation.pretraining_gain: Arrays(
        lambda X_unlabelled, X, y: gained(X_unlabelled, X, y).error,
        {"X_unlabelled": whole(12, 3, seed=1), "X": whole(30, 3), "y": whole(30, seed=2)},
    ),
    representation.ContrastivePretrainer.fit: Arrays(
        lambda X, partners, similar: (
            representation.ContrastivePretrainer(2, (), steps=1, random_state=0)
            .fit(X, partners=partners, similar=similar)
            .loss_
        ),
        {"X": _classed["X"], "partners": whole(12, 3, seed=1), "similar": _classed["y"]},
    ),
    representation.PretrainedRegressor.fit: Arrays(
        lambda X, y, X_unlabelled: (
            representation.PretrainedRegressor(representation.FactorPretrainer(2))
            .fit(X, y, X_unlabelled)
            .predict(_classed["X"])
        ),
        {**_classed, "X_unlabelled": whole(12, 3, seed=1)},
    ),
    representation.JointMixtureClassifier.fit: Arrays(
        lambda X, y, X_unlabelled: (
            representation.JointMixtureClassifier(2, "diag", reg_covar=1.0, random_state=0)
            .fit(X, y, X_unlabelled)
            .predict_proba(_classed["X"])
        ),
        {**_classed, "X_unlabelled": whole(12, 3, seed=1)},
    ),
    representation.learning_surface: Arrays(
        lambda X_pool, y_pool, X_test, y_test: (
            representation.learning_surface(
                representation.PretrainedRegressor(representation.FactorPretrainer(1)),
                representation.supervised_baselines(False)["least squares"],
                X_pool, y_pool, X_test, y_test, [0, 3], [4], n_repeats=2, random_state=0,
            ).pretrained
        ),
        {"X_pool": whole(12, 3), "y_pool": whole(12, seed=2), "X_test": whole(5, 3, seed=1), "y_test": whole(5)},
    ),
    representation.informativeness: Arrays(
        lambda X: representation.informativeness(representation.FactorPretrainer(1), X, random_state=0),
        {"X": whole(14, 3)},
    ),
    # few rows for many
    geometry.LpRegression.fit: Arrays(lambda X, y: geometry.LpRegression(random_state=0).fit(X, y).coef_, _line),
    geometry.LpRegression.predict: Arrays(lambda X: line().predict(X), _points),
    geometry.LpRegression.score: Arrays(
        lambda X, y, sample_weight: line().score(X, y, sample_weight), {**_line, "sample_weight": whole(40) + 1}
    ),
    geometry.LpRegression.distortion: Arrays(
        lambda X, y: line().distortion(X, y, random_state=0).value,
        _line,
    ),
    geometry.LpSampler.fit: Arrays(
        lambda A: geometry.LpSampler(n_rows=9, random_state=0).fit(A).probabilities_, _matrix
    ),
    geometry.LpSampler.partial_fit: Arrays(
        lambda A: geometry.LpSampler(n_rows=9, random_state=0).partial_fit(A).coreset_, _matrix
    ),
    geometry.leverage_scores: Arrays(
        lambda A: [geometry.leverage_scores(A, how, random_state=0) for how in ("exact", "sketch")], _matrix
    ),
    geometry.lewis_weights: Arrays(lambda A: geometry.lewis_weights(A, 1), _matrix),
    geometry.lp_sensitivities: Arrays(
        lambda A, rows: geometry.lp_sensitivities(A, 3, "exact", rows=rows), {**_matrix, "rows": np.array([3, 1, 7])},
        strict=("rows",),
    ),
    geometry.total_sensitivity: Arrays(lambda A: geometry.total_sensitivity(A, 3, random_state=0).S, _matrix),
    geometry.embedding_distortion: Arrays(
        lambda A, idx, weight, directions: geometry.embedding_distortion(
            A, idx, weight, 1, directions=directions, random_state=0
        ).value,
        {**_matrix, "idx": np.arange(0, 40, 2), "weight": whole(20) + 1, "directions": whole(2, 3, seed=1)},
        strict=("idx",),
    ),
    # clusters
    partition.PPP.fit: Arrays(lambda X: few_parts().fit(X).probabilities_, _points),
    partition.PPP.predict: Arrays(lambda X: ppp().predict(X), _points),
    partition.PPP.predict_proba: Arrays(lambda X: ppp().predict_proba(X), _points),
    partition.pca_part_init: Arrays(lambda X: partition.pca_part_init(X, 3), _points),
    partition.repeatability: Arrays(
        lambda X: partition.repeatability(few_parts(), X, 2, "subsample", random_state=0).ari, _points
    ),
    partition.compactness: Arrays(
        lambda X, labels: partition.compactness(X, labels).silhouette, {**_points, "labels": _labels}
    ),
    partition.partition_curves: Arrays(
        lambda X: partition.partition_curves(ppp(), X, n_references=2, random_state=0).gap, _points
    ),
    # persistence
    geometry.topology_summary: Arrays(
        lambda X: geometry.topology_summary(X, random_state=0).loop_ratios, _points, needs=_gudhi
    ),
    geometry.optimize_points: Arrays(
        lambda x: geometry.optimize_points(x, lambda p: p.square().sum(), steps=1, lr=0.5).points, {"x": whole(8, 2)}
    ),
    geometry.sm_distance: Arrays(
        lambda corner: geometry.sm_distance(measure(), persistence.SignedMeasure(torch.ones(1, 2), torch.ones(1) * 3),
                                            corner=corner),
        {"corner": np.array([5.0, 6.0])},
    ),
    geometry.SignedMeasureLayer: Arrays(
        lambda box: geometry.SignedMeasureLayer("euler", box=([0.0, 0.0], box))(
            persistence.graph_complex([[0, 1]], [[1.0, 4.0], [2.0, 7.0]])
        ).points,
        {"box": np.array([3.0, 5.0])},
    ),
    persistence.SignedMeasureImage: Arrays(
        lambda box: persistence.SignedMeasureImage(3, box=([0.0, 0.0], box))(measure()), {"box": np.array([3.0, 5.0])}
    ),
    persistence.SignedMeasure.integrate: Arrays(
        lambda grid: measure().integrate(grid, [1.0, 3.0]), {"grid": np.array([1.0, 2.0, 3.0])}
    ),
    persistence.hilbert_function: Arrays(
        lambda grid: persistence.hilbert_function(persistence.graph_complex([[0, 1]], [[1.0, 4.0], [2.0, 7.0]]),
                                                  (grid, [4.0, 7.0])),
        {"grid": np.array([1.0, 2.0, 3.0])},
    ),
    persistence.graph_complex: Arrays(
        lambda edges, vertex_values, edge_values: cells(
            persistence.graph_complex(edges, vertex_values, edge_values=edge_values)
        ),
        {"edges": np.array([[0, 1], [2, 1], [2, 3], [3, 0]]), "vertex_values": whole(4, 2),
         "edge_values": whole(4, 2, seed=1)},
    ),
    persistence.simplicial_complex: Arrays(
        lambda simplices, filtration: cells(persistence.simplicial_complex([[[0], [1], [2]], simplices], filtration)),
        {"simplices": np.array([[0, 1], [2, 1]]),
         "filtration": np.array([[1.0, 2.0], [3.0, 1.0], [2.0, 2.0], [3.0, 4.0], [9.0, 2.0]])},
    ),
    persistence.cubical_complex: Arrays(lambda image: cells(persistence.cubical_complex(image)), _pixels),
    persistence.delay_embedding: Arrays(lambda series: persistence.delay_embedding(series), {"series": whole(9)}),
    persistence.MultiparameterPersistence.fit: Arrays(
        lambda X: [
            persistence.MultiparameterPersistence(method=how, n_lines=2, grid=3, resolution=3).fit_transform([X])
            for how in ("fibered", "hilbert")
        ],
        _cloud, needs=_gudhi,
    ),
    persistence.PersistenceImage.fit: Arrays(lambda X: persistence_images(X).boxes_, _cloud, needs=_gudhi),
    persistence.PersistenceImage.transform: Arrays(
        lambda X: persistence_images(whole(8, 2)).transform([X]), _cloud, needs=_gudhi
    ),
    persistence.perturbation_stability: Arrays(stability, _cloud, needs=_gudhi),
    persistence.Intervals.from_lists.__func__: Arrays(
        lambda births, deaths: persistence.Intervals.from_lists([births], [deaths]).weights(),
        {"births": np.array([[0.0, 2.0], [2.0, 0.0]]), "deaths": np.array([[3.0, 5.0]])},
    ),
    persistence.Intervals.select: Arrays(
        lambda mask: some_intervals().select(mask).weights(), {"mask": np.array([True, False])}, strict=("mask",)
    ),
    persistence.Intervals.rescale: Arrays(
        lambda low, high: some_intervals().rescale(low, high).births,
        {"low": np.array([0.0, 1.0]), "high": np.array([3.0, 5.0])},
    ),
    # denoisers
    generative.Diffusion.fit: Arrays(
        lambda X, cond: labelled().fit(X, cond, steps=1).denoiser(torch.ones(2, 2), 1.0).detach(),
        {"X": whole(24, 2), "cond": np.arange(24) % 3},
    ),
    generative.Diffusion.loss: Arrays(
        lambda cond: labelled().loss(torch.ones(3, 2), cond, generator=torch.Generator().manual_seed(0)).detach(),
        {"cond": np.array([0, 2, 1])},
    ),
    generative.Diffusion.sample: Arrays(
        lambda start, sigmas: labelled().sample(3, cond=1, sigmas=sigmas, start=start),
        {"start": whole(3, 2), "sigmas": np.array([3.0, 1.0, 0.0])},
    ),
    generative.Diffusion.inpaint: Arrays(
        lambda X, mask: labelled().inpaint(X, mask, cond=1, steps=2, generator=0),
        {"X": whole(3, 2), "mask": np.array([[True, False], [False, False], [True, True]])},
        strict=("mask",),
    ),
    generative.estimate_dimension: Arrays(
        lambda X, cond: generative.estimate_dimension(labelled(), X, 3.0, cond=cond).dimension,
        {**_points, "cond": np.arange(40) % 3},
    ),
    # generators
    generative.RewardDirectedDiffusion.fit: Arrays(
        lambda X_unlab, X_lab, y_lab: rewarded(X_unlab, X_lab, y_lab).reward_.coef_,
        {"X_unlab": whole(40, 2), "X_lab": whole(9, 2, seed=1), "y_lab": whole(9)},
    ),
    generative.RewardDirectedDiffusion.predict: Arrays(
        lambda X: rewarded(whole(40, 2), whole(9, 2, seed=1), whole(9)).predict(X), {"X": whole(5, 2)}
    ),
    generative.HallucinationDetector.detect_from_trajectory: Arrays(
        lambda x0_hats, sigmas: (
            generative.HallucinationDetector((1, 3), "sigma").detect_from_trajectory(x0_hats, sigmas)
        ),
        {"x0_hats": whole(4, 3, 2), "sigmas": np.array([4.0, 3.0, 2.0, 1.0])},
    ),
    generative.HallucinationDetector.calibrate: Arrays(
        lambda is_hallucination: watched().calibrate(is_hallucination, false_alarm=0.2).auc,
        {"is_hallucination": np.arange(20) % 3 // 2},
        strict=("is_hallucination",),
    ),
    generative.interpolation_mass: Arrays(
        lambda samples, modes: generative.interpolation_mass(samples, modes, 1.0, radius=1).counts,
        {"samples": whole(9, 2), "modes": np.array([[0.0, 0.0], [9.0, 0.0], [9.0, 20.0]])},
    ),
    generative.off_support: Arrays(
        lambda samples, data: generative.off_support(samples, data, share=0.2).astype(float),
        {"samples": whole(9, 2), "data": whole(20, 2, seed=1)},
    ),
    generative.recursive_training: Arrays(few_generations, {"data": whole(8, 2)}),
    generative.score_profile: Arrays(
        lambda a, b: generative.score_profile(lambda x, s: x / 2, a, b, 0.1, n=5).estimate,
        {"a": np.array([1.0, 2.0]), "b": np.array([3.0, 5.0])},
    ),
    generative.plot_samples: Arrays(
        lambda samples: [
            c.get_offsets().data for c in generative.plot_samples(samples, Figure().subplots()).collections
        ],
        {"samples": whole(9, 2)},
    ),
    mbir.ParallelBeam.fbp: Arrays(mbir.ParallelBeam(4, n_views=3).fbp, {"y": whole(2, 3, 6)}, plain=True),
    mbir.MatrixOperator: Arrays(
        lambda matrix: mbir.MatrixOperator(matrix, (2, 3)).forward(whole(2, 1, 2, 3)), {"matrix": whole(4, 6)}
    ),
    mbir.CartesianMRI: Arrays(
        lambda mask: mbir.CartesianMRI(mask).normal(whole(2, 1, 4, 5)), {"mask": whole(4, 5) > 20}
    ),
    mbir.Inpaint: Arrays(lambda mask: mbir.Inpaint(mask).forward(whole(2, 1, 4, 5)), {"mask": whole(4, 5) > 20}),
    mbir.Blur: Arrays(lambda kernel: mbir.Blur(kernel, (4, 5)).forward(whole(2, 1, 4, 5)), {"kernel": whole(3, 5)}),
    generative.subspace_error: Arrays(
        lambda V, A: generative.subspace_error(V, A), {"V": whole(6, 2), "A": whole(6, 2, seed=1)}
    ),
    generative.off_subspace_energy: Arrays(
        lambda samples, A, center: generative.off_subspace_energy(samples, A, center=center),
        {"samples": whole(9, 4), "A": whole(4, 2, seed=1), "center": whole(4)},
    ),
    # filters and attacks
    trust.LQVAE.fit: Arrays(lambda x: build_seeded(filtering, 0).fit(x, 2, random_state=0).losses, {"x": _black_white}),
    trust.LQVAE.fit_code_prior: Arrays(
        lambda x: build_seeded(filtering, 0).fit_code_prior(x).code_prior, {"x": _black_white}
    ),
    trust.code_stability: Arrays(
        lambda X, radii: trust.code_stability(build_seeded(filtering, 0), X, radii).estimated,
        {"X": _black_white, "radii": np.array([0.0, 1.0, 2.0])},
    ),
    trust.random_search: Arrays(
        lambda X, y: plain_array(trust.random_search(undecided, X, y, 1.0, n_queries=4, random_state=0), "found"),
        {"X": whole(8, 3), "y": np.tile([0, 1], 4)}, ("y",),
    ),
    trust.robust_accuracy: Arrays(
        lambda X, y, eps, classes: trust.robust_accuracy(
            classifier(), X, y, eps, steps=2, n_queries=3, classes=classes, random_state=0
        ),
        {"X": whole(12, 3), "y": np.tile([3, 5], 6), "eps": np.array([1.0, 2.0]), "classes": np.array([3, 5])},
    ),
    trust.robustness_report: Arrays(
        lambda X, y: reported(X, y).accuracy, {"X": whole(12, 3), "y": np.tile([0, 1], 6)}, ("y",)
    ),
    trust.adversarial_training: Arrays(
        lambda X, y: trust.adversarial_training(
            classifier(), X, y, eps=1.0, epochs=1, bounds=None, random_state=0
        ).losses,
        {"X": whole(12, 3), "y": np.tile([0, 1], 6)}, ("y",),
    ),
    # two nets
    representation.UnitMatcher.fit: Arrays(
        lambda X, Y: representation.UnitMatcher().fit(X, Y).score_matrix_,
        {"X": whole(12, 3), "Y": whole(12, 2, seed=1)},
    ),
    representation.UnitMatcher.align: Arrays(
        lambda Y: representation.UnitMatcher().fit(*two_nets()).align(Y)[0], {"Y": whole(9, 4)}
    ),
    representation.SparsePredictor.fit: Arrays(
        lambda X, Y, groups: representation.SparsePredictor([1.0], random_state=0).fit(X, Y, groups).r2_,
        {"X": whole(12, 3), "Y": whole(12, 2, seed=1), "groups": np.arange(12) // 2},
    ),
    representation.SparsePredictor: Arrays(
        lambda alphas: representation.SparsePredictor(alphas, random_state=0).fit(*two_nets()).r2_,
        {"alphas": np.array([2.0, 1.0])},
    ),
    representation.match_units: Arrays(
        lambda scores, dead_a, dead_b: representation.match_units(scores, dead_a=dead_a, dead_b=dead_b).scores,
        {"scores": whole(3, 2), "dead_a": np.array([True, False, False]), "dead_b": np.array([False, False])},
        ("dead_a", "dead_b"),
    ),
    representation.mutual_information: Arrays(
        lambda X, Y: representation.mutual_information(X, Y, n_bins=3), {"X": whole(12, 3), "Y": whole(12, 2, seed=1)}
    ),
    representation.apply_matching: Arrays(
        lambda match: representation.apply_matching(classifier(), match, "0", "2")[0].weight.detach(),
        {"match": np.arange(8)[::-1].copy()}, ("match",),
    ),
    representation.top_activating: Arrays(
        lambda X, Y, match, samples: representation.top_activating(X, Y, match, n_top=2, samples=samples).top_a,
        {"X": whole(12, 3), "Y": whole(12, 2, seed=1), "match": np.array([1, 0, 0]), "samples": np.arange(12) // 2},
        ("match", "samples"),
    ),
    representation.consensus_units: Arrays(
        lambda X, Y: representation.consensus_units([X, Y, X]).similarity,
        {"X": whole(12, 3), "Y": whole(12, 2, seed=1)},
    ),
    representation.compare_mappings: Arrays(
        lambda X, Y, groups: representation.compare_mappings(X, Y, groups=groups, random_state=0),
        {"X": whole(12, 3), "Y": whole(12, 2, seed=1), "groups": np.arange(12) // 2},
    ),
    representation.principal_angles: Arrays(
        lambda X, Y: representation.principal_angles(X, Y), {"X": whole(12, 3), "Y": whole(12, 2, seed=1)}
    ),
    representation.subspace_dimension: Arrays(
        lambda X: float(representation.subspace_dimension(X)), {"X": whole(12, 3)}
    ),
    # groups
    partition.groups: Arrays(
        lambda X, y: partition.groups(X, y, n_resamples=2),
        {"X": two_parts(), "y": np.tile([1, 1, 2, 3], 15)},
    ),
    # landscapes
    landscape.LandscapeDimension.for_classifier.__func__: Arrays(
        first_steps,
        {"X": whole(8, 3), "y": np.tile([0, 1], 4), "X_val": whole(8, 3, seed=1), "y_val": np.tile([0, 1], 4)},
    ),
    landscape.PolicySearch.evaluate: Arrays(
        lambda population: landscape.PolicySearch("CartPole-v1", 3, max_episode_steps=5).evaluate(population, [0]),
        {"population": whole(2, 3)}, plain=True, needs=("gymnasium",),
    ),
    landscape.QuantizedSubspace: Arrays(
        lambda codebook: landscape.QuantizedSubspace(landscape.SubspaceModule(net(), 12), codebook).codebook,
        {"codebook": np.array([0.0, 1.0, 2.0])}, plain=True,
    ),
    landscape.arithmetic_code_length: Arrays(
        lambda symbols: landscape.arithmetic_code_length(symbols), {"symbols": np.array([0, 1, 1, 2])}, ("symbols",)
    ),
    landscape.message_length_bits: Arrays(
        lambda symbols: landscape.message_length_bits(symbols, 3), {"symbols": np.array([0, 1, 1, 2])}, ("symbols",)
    ),
    landscape.quantize_codebook: Arrays(
        lambda vec, weights: landscape.quantize_codebook(vec, 3, weights=weights).values,
        {"vec": whole(9), "weights": whole(9, seed=1) + 1}, plain=True,
    ),
    landscape.find_crossing: Arrays(
        lambda sizes, scores: landscape.find_crossing(sizes, scores, 7.0).value,
        {"sizes": np.array([10.0, 20.0, 40.0, 80.0]), "scores": np.array([2.0, 5.0, 9.0, 10.0])},
    ),
    landscape.shuffle_labels: Arrays(lambda y: check_numbers(landscape.shuffle_labels(y), "y"), {"y": whole(9)}),
    landscape.shuffle_pixels: Arrays(
        lambda X: check_numbers(landscape.shuffle_pixels(X), "X"), {"X": whole(4, 3)}, plain=True
    ),
}  # fmt: skip

# ---------------------------------------------------------------------------------------------------- results


def fitted_law():
    n = np.array([100, 200, 400, 800])
    return geometry.fit_scaling_law(
        np.tile(n, 3), np.outer([3, 2, 1], n**-0.5).ravel(), d=np.repeat([9, 6, 3], 4)
    )


def summary():
    return geometry.intrinsic_dimensions(table()[0], methods=("twonn", "mle"), random_state=0)


def classifier():
    return build_seeded(lambda: mlp([3, 8, 2]), 0)


def compared():
    return representation.compare(
        classifier(), classifier(), table()[0], n_shuffles=9, n_neighbors=5, random_state=0
    )


def collapse():
    X, y = table()
    batch = torch.from_numpy(X).float(), torch.from_numpy(y)
    return representation.collapse_report(classifier(), [batch], weight_decay=0.01, n_null=2, random_state=0)


def gained(X_unlabelled, X, y):
    predictor = representation.PretrainedRegressor(representation.FactorPretrainer(1))
    return representation.pretraining_gain(
        X_unlabelled, X, y, predictor=predictor, n_labels=[8, 20], n_repeats=5, random_state=0
    )


def layer_profile():
    return geometry.id_profile(classifier(), torch.from_numpy(table()[0]).float().split(20), max_points=60)


def pair_records():
    return [PairRecord(f"set {i}", 0.1 * i, 0.02 * i**2, 0.03 * i) for i in range(1, 9)]


def run(d=4, score=0.8):
    return landscape.RunRecord(d, 0, score, score, 10, 0.1, 3.0, 0.5)


def landscape_result():
    return landscape.LandscapeResult(
        n_parameters=60, status="found", d_int90=5.5, interval=(4.0, 8.0), bound=np.nan, d_int100=9.0,
        baseline_score=0.9, baseline_scores=(0.9, 0.91), threshold_score=0.81, threshold=0.9, score_name="accuracy",
        greater_is_better=True, estimator="isotonic", ci_method="bootstrap", ci=0.95, compression_ratio=11.0,
        curve=(run(2, 0.5), run(4, 0.8), run(8, 0.9)), lr_multiplier=3.0, lr_direct=0.1, projection="cyclic",
        scale="column", seconds=3.0, seed=0, notes=("a note",),
    )  # fmt: skip


def spendings():
    return tuple(
        landscape.Spending("subspace", f"d = {d}", 4 * d, 4 * d, d, seed, 0.5 + d / 100, 0.6, 0.1, 1.0)
        for d in (8, 16)
        for seed in (0, 1)
    )


def sparsity_stats():
    model = build_seeded(net, 0)
    sparsifier = landscape.NMSparsifier(model, 2, 4, targets="all", total_steps=4)
    sparsifier.step()
    return sparsifier.stats()


def evolved():
    return landscape.es_train(lambda v: -float(v @ v), 4, n_pairs=2, generations=2, random_state=0)


def points_optimized():
    x = np.random.default_rng(0).normal(size=(6, 2))
    return PointOptimization(x, x + 0.1, np.array([2.0, 1.0]))


def denoiser_dimension():
    X = table()[0]
    return generative.estimate_dimension(generative.GaussianDenoiser.fit(torch.from_numpy(X)), X)


def scaled():
    clean, noisy = np.repeat([[50, 0], [100, 0], [200, 0], [50, 200], [100, 400]], 2, axis=0).T
    metric = (0.3 + 9 / np.sqrt(clean + noisy / 4)) * np.tile([0.99, 1.01], 5)
    return generative.ScalingStudy(clean, noisy, 0.2, metric)


_task = DifficultyTask(100.0, 3.0, 1.0, 0.1, 2.0)
_bounds = {"catoni": 0.4, "best": 0.4}
_density = np.array([-3.0, -4.0])

RESULTS: dict[Any, Callable[[], Any]] = {
    # shapes
    shapes.PartNames: lambda: shapes.PartNames(np.array([0, -1]), np.array([[3, 1], [0, 0]])),
    shapes.CodeUsage: lambda: shapes.CodeUsage(np.array([3, 0, 1]), 1.75, 2 / 3),
    shapes.GenerationQuality: lambda: shapes.generation_metrics([whole(6, 3), whole(5, 3)], [whole(6, 3, seed=1)]),
    shapes.ViewConsistency: lambda: shapes.ViewConsistency(0.02, np.array([0.01, 0.03]), 0.8, 2),
    shapes.MeshQuality: lambda: shapes.compare_meshes(_small, _small, n_points=50),
    shapes.EncodingCosts: lambda: shapes.encoding_costs((1, 2), n_points=9, n_repeats=1),
    shapes.Convexes: lambda: flat_shape()[0].extract(flat_shape()[1]),
    shapes.Polytope: lambda: flat_shape()[0].extract(flat_shape()[1]).polytopes[0],
    shapes.FieldReport: lambda: shapes.fit_image(light()[0, 0], steps=2, batch_size=9, random_state=0)[1],
    shapes.SizedQuality: lambda: shapes.SizedQuality("decimated", 900, chamfer=0.1, n_vertices=4, n_faces=4),
    # discrete
    discrete.Unmasking: lambda: discrete.MaskedDiffusion([2, 4, 3], random_state=0).unmask(3, generator=0),
    discrete.ConsistencyReport: lambda: marginal().consistency_report(tokens(5)),
    discrete.MoleculeReport: lambda: discrete.MoleculeReport(0.9, 1.0, 0.5, 20),
    discrete.GenerativePerplexity: lambda: discrete.generative_perplexity(
        tokens(5, 4), discrete.NGramScorer(2).fit(tokens(9, 4))
    ),
    # representation
    representation.Comparison: lambda: compared(),
    representation.LayerPair: lambda: compared().pairs[0],
    representation.NullCalibration: lambda: representation.null_calibrate(
        representation.cka, table()[0], table()[0][:, :2] ** 2, n_permutations=9, random_state=0
    ),
    # trust
    trust.InvarianceCertificate: lambda: trust.certify(
        None, [1.0, 2.0], covariances=stacked_covariances(), mode="learned"
    ),
    trust.InvarianceTest: lambda: trust.invariance_test(two_environments()[0]),
    trust.InvariantFit: lambda: trust.fit_invariant(covariances=stacked_covariances()),
    trust.TrustReport: lambda: trust.report(
        slope, *table(), environments=np.arange(60) % 2, eps=0.5, random_state=0
    ),
    trust.FeatureImportance: lambda: trust.feature_importance(slope, table()[0], random_state=0),
    trust.RankingComparison: lambda: trust.compare_rankings(slope, table()[0], relevant=[0], random_state=0),
    trust.SurrogateReport: lambda: explained().report(*table()),
    trust.Explanation: lambda: explained().explain(table()[0][0]),
    trust.Counterfactual: lambda: explained().explain(table()[0][0]).counterfactual,
    trust.Rule: lambda: explained().rules_[0],
    trust.WhatIf: lambda: explained().what_if(table()[0][0], {"x0": 1.5}),
    trust.CalibrationCheck: lambda: trust.calibration_check(
        np.linspace(0, 1, 40), np.arange(40) % 2, n_bins=4, random_state=0
    ),
    trust.MemorizationReport: lambda: remembered(whole(30, 2), _outcomes, None),
    trust.MemorizationPath: lambda: trust.simulate_memorization(9, 20, steps=5, random_state=0),
    trust.CodeStability: lambda: trust.code_stability(build_seeded(filtering, 0), light()),
    trust.RobustAccuracy: lambda: trust.robust_accuracy(
        classifier(), table()[0], table()[1], (0.1, 0.2), steps=2, n_queries=3, random_state=0
    ),
    trust.RobustnessReport: lambda: reported(*table()),
    # representation
    representation.Matching: lambda: representation.UnitMatcher().fit(*two_nets()).matching_,
    representation.TopActivating: lambda: representation.top_activating(*two_nets(), [1, -1, 0], n_top=3),
    representation.Consensus: lambda: representation.consensus_units([*two_nets(), two_nets()[0] ** 3]),
    representation.MappingComparison: lambda: representation.compare_mappings(*two_nets(), random_state=0),
    representation.CoClusters: lambda: representation.CoClusterer(2, random_state=0).fit(*two_nets()).clusters_,
    representation.StitchingTest: lambda: representation.StitchingTest(0.9, 0.95, 0.96, 0.1, 500, "least squares"),
    # partition
    partition.NovelClassCount: lambda: partition.estimate_n_novel(table()[0], (2, 4), random_state=0),
    partition.NovelClassScores: lambda: partition.novel_class_scores([0, 1, 1, 2], [0, 4, 4, 4], [0]),
    # generative
    generative.NoiseEstimate: lambda: generative.estimate_noise(table(3 * 64, 8)[0].reshape(3, 64, 8)),
    generative.MixtureComparison: lambda: generative.MixtureComparison(
        ("mixture", "clean only", "noisy as clean"), *np.arange(18.0).reshape(3, 3, 2), (1.0, 2.0), (0.5, -1.0),
        (1.5, 5.0), 0.95, 0.5, 60, 1200,
    ),
    generative.ScalingStudy: scaled,
    generative.PowerLaw: lambda: generative.fit_power_law(scaled(), n_bootstrap=20),
    generative.PriceBracket: lambda: generative.price_bracket(scaled()),
    DescentResult: lambda: DescentResult(np.array([[0.5], [0.25]]), 2, 0, 0.1, "budget"),
    TraceEstimate: lambda: TraceEstimate((1.0, 2.0), (0.1, 0.0), 30, True),
    generative.NoisePath: lambda: generative.NoisePath(
        (0.0, 0.1), (1.0, 0.8), (0.1, 0.15), (0.2, 0.0), (0.05, 0.0), 0.5, 50
    ),
    generative.JacobianBasis: lambda: generative.jacobian_basis(halved, torch.ones(2, 3)),
    generative.PSNRCurve: lambda: generative.psnr_curve(halved, binary(3)),
    generative.OracleShrinkage: lambda: generative.oracle_shrinkage(binary(3), (0.1, 0.3)),
    generative.BlindSamples: lambda: generative.sample_blind(halved, 2, (1, 4, 4), h=0.5, beta=1.0, keep_every=2),
    generative.PairComparison: lambda: short_curve().pairs[0],
    generative.MemorizationCurve: short_curve,
    generative.GuidanceSweep: lambda: generative.GuidanceSweep(
        (1.0, 2.0), (0.9, 0.95), (0.9, 1.0), (2.0, 1.5), (0.8, np.nan), (0.9, 0.9, 2.0, 0.8), 9
    ),
    generative.RewardCurve: lambda: generative.RewardCurve(
        (1.0, 2.0), (1.0, 1.9), (1.0, 1.5), (0.1, 0.2), (1.0, 3.0), 0.1, 1.0, (0.0, 1.2), "conditional", 9
    ),
    # partition
    partition.Episodes: lambda: partition.sample_episodes(_pairs, n_way=2, n_query=3, n_episodes=3, random_state=0),
    partition.FewShotAccuracy: few_shots,
    partition.PairedDifference: lambda: few_shots().difference("K-means", "SimpleShot"),
    # representation
    representation.UFMSolution: lambda: representation.ufm_minimizer([30, 20, 1], [0.01, 0.02], 0.001, bias=True),
    representation.CollapseMetrics: lambda: representation.CollapseMetrics(*np.arange(9.0) / 9, np.nan),
    representation.CollapseReport: collapse,
    representation.PretrainingGain: lambda: gained(whole(12, 3, seed=1), whole(30, 3), whole(30, seed=2)),
    representation.LayerCollapse: lambda: collapse().layers[-1],
    # geometry
    geometry.DimensionSummary: summary,
    geometry.Estimate: lambda: geometry.Estimate(3.0, (2.5, 3.5), 0.1, "note", 3.1),
    geometry.ScalePoint: lambda: geometry.ScalePoint("gride", 2, 100, 3.0, 0.1, 0.5),
    geometry.ScalingLaw: fitted_law,
    geometry.IdProfile: layer_profile,
    geometry.LayerDimension: lambda: layer_profile().layers[0],
    geometry.AdversarialAccuracy: lambda: geometry.adversarial_accuracy(
        classifier(), table()[0].astype(np.float32), table()[1], (0.1, 0.2)
    ),
    geometry.PairRecord: lambda: pair_records()[0],
    geometry.SharpnessReport: lambda: geometry.sharpness_report(pair_records(), random_state=0),
    geometry.Difficulty: lambda: geometry.generalization_difficulty(0.01, 1000, 5, 1.0, 0.1, 10),
    DifficultyTask: lambda: _task,
    ClassMargin: lambda: geometry.class_margin(*table(), n_pairs=500, k=10, n_bootstrap=3, random_state=0),
    geometry.DensityRegime: lambda: geometry.density_regime(table()[0]),
    geometry.KDERegime: lambda: geometry.HighDimKDE(0.7).fit(table()[0]).diagnose(table()[0][:5] + 0.1),
    geometry.KDETheory: lambda: geometry.kde_theory(1000, 20),
    RegimeMap: lambda: geometry.regime_map((0.1, 0.2)),
    geometry.Distortion: lambda: geometry.embedding_distortion(
        table()[0], [0, 5, 9, 20], np.ones(4), 1.0, random_state=0
    ),
    geometry.SampleSize: lambda: geometry.sample_size(0.5, d=4),
    geometry.SensitivityGrowth: lambda: geometry.sensitivity_growth(
        ("gaussian",), (2, 3), 4, n=60, n_rows=10, random_state=0
    ),
    geometry.TopologySummary: lambda: geometry.TopologySummary(
        2, 1, (0.4, 0.1), (2.0, 1.1), (0.01, 0.9), {"0.5": 1, "1.0": 0}, 60
    ),
    PointOptimization: points_optimized,
    # generative
    generative.VolumeQuality: lambda: generative.volume_quality(*volume_pair()),
    generative.Reconstruction: lambda: volume_solver().reconstruct(whole(3, 2, 6), generator=0),
    generative.RepeatedReconstruction: lambda: volume_solver().repeat(whole(3, 2, 6), 2),
    generative.Robustness: lambda: generative.Robustness("bits", (6.0, 4.0), np.array([[1.0, 2.0], [3.0, 5.0]])),
    generative.RetrievalReport: lambda: retrieving().retrieval.report(table(6, 2)[0], np.zeros((6, 4), dtype=np.int64)),
    generative.RetrievalCurve: lambda: generative.RetrievalCurve("items", (1.0, 5.0), *np.array([[0.5, 1.0]] * 4)),
    generative.PhaseProfile: lambda: generative.phase_profile(table()[0], (16, np.inf), n=20, random_state=0),
    generative.DenoiserDimension: denoiser_dimension,
    generative.Calibration: lambda: generative.Calibration(
        np.array([[0.0, 10.0], [5.0, 20.0]]), np.array([0.9, 0.6]), "step", (0.0, 10.0), 0.88, (0.7, 0.95), 0.01, 0.04,
        0.9, (0.6, 0.99), 400, 12, 0.95,
    ),
    generative.FilteredSamples: lambda: generative.FilteredSamples(
        np.array([[0.5, 1.0], [1.5, 2.0]]), np.array([0.1, 0.2]), 3, 1, 50, 0.1, np.array([[0.5, 2.5]]),
        np.array([0.9]), np.array([[[0.5, 1.5], [2.5, 0.5], [0.5, 2.5]]]), np.array([2.5, 1.5, 0.5]),
    ),
    generative.InterpolationMass: lambda: generative.interpolation_mass([[0.0], [0.5]], [[0.0], [1.0]], 0.01),
    generative.ScoreProfile: lambda: generative.score_profile(lambda x, s: x, [0.0], [1.0], 0.1, n=5),
    generative.RecursiveTraining: lambda: generative.RecursiveTraining(
        "variance", (0.1, 0.2), {"mean": (0.5, 0.6)}, np.array([[0.5], [1.5]]), True
    ),
    # partition
    partition.SimulatedDictionary: lambda: partition.simulate_dictionary(9, whole(2, 4), [[1.0, 0.0]], random_state=0),
    partition.TradeOffCurve: lambda: partition.TradeOffCurve((0.1, 1.0), (0.9, 0.8), (0.02, 0.01), (0.4, 0.3), 5),
    partition.Compactness: lambda: partition.compactness(*table()),
    partition.PartitionCurves: lambda: partition.partition_curves(
        partition.PPP((2, 4)).fit(table()[0]), table()[0], n_references=2, random_state=0
    ),
    partition.Repeatability: lambda: partition.repeatability(partition.PPP((2, 3)), table()[0], 2, random_state=0),
    partition.ClusterGeometry: lambda: partition.cluster_geometry(whole(9, 3), np.arange(9) % 3),
    partition.Groups: lambda: partition.groups(
        two_parts(), np.tile([0, 1, -1], 20), n_resamples=2, compare=True
    ),
    partition.Group: lambda: partition.Group(20, 12, 0.25, 0.001, 2.5, 0.95, 3, True),
    partition.Peer: lambda: partition.Peer("HDBSCAN", 3, 0.8),
    # landscape
    landscape.RunRecord: run,
    landscape.LandscapeResult: landscape_result,
    landscape.Crossing: lambda: landscape.Crossing(
        4.0, (3.0, 5.0), "found", np.nan, 0.9, "isotonic", 0.95, "bootstrap"
    ),
    landscape.CompressionSweep: lambda: landscape.CompressionSweep(
        tuple(CompressionPoint(k, np.log2(k), 100 * k, 200 * k, 0.9, 0.8, _bounds) for k in (3, 5)),
        60, 12, 500, 0.95, 0.9, 0.05, 1.0,
    ),
    landscape.EvolutionResult: evolved,
    landscape.ToyCurve: lambda: landscape.ToyCurve(100, 10, (5, 10), np.array([[0.5, 0.6], [1.0, 1.0]]), 0.9),
    landscape.DimensionComparison: lambda: landscape.DimensionComparison(
        ("a", "b"), (landscape_result(), landscape_result()), (0.1, 0.2), (0, 3)
    ),
    landscape.AdapterComparison: lambda: landscape.AdapterComparison(
        (AdapterRun("small", "lora", 20, 0.8, (0.7, 0.9), 0.01), AdapterRun("small", "flora", 22, 0.9, (0.9,), 0.01))
    ),
    landscape.AdapterSuggestion: lambda: landscape.AdapterSuggestion(
        "lora", "fits", 12.0, (9.0, 15.0), 2.0, 24, 600, 0, (AdapterOption("lora", 24, 96, {"0": (1,)}, {"r": 1}),)
    ),
    landscape.Comparison: lambda: landscape.Comparison(spendings(), (0.9, 0.92), 2400, "accuracy", {"svd": 900}, {}),
    landscape.Spending: lambda: spendings()[0],
    landscape.SparsityStats: sparsity_stats,
    NMCheck: lambda: landscape.check_nm(build_seeded(net, 0), 2, 4, "all"),
    landscape.TuckerEnergy: lambda: landscape.TuckerEnergy(
        (6, 5, 3), ((1, 1, 1), (2, 2, 2)), (15, 36), (0.6, 0.9), (1, 2), (0.5, 0.8), ((2.0, 1.0), (1.5,), (1.0, 0.1))
    ),
    # representation
    representation.CollapsedMinimizer: lambda: representation.collapsed_minimizer(2, 3, 3, 0.2, 0.1, random_state=0),
    representation.BlockSpectrum: lambda: representation.collapsed_spectrum(2, 3, 3, 0.2, 0.1, 5.0),
    representation.CollapsePath: lambda: representation.depth_profile(*table(), 0.2, 0.1, 5.0, 2),
    representation.BetaEstimate: lambda: representation.estimate_beta(
        table()[0], whole(60, 3, top=60) / 60, table()[1], 0.2
    ),
    representation.KernelSpectrum: lambda: representation.kernel_spectrum(whole(12, 4), PATCHED),
    representation.TeacherStudentCurve: lambda: representation.teacher_student_curve(
        representation.HierarchicalKernel((2,)), PATCHED, (4, 8), d=4, n_test=9, n_repeats=2, random_state=0
    ),
    representation.GreedyTraining: lambda: representation.greedy_train(
        build_seeded(lambda: mlp([3, 4, 2]), 0), *table(), epochs=1, random_state=0
    ),
    representation.FactorModel: lambda: representation.FactorModel.random(4, 2, random_state=0),
    representation.MixtureModel: lambda: representation.MixtureModel.random(4, 3, 2, random_state=0),
    representation.PairModel: lambda: representation.PairModel.random(4, 2, random_state=0),
    representation.ExcessRisk: lambda: representation.predict_excess_risk(
        representation.FactorModel.random(4, 2, random_state=0), 9, 12
    ),
    representation.LearningSurface: lambda: representation.LearningSurface(
        (0, 50), (5, 20), np.array([[[0.5, 0.4], [0.3, 0.3]], [[0.3, 0.2], [0.2, 0.3]]]),
        np.array([[0.4, 0.5], [0.2, 0.1]]), "error",
    ),
    LearnedAlgebra: lambda: LearnedAlgebra("complex", np.ones((2, 2, 2)), 0.1, (0.5, 0.1), 0.2, 0.9, 2),
}  # fmt: skip


@functools.cache
def result_of(thing):
    """Return an instance of a class of results, which those share who only read it."""
    return RESULTS[thing]()


EXAMPLES = {"estimators": ESTIMATORS, "layers": LAYERS, "generators": GENERATORS, "results": RESULTS}
