r"""Learn from the known classes a space in which k-means finds the novel ones: PBN, projection-based novel classes.

An encoder maps every row to a point z of unit length. A linear classifier reads the known classes off it, a decoder the
row itself:

.. math:: L = w \cdot \frac{1}{|B_l|} \sum_{i \in B_l} \mathrm{CE}(\mathrm{cls}(z_i), y_i)
          + (1 - w) \cdot \frac{1}{|B|} \sum_{i \in B} \Vert \mathrm{dec}(z_i) - x_i \Vert^2

over a batch B, of which :math:`B_l` are the rows with a label; without any the first term is left out. The encoder has
layers of 3/4 and 1/2 of the row's width (linear, ReLU, batch normalisation, dropout) and a linear one to z; the decoder
is its mirror image. Then k-means clusters the z of the unlabelled rows. The second term is a *sum* over features: only
for w near 1 do the known classes prevail where most of the variance is of no use. w = 1 is the paper's "Baseline", a
classifier and nothing else (the decoder gets no gradient), w = 0 an autoencoder.

=====================================  =========================================
symbol in the paper                    name here
=====================================  =========================================
w                                      ``w``
:math:`\phi, z = \phi(x)`              ``ProjectionNet.encode``
latent dimension, dropout p            ``latent_dim``, ``dropout``
=====================================  =========================================

To tune takes many small nets, each too small to keep a processor busy. So a net here is a *stack* of members of one
shape: weights have a leading axis (members, out, in), activations are (members, features, rows), a layer is one batched
product, and batch normalisation sees members times features as channels, without a copy. Members read the same batches
and the same uniform numbers for dropout, each at its own rate; a step of AdamW is proportional to the learning rate, so
each member takes its share of one step. What a member learns is what it learns alone, up to rounding.

Source: Colin Troisemaine and others, 2023, arXiv 2311.05440. Departures: z is normalised at prediction too, which the
authors' code forgets; a batch without known rows does not become NaN; columns are centred, so that an offset costs no
digits; a batch that would be left with one row, which has no variance, is avoided by larger batches.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from torch import Tensor, nn
from torch.nn import functional as F

from lodim.neighbors import n_distinct
from lodim.partition.novel_class_discovery.clustering import (
    NCDKMeans,
    NCDSpectralClustering,
    NovelClassEstimator,
    class_means,
)
from lodim.randomness import build_seeded, derive_seed, root_seed
from lodim.training import DescentRecipe, DescentResult, DescentRun, descend
from lodim.training.recipe import check_lr
from lodim.validation import check_choice, check_counts, check_device, check_fraction, check_in_range

__all__ = ["PBN", "ProjectionNet", "train_projections"]

CLUSTERERS = ("kmeans", "ncd_kmeans", "spectral", "ncd_spectral")
_RANGE = 1e15  # spreads whose squares, summed, single precision holds
_BLOCK = 65_536
# units of a default layer: of two or three all may fall silent, and map every row to one point
_NARROWEST = 8
_TOGETHER = 500_000  # numbers that come out of a layer of a stack on a CPU, at most


class StackedLinear(nn.Module):
    """A linear layer of every member, as ``nn.Linear`` begins; made with one."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        one = nn.Linear(n_in, n_out)
        self.weight = nn.Parameter(one.weight.detach()[None])
        self.bias = nn.Parameter(one.bias.detach()[None, :, None])

    def forward(self, x: Tensor) -> Float[Tensor, "members out rows"]:
        if x.ndim == 3:
            return torch.baddbmm(self.bias, self.weight, x)
        # rows that all members share: one product
        return torch.addmm(self.bias.view(-1, 1), self.weight.flatten(0, 1), x).unflatten(
            0, self.weight.shape[:2]
        )


class StackedBatchNorm(nn.Module):
    """Batch normalisation of every member; made with one."""

    mean: Tensor
    variance: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(1, width)), nn.Parameter(torch.zeros(1, width))
        self.register_buffer("mean", torch.zeros(1, width))
        self.register_buffer("variance", torch.ones(1, width))

    def forward(self, x: Float[Tensor, "members width rows"]) -> Float[Tensor, "members width rows"]:
        mean, variance, weight, bias = (
            t.view(-1) for t in (self.mean, self.variance, self.weight, self.bias)
        )
        # members times features are channels, rows the positions that statistics are taken over
        return F.batch_norm(x.flatten(0, 1)[None], mean, variance, weight, bias, self.training).view(x.shape)


class StackedLayers(nn.Module):
    """Linear layers with ReLU, batch normalisation and dropout between them."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.linear = nn.ModuleList(StackedLinear(a, b) for a, b in pairwise(widths))
        self.norm = nn.ModuleList(StackedBatchNorm(b) for b in widths[1:-1])

    def forward(self, x: Tensor, dropout: Float[Tensor, "members 1 1"]) -> Float[Tensor, "members out rows"]:
        drops = self.training and bool(dropout.any())
        for linear, norm in zip(self.linear, self.norm, strict=False):
            x = norm(linear(x).relu())
            if drops:
                draws = torch.rand(x.shape[1:], dtype=x.dtype, device=x.device)
                x = x * ((draws >= dropout) / (1 - dropout))
        return self.linear[-1](x)


class ProjectionNet(nn.Module):
    """Encoder, classifier and decoder of every member; made with one.

    Parameters
    ----------
    n_features, latent_dim, n_classes : int
    hidden : sequence of int
        Widths of the encoder's layers; the decoder has them in reverse.
    dropout : float
    """

    dropout: Tensor

    def __init__(
        self, n_features: int, hidden: Sequence[int], latent_dim: int, n_classes: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        widths = [n_features, *hidden, latent_dim]
        self.encoder, self.decoder = StackedLayers(widths), StackedLayers(widths[::-1])
        self.classifier = StackedLinear(latent_dim, n_classes)
        self.register_buffer("dropout", torch.full((1, 1, 1), dropout))

    def encode(self, x: Float[Tensor, "rows n_features"]) -> Float[Tensor, "members latent rows"]:
        """Points of unit length."""
        z = self.encoder(x.T, self.dropout)
        # as F.normalize, whose norm over a middle axis takes a sixth of a step
        return z * z.square().sum(1, keepdim=True).clamp_min(1e-24).rsqrt()

    @torch.no_grad()
    def latents(self, rows: Float[np.ndarray, "rows n_features"]) -> Float[np.ndarray, "rows latent"]:
        """:meth:`encode` of the first member, for arrays of any length."""
        parts = torch.from_numpy(rows).split(_BLOCK)
        z = [self.encode(part.to(self.dropout)) for part in parts]
        return torch.cat([part[0].T for part in z]).cpu().numpy()

    def losses(
        self,
        x: Float[Tensor, "rows n_features"],
        codes: Int[Tensor, "rows members"],
        w: Float[Tensor, " members"],
    ) -> Float[Tensor, " members"]:
        """Loss of each member; a code of -1 is no label."""
        z, known = self.encode(x), (codes >= 0).sum(0)
        entropy = F.cross_entropy(self.classifier(z), codes.T, ignore_index=-1, reduction="none").sum(1)
        error = (self.decoder(z, self.dropout) - x.T).square().sum((1, 2)) / len(x)
        return w * entropy / known.clamp(min=1) + (1 - w) * error

    def member(self, i: int) -> ProjectionNet:
        """One member, as a net of its own."""
        return self._with({name: t[i : i + 1] for name, t in self.state_dict().items()})

    @staticmethod
    def stack(nets: Sequence[ProjectionNet]) -> ProjectionNet:
        """Nets of one shape as the members of one."""
        states = [net.state_dict() for net in nets]
        return nets[0]._with({name: torch.cat([state[name] for state in states]) for name in states[0]})

    def _with(self, state: dict[str, Tensor]) -> ProjectionNet:
        other = copy.deepcopy(self)
        for name, t in [*other.named_parameters(), *other.named_buffers()]:
            t.data = state[name].clone()
        return other


class Layout(NamedTuple):
    """Widths and training of a net; members of one stack have them in common."""

    hidden: tuple[int, ...]
    latent_dim: int
    epochs: int
    batch_size: int
    device: torch.device
    seed: int

    @classmethod
    def of(cls, model: Any, n: int, n_features: int) -> Layout:
        """Read a model's settings, and check them."""
        if check_fraction(model.dropout, "dropout") == 1:
            raise ValueError("dropout must be below 1, at which nothing is left")
        check_counts(epochs=model.epochs)
        check_lr(model.lr)
        widths = [max(_NARROWEST, n_features * quarters // 4) for quarters in (3, 2)]
        hidden = widths if model.hidden is None else model.hidden
        if not isinstance(hidden, list | tuple):
            raise TypeError(f"hidden must be a list of widths, got {hidden!r}")
        for width in hidden:
            check_in_range(width, "hidden", low=1, integer=True)
        latent_dim = max(2, n_features // 2) if model.latent_dim is None else model.latent_dim
        check_in_range(latent_dim, "latent_dim", low=2, integer=True)
        batch_size = int(check_in_range(model.batch_size, "batch_size", low=2, integer=True))
        while n % batch_size == 1:
            batch_size += 1
        device = check_device("cpu" if model.device is None else model.device)
        seed = root_seed(model.random_state)
        return cls(tuple(map(int, hidden)), int(latent_dim), int(model.epochs), batch_size, device, seed)


def train_projections(
    models: Sequence[PBN],
    data: Float[np.ndarray, "n n_features"],
    codes: Int[np.ndarray, "n models"],
    **options: Any,
) -> list[tuple[ProjectionNet, DescentResult]]:
    """Train the net of each model on the same rows, with labels of its own; those of one shape as one.

    Parameters
    ----------
    data : ndarray, shape (n, n_features)
        As :func:`centred` returns them.
    codes : int ndarray, shape (n, models)
        Labels for each model, from 0 up, or -1.
    **options
        Of :func:`~lodim.training.descend`.

    Returns
    -------
    list of (ProjectionNet, DescentResult)
        Nets in double precision, for evaluation.
    """
    kinds: dict[tuple[Layout, int], list[int]] = {}
    for i, model in enumerate(models):
        check_fraction(model.w, "w")
        check_choice(model.clusterer, CLUSTERERS, "clusterer")
        n_classes = int(codes[:, i].max(initial=-1)) + 1
        kinds.setdefault((Layout.of(model, *data.shape), n_classes), []).append(i)
    trained: dict[int, tuple[ProjectionNet, DescentResult]] = {}
    for (layout, n_classes), group in kinds.items():
        numbers = layout.batch_size * max(layout.hidden, default=layout.latent_dim)
        at_once = max(1, _TOGETHER // numbers) if layout.device.type == "cpu" else len(group)
        for part in (group[start : start + at_once] for start in range(0, len(group), at_once)):
            found = _train_stack([models[i] for i in part], layout, n_classes, data, codes[:, part], options)
            trained.update(zip(part, found, strict=True))
    return [trained[i] for i in range(len(models))]


def _train_stack(
    models: Sequence[PBN],
    layout: Layout,
    n_classes: int,
    data: np.ndarray,
    codes: np.ndarray,
    options: dict[str, Any],
) -> list[tuple[ProjectionNet, DescentResult]]:
    def build(dropout: float) -> ProjectionNet:
        return ProjectionNet(data.shape[1], layout.hidden, layout.latent_dim, n_classes, dropout)

    seed, device = derive_seed(layout.seed, "network"), layout.device
    nets = [build_seeded(partial(build, float(m.dropout)), seed) for m in models]
    single: Any = {"dtype": torch.float32, "device": device}  # whatever torch's default is
    net = ProjectionNet.stack(nets).to(**single)
    rows, labels = torch.tensor(data, **single), torch.tensor(codes, device=device)
    rates = [float(m.lr) for m in models]
    w, share = (
        torch.tensor(v, **single) for v in ([float(m.w) for m in models], [r / max(rates) for r in rates])
    )
    alone = len(models) == 1

    def loss(x: Tensor, y: Tensor) -> Tensor:
        values = net.losses(x, y, w)
        # a member that has diverged is lost by itself; members share no number
        return values.sum() if alone else values.where(values.isfinite(), 0.0).sum()

    parameters = list(net.parameters())
    before = [p.detach().clone() for p in parameters] if min(rates) < max(rates) else []

    @torch.no_grad()
    def take_shares(run: DescentRun) -> None:
        """Each member goes its part of a step that was made at the highest rate."""
        for p, old in zip(parameters, before, strict=False):
            old.lerp_(p, share.view(-1, *[1] * (p.ndim - 1)))
            p.copy_(old)

    optimizer = partial(torch.optim.AdamW, fused=device.type in ("cpu", "cuda"))
    recipe = DescentRecipe(
        epochs=layout.epochs,
        lr=max(rates),
        batch_size=layout.batch_size,
        optimizer=optimizer,
        skip_nonfinite=alone,
    )
    seed, on_step = derive_seed(layout.seed, "descent"), take_shares if before else None
    told = {name: [float(getattr(m, name)) for m in models] for name in ("w", "lr", "dropout")}
    result = descend(
        loss, net, recipe, (rows, labels), random_state=seed, on_step=on_step, identity=told, **options
    )
    net = net.double().eval()
    return [(net.member(i), result) for i in range(len(models))]


def centred(data: Float[np.ndarray, "n d"]) -> tuple[np.ndarray, np.ndarray]:
    """Rows less their mean, which an encoder in single precision can take, and the mean.

    Raises
    ------
    ValueError
        Numbers whose squares, summed, single precision does not hold.
    """
    mean = data.mean(0)
    return less_mean(data, mean, least=1 / _RANGE), mean


def less_mean(data: Float[np.ndarray, "n d"], mean: np.ndarray, *, least: float = 0.0) -> np.ndarray:
    """Rows less a mean, of which a net can take the squares."""
    largest = float(np.abs(data).max())
    if largest and not least <= largest < _RANGE:
        raise ValueError(
            f"X has numbers up to {largest:.3g}, whose squares leave single precision; standardise X first"
        )
    return data - mean


class UselessTraining(ValueError):
    """A net has diverged, or maps too many rows to one point."""


def check_trained(outputs: np.ndarray) -> None:
    """Refuse what a net says whose training has diverged."""
    if not np.isfinite(outputs).all():
        raise UselessTraining("the training has diverged, and the encoder maps X to no numbers; lower lr")


@dataclass(eq=False, repr=False)
class PBN(ClassNamePrefixFeaturesOutMixin, TransformerMixin, NovelClassEstimator):
    """An encoder that tells known classes apart and keeps what rows are made of, and k-means where it maps them.

    Columns are to have comparable scales (a warning says when they do not): standardise first, and encode categories
    as columns of zeros and ones, both with :class:`lodim.datasets.TableEncoder`.

    Parameters
    ----------
    n_novel : int, optional
        Novel classes; counted by silhouettes in the latent space unless given.
    hidden : sequence of int, optional
        Widths of the encoder's layers; default: 3/4 and 1/2 of the columns, eight at least.
    latent_dim : int, optional
        Default: half of the columns, two at least.
    w : float
        Weight, in [0, 1], of telling known classes apart; the rest is for reconstruction, a sum over features: what
        the classes teach comes through for w near 1 only. At 1: the classifier alone, the paper's baseline.
    lr, dropout, epochs, batch_size
        Of AdamW and the net.
    n_novel_range : (int, int)
        Numbers tried to count them.
    clusterer : {"kmeans", "ncd_kmeans", "spectral", "ncd_spectral"}
        In the latent space; those with "ncd" know where the known classes lie (:class:`NCDKMeans`,
        :class:`NCDSpectralClustering`), the others see the unlabelled rows alone.
    device : torch.device or str, optional
        Default: the CPU.
    random_state : int, Generator or None

    Attributes
    ----------
    labels_ : ndarray, shape (n_samples,)
        Of known rows their label, of unlabelled ones a novel class.
    classes_, novel_classes_ : ndarray
        Labels of known classes, and of novel ones: numbers that follow the largest known, or texts "novel 0", ...
    n_novel_ : int
    count_ : NovelClassCount or None
        How they were counted.
    module_ : ProjectionNet
        Of centred rows, in double precision.
    training_ : DescentResult

    References
    ----------
    Troisemaine et al. 2023, arXiv 2311.05440.

    Examples
    --------
    >>> import numpy as np
    >>> from lodim.partition import PBN
    >>> X = np.random.default_rng(0).normal(size=(120, 3)) + np.repeat(5 * np.eye(4, 3), 30, axis=0)
    >>> y = np.repeat(["a", "b", "-1", "-1"], 30)
    >>> model = PBN(n_novel=2, epochs=20, random_state=0).fit(X, y)
    >>> np.unique(model.labels_).tolist()
    ['a', 'b', 'novel 0', 'novel 1']
    >>> model.transform(X).shape
    (120, 2)
    """

    n_novel: Any = None
    hidden: Any = None
    latent_dim: Any = None
    w: Any = 0.5
    lr: Any = 1e-3
    dropout: Any = 0.1
    epochs: Any = 200
    batch_size: Any = 512
    n_novel_range: Any = (2, 30)
    clusterer: Any = "kmeans"
    device: Any = None
    random_state: Any = None

    _needs_known: ClassVar[bool] = True

    def fit(self, X: Any, y: Any = None, *, checkpoint: Any = None, progress: Any = None) -> PBN:
        """Train, and sort the unlabelled rows.

        Parameters
        ----------
        X : array-like, shape (n_samples, n_features)
        y : array-like, shape (n_samples,)
            Labels; -1, None or NaN for rows without one.
        checkpoint, progress
            Of the training, as in :func:`lodim.training.descend`.

        Raises
        ------
        ValueError
            No row without a label, none with one, fewer unlabelled rows than novel classes, parameters out of range, or
            numbers beyond single precision.
        """
        return self._fit(X, y, checkpoint=checkpoint, progress=progress)

    def _sort_rows(
        self, data: Any, codes: Any, novel: Any, **options: Any
    ) -> Int[np.ndarray, " n_unlabelled"]:
        rows, self._mean = centred(data)
        [(self.module_, self.training_)] = train_projections([self], rows, codes[:, None], **options)
        return self._sort_latents(self.module_.latents(rows), codes, novel)

    def _sort_latents(
        self, z: Float[np.ndarray, "n latent"], codes: Int[np.ndarray, " n"], novel: Any
    ) -> Int[np.ndarray, " n_unlabelled"]:
        """Cluster the unlabelled rows where the encoder maps them."""
        check_trained(z)
        seed, n_known = root_seed(self.random_state), int(codes.max(initial=-1)) + 1
        if (distinct := n_distinct(z[novel])) < int(self.n_novel or 3):
            raise UselessTraining(
                f"the encoder maps the unlabelled rows of X to {distinct} point(s), too few for novel classes; lower "
                "lr, or widen the layers (hidden)"
            )
        k = self._count(z[novel], seed)
        by_means, taught = self.clusterer.endswith("kmeans"), self.clusterer.startswith("ncd")
        inner: Any = NCDKMeans(k, power=1 if taught else 2) if by_means else NCDSpectralClustering(k)
        inner.random_state = derive_seed(seed, "clusters")
        seen = (codes >= 0) | novel if taught else novel
        clusters = inner._sort_rows(z[seen], codes[seen], novel[seen])
        found = codes.copy()
        found[novel] = n_known + clusters
        self._n_features_out = z.shape[1]
        if by_means:
            self._anchors = np.vstack([*class_means(z, codes), *inner.cluster_centers_[-k:]])
            self._anchor_codes = np.arange(n_known + k)
        else:
            self._anchors, self._anchor_codes = z[found >= 0], found[found >= 0]
        return clusters

    def _inside(self, data: np.ndarray) -> Float[np.ndarray, "n latent"]:
        return self.module_.latents(less_mean(data, self._mean))

    def transform(self, X: Any) -> Float[np.ndarray, "n latent"]:
        """Map rows to the latent space, where they have unit length.

        Parameters
        ----------
        X : array-like, shape (n_queries, n_features)

        Returns
        -------
        ndarray, shape (n_queries, latent_dim)
        """
        return self._query(X)

    def predict_known(self, X: Any) -> np.ndarray:
        """Name each row's class among the known ones, by the classifier.

        Parameters
        ----------
        X : array-like, shape (n_queries, n_features)

        Returns
        -------
        ndarray, shape (n_queries,)
            Entries of ``classes_``.
        """
        z = torch.from_numpy(self._query(X)).to(self.module_.dropout.device)
        with torch.no_grad():
            return self.classes_[self.module_.classifier(z.T)[0].argmax(0).cpu().numpy()]
