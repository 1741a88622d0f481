"""What is trained: :class:`ProbabilisticNet`, a network with the loss of one's choice, and :class:`CaPE`.

The losses of a sample with log-odds z, prediction p = sigmoid(z) and target t in [0, 1]:

- focal (Lin and others 2017; for calibration Mukhoti and others 2020): each term of the cross-entropy times
  ``(1 - probability of that outcome)^strength``;
- entropy (Pereyra and others 2017): the cross-entropy less ``strength`` times the entropy of p;
- mixup (Zhang and others 2018): the cross-entropy of convex combinations of samples and of their targets, with weights
  from Beta(strength, strength);
- mmce (Kumar, Sarawagi and Jain 2018): the cross-entropy and ``strength`` times a kernel distance between right
  predictions, of weight 1 - confidence, and wrong ones, of weight confidence. Both weights are shares of the batch, so
  that it vanishes in expectation where confidences are true; the paper's reweighted form does not.

``n_members`` and ``adversarial`` make the deep ensembles of Lakshminarayanan, Pritzel and Blundell (2017).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy
from torch.nn.functional import logsigmoid, softplus
from torch.utils.data import DataLoader, Dataset

from lodim.metrics import ProbabilityMetrics, probability_metrics, reliability_curve
from lodim.nets import mlp
from lodim.nets.activations import evaluation_mode, first_tensor, model_device
from lodim.randomness import as_generator, build_seeded, derive_seed, root_seed
from lodim.results import Result
from lodim.training import DescentRecipe, DescentResult, descend
from lodim.training.threads import threads_for
from lodim.trust.black_boxes import plain_labels
from lodim.validation import (
    ConvergenceWarning,
    check_choice,
    check_counts,
    check_device,
    check_in_range,
    check_labels,
    check_matrix,
    check_numbers,
    checked,
    plain_array,
    warn,
)

__all__ = ["CaPE", "MemorizationReport", "ProbabilisticNet", "empirical_probabilities"]

LOSSES = {"ce": 0.0, "focal": 2.0, "entropy": 0.1, "mixup": 0.2, "mmce": 2.0}  # and their usual strength
VARIANTS = ("bin", "kde")
_BATCH = 1024
_TAIL = 6.5  # standard deviations, of the kernel and of its transform: e^(-6.5^2 / 2) is 7e-10


# ---- targets


@checked
def empirical_probabilities(
    p_hat: Any,
    y: Any,
    *,
    variant: str = "bin",
    n_bins: int | np.integer = 15,
    bandwidth: float | int = 0.05,
    window: int | np.integer = 500,
) -> Float[np.ndarray, " n"]:
    r"""Share of events among samples of similar predictions: what CaPE trains towards.

    The kernel's sums cost O(n) for each of some :math:`8 + 1/s` frequencies, whatever the window: with

    .. math:: K(u - v) = \sum_m c_m \cos(\omega_m (u - v)) = \sum_m c_m \mathrm{Re}\, e^{-i \omega_m u} e^{i \omega_m v}

    on a period in which the kernel vanishes, a sum over a window is a difference of two cumulated sums.

    Parameters
    ----------
    p_hat : array-like, shape (n,)
        Predicted probabilities.
    y : array-like, shape (n,)
        Outcomes, 0 or 1.
    variant : {"bin", "kde"}
        Over bins of equal counts, or by a Gaussian kernel.
    n_bins : int
        Of the first; at most n.
    bandwidth : float
        Standard deviation of the kernel, from 0.001.
    window : int
        Neighbours on either side in the order of the predictions that the kernel sees, those equal to the last of
        them included.

    Returns
    -------
    ndarray, shape (n,)
        In the order of ``p_hat``; equal predictions have equal ones.

    Raises
    ------
    ValueError
        Probabilities outside [0, 1], outcomes other than 0 and 1, fewer samples than bins.
    """
    check_choice(variant, VARIANTS, "variant")
    check_in_range(bandwidth, "bandwidth", low=1e-3, high=1e3)
    check_counts(window=window, n_bins=n_bins)
    p = check_numbers(p_hat, "p_hat")
    if p.ndim != 1 or not len(p) or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p_hat must be probabilities in [0, 1], one a sample, got shape {p.shape}")
    outcome = check_labels(y, len(p))
    if not np.isin(outcome, (0, 1)).all():
        raise ValueError(f"y must be outcomes, 0 or 1, got {np.unique(outcome)[:5].tolist()}")
    order = np.argsort(p, kind="stable")
    targets = np.empty(len(p))
    if variant == "bin":
        curve = reliability_curve(p, outcome, n_bins=int(n_bins))
        targets[order] = np.repeat(curve.observed, curve.counts)
    else:
        targets[order] = _kernel_means(p[order], outcome[order].astype(float), float(bandwidth), int(window))
    return targets


def _kernel_means(
    p: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], s: float, window: int
) -> Float[np.ndarray, " n"]:
    """Weighted means of y over windows of p, which is sorted."""
    n, (first, last) = len(p), (np.searchsorted(p, p, side) for side in ("left", "right"))
    low = np.searchsorted(p, p[np.maximum(first - window, 0)], "left")
    high = np.searchsorted(p, p[np.minimum(last - 1 + window, n - 1)], "right")
    base = (
        2 * math.pi / (1 + _TAIL * s)
    )  # the period is beyond the largest difference, 1, by the kernel's reach
    wave, turn = np.ones(n, dtype=complex), np.exp(1j * base * p)
    cumulated, sums = np.zeros(n + 1, dtype=complex), np.zeros((2, n))
    inside, below = np.empty(n, dtype=complex), np.empty(n, dtype=complex)
    for m in range(math.ceil(_TAIL / (s * base)) + 1):
        share = math.exp(-((m * base * s) ** 2) / 2) * (1 if m == 0 else 2)  # up to a factor that cancels
        back = share * wave.conj()
        for total, part in zip(sums, (wave, wave * y)):
            np.cumsum(part, out=cumulated[1:])
            np.take(
                cumulated, high, out=inside, mode="clip"
            )  # into the same memory, which is what costs here
            np.take(cumulated, low, out=below, mode="clip")
            inside -= below
            inside *= back
            total += inside.real
        wave *= turn
    return np.clip(sums[1] / sums[0], 0, 1)  # a mean of outcomes, but for rounding


# ---- losses


def log_odds(output: Any) -> Float[Tensor, " n"]:
    """Of the event, from a module's one or two outputs a sample."""
    z = first_tensor(output)
    if z.ndim == 2 and z.shape[1] == 2:
        return z[:, 1] - z[:, 0]
    if z.ndim == 1 or (z.ndim == 2 and z.shape[1] == 1):
        return z.reshape(-1)
    raise ValueError(f"the module must give one or two outputs a sample, got shape {tuple(z.shape)}")


def loss_of(name: str, z: Tensor, t: Tensor, strength: float | int) -> Float[Tensor, ""]:
    """Mean loss of log-odds z and targets t; that of "mixup" is the cross-entropy."""
    if name == "focal":
        happens, not_ = torch.exp(strength * logsigmoid(-z)), torch.exp(strength * logsigmoid(z))
        return (t * happens * softplus(-z) + (1 - t) * not_ * softplus(z)).mean()
    value = cross_entropy(z, t)
    if name == "entropy":
        p = torch.sigmoid(z)
        return value - strength * (p * softplus(-z) + (1 - p) * softplus(z)).mean()
    return value + strength * mmce(z, t) if name == "mmce" else value


def mmce(z: Float[Tensor, " n"], t: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Kernel distance between confidences of right and of wrong predictions; 0 where there are none of one kind."""
    confidence = torch.sigmoid(z.abs())
    right = (z > 0) == (t > 0.5)
    if bool(right.all()) or not bool(right.any()):
        return z.sum() * 0
    weight = (right.to(z) - confidence) / len(z)
    kernel = torch.exp(-(confidence[:, None] - confidence).abs() / 0.4)
    # positive semi-definite, so below zero by rounding only; the root has no derivative at zero
    return (weight @ kernel @ weight).clamp_min(1e-12).sqrt()


# ---- one run of training


class _Standardise(nn.Module):
    """Columns of a table to mean 0 and standard deviation 1, as they were in training."""

    unit: Tensor
    mean: Tensor
    spread: Tensor

    def __init__(self, X: np.ndarray) -> None:
        super().__init__()
        size = np.abs(X).max(0)
        unit = np.where(size > 0, size, 1.0)
        scaled = X / unit
        spread = scaled.std(0)
        self.register_buffer("unit", torch.from_numpy(unit))
        self.register_buffer("mean", torch.from_numpy(scaled.mean(0)))
        self.register_buffer("spread", torch.from_numpy(np.where(spread > 1e-12, spread, 1.0)))

    def forward(self, x: Tensor) -> Tensor:
        return (x / self.unit - self.mean) / self.spread


class _Indexed(Dataset):  # type: ignore[type-arg]
    """Some rows of a data set: each one's input, and its number among them."""

    def __init__(self, data: Any, rows: Int[np.ndarray, " n"]) -> None:
        self.data, self.rows = data, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        item = self.data[int(self.rows[i])]
        return torch.as_tensor(item[0] if isinstance(item, tuple | list) else item), i


class _Memory:
    """What a run keeps beside the weights: each sample's target, what every epoch measured, the last weights."""

    def __init__(self, targets: Tensor) -> None:
        self.targets = targets
        self.history: list[dict[str, Any]] = []
        self.measured: dict[str, float] = {}
        self.last: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"targets": self.targets, "history": self.history, "last": self.last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.targets.copy_(state["targets"])
        self.history, self.last = state["history"], state["last"]


def _as_input(net: nn.Module, x: Tensor) -> Tensor:
    x = x.to(model_device(net))
    dtype = next((p.dtype for p in net.parameters() if p.is_floating_point()), x.dtype)
    return x.to(dtype) if x.is_floating_point() else x


@torch.no_grad()
def _logits(net: nn.Module, data: Any) -> Float[Tensor, " n"]:
    """Log-odds in double precision, batch by batch, in evaluation mode."""
    if isinstance(data, Dataset):
        batches = (x for x, _ in DataLoader(data, batch_size=_BATCH))
    else:
        # copies, since where in memory data lie changes how their products are rounded
        batches = (part.clone() for part in data.split(_BATCH))
    with evaluation_mode(net):
        return torch.cat([log_odds(net(_as_input(net, x))).double().cpu() for x in batches])


# ---- estimators


class ProbabilisticNet(ClassifierMixin, BaseEstimator):
    """A network that answers the probability of one of two outcomes, stopped where the validation loss is least.

    Parameters
    ----------
    module : nn.Module, callable or None
        With one output a sample, the log-odds of the event, or two logits. A module is copied, with its weights; what
        makes one (``lambda: resnet(...)``) is called anew for each member. None: a small network for tables, two
        hidden layers of 64 on standardised columns, in double precision.
    loss : {"ce", "focal", "entropy", "mixup", "mmce"}
        Cross-entropy, or one of the losses said to keep networks from being too sure.
    strength : float, optional
        Of the loss: exponent of "focal" (2), weight of "entropy" (0.1) and "mmce" (2), Beta parameter of "mixup"
        (0.2). Not of "ce".
    n_members : int
        Networks of a deep ensemble, whose probabilities are averaged.
    adversarial : float
        Train on every sample moved in the direction of the steepest rise of its loss as well, by this share of each
        column's range; 0.01 in the paper of ensembles.
    optimizer : {"adam", "sgd"} or callable
        As in :class:`lodim.training.DescentRecipe`, e.g.
        ``partial(torch.optim.SGD, momentum=0.9, weight_decay=5e-4)``.
    lr, batch_size, epochs
        Learning rate, rows of a step, passes over the data at most.
    early_stopping : bool
        Return to the epoch of the least validation loss (cross-entropy, whatever the loss), and stop after
        ``patience`` epochs without a lower one.
    patience : int
    validation_fraction : float
        Of each label's rows, held out if ``fit`` gets no validation rows and stops early.
    device : device, optional
        Where to train; the module's own unless given.
    random_state : int, Generator or None

    Attributes
    ----------
    classes_ : ndarray
        The two labels, sorted; the second is the event.
    modules_, last_modules_ : list of nn.Module
        Of each member the one that answers, and the one after the last epoch.
    history_ : list of dict
        Of every epoch: ``member``, ``stage``, ``epoch``, ``targets``, ``loss`` on those, ``val_log_loss``,
        ``val_brier`` and ``val_ece`` (NaN without validation rows).
    training_ : list of DescentResult

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(400, 3))
    >>> rain = np.where(rng.random(400) < 1 / (1 + np.exp(-X[:, 0])), "rain", "dry")
    >>> model = ProbabilisticNet(epochs=3, random_state=0).fit(X, rain)
    >>> model.predict_proba(X[:2]).shape, model.classes_.tolist()
    ((2, 2), ['dry', 'rain'])
    """

    def __init__(
        self,
        module: Any = None,
        *,
        loss: Any = "ce",
        strength: Any = None,
        n_members: Any = 1,
        adversarial: Any = 0.0,
        optimizer: Any = "adam",
        lr: Any = 1e-3,
        batch_size: Any = 128,
        epochs: Any = 30,
        early_stopping: Any = True,
        patience: Any = 5,
        validation_fraction: Any = 0.2,
        device: Any = None,
        random_state: Any = None,
    ):
        self.module = module
        self.loss = loss
        self.strength = strength
        self.n_members = n_members
        self.adversarial = adversarial
        self.optimizer = optimizer
        self.lr = lr
        self.batch_size = batch_size
        self.epochs = epochs
        self.early_stopping = early_stopping
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.device = device
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def fit(
        self,
        X: Any,
        y: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        *,
        checkpoint: Any = None,
        progress: Callable[[float, str], Any] | None = None,
    ) -> ProbabilisticNet:
        """Train on samples with one outcome each.

        Parameters
        ----------
        X, X_val : array-like, data frame, Tensor or torch Dataset, shape (n, ...)
            Samples; those of a Dataset may come with their outcomes. Without validation samples some of X are held
            out (``validation_fraction``) to stop early.
        y, y_val : array-like, shape (n,)
            Outcomes: two labels of any kind.
        checkpoint : path, optional
            A folder: a run that was interrupted goes on from there, and ends with the same bits.
        progress : callable, optional
            ``progress(done, text)`` after every epoch.

        Raises
        ------
        ValueError
            Bad samples, other than two labels, nothing that could be held out, options out of range.

        Warns
        -----
        ConvergenceWarning
            The training was interrupted, or diverged.
        """
        self._check_options()
        data, labels = self._read(X, y, "X", "y", reset=True)
        kind = type_of_target(labels)
        if kind not in ("binary", "multiclass"):
            raise ValueError(
                f"Unknown label type: {kind}. Only binary classification is supported; y must hold two labels"
            )
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) > 2:
            raise ValueError(
                "Only binary classification is supported. The type of the target is multiclass: y has "
                f"{len(self.classes_)} labels; recode it as an event and its absence"
            )
        if len(self.classes_) < 2:
            raise ValueError(
                f"y has one class only, {str(self.classes_[0])!r}; probabilities need outcomes of both kinds"
            )
        seed, rows = root_seed(self.random_state), np.arange(len(labels))
        held: tuple[Any, np.ndarray] | None = None
        if X_val is not None:
            val, val_labels = self._read(X_val, y_val, "X_val", "y_val", reset=False)
            strange = val_labels[~np.isin(val_labels, self.classes_)]
            if len(strange):
                raise ValueError(f"y_val has the label {str(strange[0])!r}, which y has not")
            held = _take(val, np.arange(len(val_labels))), np.searchsorted(self.classes_, val_labels)
        elif y_val is not None:
            raise ValueError("y_val needs X_val")
        elif self.early_stopping:
            out = _hold_out(codes, float(self.validation_fraction), derive_seed(seed, "validation"))
            held, rows = (_take(data, out), codes[out]), np.setdiff1d(rows, out)
        train = _take(data, rows), torch.tensor(codes[rows], dtype=torch.float64)
        folder = None if checkpoint is None else Path(checkpoint)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self.modules_: list[nn.Module] = []
        self.last_modules_: list[nn.Module] = []
        self.history_: list[dict[str, Any]] = []
        self.training_: list[DescentResult] = []
        stages, n_members = self._stages(), int(getattr(self, "n_members", 1))
        for member in range(n_members):
            net = self._new_module(train[0], derive_seed(seed, "module", member))
            last = copy.deepcopy(net)
            for i, (stage, options) in enumerate(stages.items()):
                path = None if folder is None else folder / f"{stage}-{member}.pt"
                key = derive_seed(seed, stage, member)
                done, total = member * len(stages) + i, n_members * len(stages)
                tell = None if progress is None else partial(_tell, progress, done / total, 1 / total)
                self._descend(net, last, train, held, key, member, stage, path, tell, **options)
                if self.training_[-1].stopped == "interrupted":
                    break
            self.modules_.append(net.eval())
            self.last_modules_.append(last.eval())
            if self.training_[-1].stopped == "interrupted":
                warn("the training was interrupted; the answers are those of what was trained until then",
                     ConvergenceWarning)  # fmt: skip
                break
        return self

    def decision_function(self, X: Any) -> Float[np.ndarray, " n"]:
        """Log-odds of the event; of an ensemble, those of its mean probability.

        Parameters
        ----------
        X : array-like, data frame, Tensor or torch Dataset, shape (n, ...)
        """
        return self._log_odds(X, "modules_")

    def predict_proba(self, X: Any) -> Float[np.ndarray, "n 2"]:
        """Probabilities of the two labels.

        Parameters
        ----------
        X : array-like, data frame, Tensor or torch Dataset, shape (n, ...)
        """
        return _pair(self.decision_function(X))

    def predict(self, X: Any) -> np.ndarray:
        """Label of the larger probability.

        Parameters
        ----------
        X : array-like, data frame, Tensor or torch Dataset, shape (n, ...)
        """
        z = self.decision_function(X)
        return self.classes_[(z > 0).astype(int)]

    def memorization(
        self, X: Any, y: Any, p_true: Any = None, *, n_bins: int | np.integer = 15
    ) -> MemorizationReport:
        """What the epochs after the best one did to the probabilities of new samples.

        The area under the curve is NaN where ``y`` holds one outcome only.

        Parameters
        ----------
        X : array-like, data frame, Tensor or torch Dataset, shape (n, ...)
        y : array-like, shape (n,)
            Their outcomes.
        p_true : array-like, shape (n,), optional
            True probabilities of the second label.
        """
        _, labels = self._read(X, y, "X", "y", reset=False)
        if len(strange := labels[~np.isin(labels, self.classes_)]):
            raise ValueError(
                f"y has the label {str(strange[0])!r}, which is none of {self.classes_.tolist()}"
            )
        outcome = (labels == self.classes_[1]).astype(int)
        both = [_pair(self._log_odds(X, name))[:, 1] for name in ("modules_", "last_modules_")]
        best, last = (probability_metrics(p, outcome, p_true, n_bins=int(n_bins)) for p in both)
        sure = [float((np.minimum(p, 1 - p) < 0.01).mean()) for p in both]
        one = [record for record in self.history_ if record["member"] == 0]
        return MemorizationReport(
            best, last, (sure[0], sure[1]), *(tuple(r[k] for r in one) for k in ("loss", "val_log_loss"))
        )

    # ---------------------------------------------------------------------------------------------- inside

    def _check_options(self) -> None:
        check_choice(self.loss, LOSSES, "loss")
        if self.strength is not None:
            if self.loss == "ce":
                raise ValueError('strength belongs to other losses; leave it None with loss="ce"')
            check_in_range(self.strength, "strength", low=1e-6 if self.loss == "mixup" else 0, high=1e6)
        check_in_range(self.adversarial, "adversarial", low=0, high=1)
        check_counts(n_members=self.n_members, epochs=self.epochs)
        self._check_common()

    def _check_common(self) -> None:
        check_counts(batch_size=self.batch_size, patience=self.patience)
        fraction = check_in_range(self.validation_fraction, "validation_fraction", low=0, high=1)
        if fraction in (0, 1):
            raise ValueError(f"validation_fraction must lie between 0 and 1, got {fraction}")
        if not isinstance(self.early_stopping, bool | np.bool_):
            raise TypeError(f"early_stopping must be True or False, got {self.early_stopping!r}")
        if self.module is not None and not callable(self.module):
            raise TypeError(
                f"module must be an nn.Module, what makes one, or None; got {type(self.module).__name__}"
            )
        if isinstance(self.module, nn.Module) and getattr(self, "n_members", 1) > 1:
            raise ValueError(
                "members of an ensemble must begin with weights of their own: give what makes the module, such as "
                "its class, instead of a module"
            )
        if self.device is not None:
            check_device(self.device)
        as_generator(self.random_state)
        DescentRecipe(epochs=1, lr=self.lr, optimizer=self.optimizer)

    def _read(self, X: Any, y: Any, name: str, y_name: str, *, reset: bool) -> tuple[Any, np.ndarray]:
        """Samples as a Dataset or a tensor, and their labels as they are."""
        if isinstance(X, Dataset):
            n = len(X)  # type: ignore[arg-type]
            if y is None:
                y = [plain_array(X[i][1], y_name).item() for i in range(n)]
            return X, plain_labels(y, n, name=y_name)
        data = self._samples(X, name, reset=reset)
        if y is None:
            raise ValueError(
                f"requires y to be passed, but the target y is None: give the outcomes {y_name} of {name}"
            )
        labels = plain_labels(y, len(data), name=y_name)
        if plain_array(y, y_name).ndim == 2:
            message = f"A column-vector {y_name} was passed when a 1d array was expected; use y.ravel()"
            warn(message, DataConversionWarning)
        return torch.from_numpy(data), labels

    def _samples(self, X: Any, name: str, *, reset: bool) -> np.ndarray:
        words = isinstance(self.module, nn.Module) and any(
            isinstance(part, nn.Embedding | nn.EmbeddingBag) for part in self.module.modules()
        )
        dtype: Any = np.int64 if words else np.float64
        array = X if hasattr(X, "columns") else plain_array(X, name) if not hasattr(X, "tocsr") else X
        if getattr(array, "ndim", 2) > 2:
            flat = check_matrix(array.reshape(len(array), -1), name=name, dtype=dtype)
            data = flat.reshape(array.shape)
        else:
            data = check_matrix(X, name=name, dtype=dtype)
        shape, known = data.shape[1:], getattr(self, "_shape", None)
        validate_data(self, X if hasattr(X, "columns") else data, skip_check_array=True, reset=reset)
        if reset:
            self._shape = shape
        elif known is not None and known != shape:
            raise ValueError(f"samples of {name} have shape {shape}, those of the fit {known}")
        return np.require(data, requirements=["C", "W"])  # as torch takes them

    def _new_module(self, data: Any, seed: int) -> nn.Module:
        if self.module is None:
            if isinstance(data, Dataset) or data.ndim != 2:
                raise ValueError(
                    "module=None is a network for tables (rows of numbers); give a module for such samples"
                )
            widths = [data.shape[1], 64, 64, 1]
            net: Any = nn.Sequential(
                _Standardise(data.numpy()), build_seeded(lambda: mlp(widths), seed)
            ).double()
        else:
            net = (
                copy.deepcopy(self.module)
                if isinstance(self.module, nn.Module)
                else build_seeded(self.module, seed)
            )
        if not isinstance(net, nn.Module):
            raise TypeError(f"module must make an nn.Module, got {type(net).__name__}")
        return net if self.device is None else net.to(check_device(self.device))

    def _stages(self) -> dict[str, dict[str, Any]]:
        """Options of each descent in turn."""
        return {
            "training": {"epochs": self.epochs, "lr": self.lr, "patience": self.patience, "retarget": None}
        }

    def _descend(
        self,
        net: nn.Module,
        last: nn.Module,
        train: tuple[Any, Tensor],
        held: tuple[Any, np.ndarray] | None,
        seed: int,
        member: int,
        stage: str,
        path: Path | None,
        progress: Any,
        *,
        epochs: Any,
        lr: Any,
        patience: Any,
        retarget: Callable[[int], str] | None,
    ) -> None:
        """Lower the loss from the net's weights; ``retarget`` says what an epoch (from 0) trains towards."""
        data, outcome = train
        name = getattr(self, "loss", "ce")
        strength = LOSSES[name] if getattr(self, "strength", None) is None else self.strength
        memory = _Memory(outcome.clone().to(model_device(net)))
        share = float(getattr(self, "adversarial", 0.0))
        step = share * _ranges(data, net) if share else None

        def objective(x: Tensor, t: Tensor) -> Tensor:
            if name == "mixup":
                share = torch.distributions.Beta(float(strength), float(strength)).sample().to(x)
                other = torch.randperm(len(x), device=x.device)
                x, t = x.lerp(x[other], 1 - share), t.lerp(t[other], (1 - share).to(t))
            z = log_odds(net(x))
            return loss_of(name, z, t.to(z), strength)

        def loss(x: Tensor, at: Tensor) -> Tensor:
            x, t = _as_input(net, x), memory.targets[at]
            if step is None:
                return objective(x, t)
            x = x.detach().requires_grad_()
            value = objective(x, t)
            (slope,) = torch.autograd.grad(value, x, retain_graph=True)
            return (value + objective(x.detach() + step * slope.sign(), t)) / 2

        def aim(epoch: int) -> str:
            towards = "outcomes" if retarget is None else retarget(epoch)
            target = outcome
            if towards != "outcomes":
                p = torch.sigmoid(_logits(net, data)).numpy()
                target = torch.from_numpy(self._targets(p, outcome.numpy().astype(int)))
            memory.targets.copy_(target)
            return towards

        def score() -> float:
            assert held is not None
            z, y = _logits(net, held[0]), torch.from_numpy(held[1]).double()
            value = float(cross_entropy(z, y))
            if math.isfinite(value):
                found = probability_metrics(torch.sigmoid(z).numpy(), held[1], n_bins=min(15, len(held[1])))
                memory.measured = {"val_log_loss": value, "val_brier": found.brier, "val_ece": found.ece}
            return -value

        towards = [aim(0)]

        def on_epoch(run: Any) -> None:
            nothing = dict.fromkeys(("val_log_loss", "val_brier", "val_ece"), math.nan)
            record = {"member": member, "stage": stage, "epoch": run.epoch, "targets": towards[0]}
            memory.history.append({**record, "loss": run.mean_loss, **nothing, **memory.measured})
            memory.measured = {}
            memory.last = copy.deepcopy(net.state_dict())
            if run.stopped is None:
                towards[0] = aim(run.epoch)

        recipe = DescentRecipe(
            epochs=int(epochs),
            lr=float(lr),
            batch_size=int(self.batch_size),
            optimizer=self.optimizer,
            patience=int(patience) if self.early_stopping and held is not None else None,
        )
        first = net.train()
        rows = data if isinstance(data, Dataset) else (data, torch.arange(len(outcome)))
        settings = {"y": outcome, "options": [str(getattr(self, k, None)) for k in _TOLD]}
        if held is not None and not isinstance(held[0], Dataset):
            settings |= {"X_val": held[0], "y_val": held[1]}
        with threads_for(sum(p.numel() for p in first.parameters()), model_device(net)):
            result = descend(
                loss, net, recipe, rows, random_state=seed, score=None if held is None else score, on_epoch=on_epoch,
                checkpoint=path, keep={"memory": memory}, identity=settings, progress=progress,
            )  # fmt: skip
        if memory.last:
            last.load_state_dict(memory.last)
        self.training_.append(result)
        self.history_ += memory.history

    def _targets(self, p: np.ndarray, y: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _log_odds(self, X: Any, name: str) -> Float[np.ndarray, " n"]:
        check_is_fitted(self)
        if isinstance(X, Dataset):
            data: Any = _Indexed(X, np.arange(len(X)))  # type: ignore[arg-type]
        else:
            data = torch.from_numpy(self._samples(X, "X", reset=False))
        logits = torch.stack([_logits(net, data) for net in getattr(self, name)])
        if not bool(logits.isfinite().all()):
            raise ValueError(
                "the network answers numbers that are not finite: its training diverged; lower lr"
            )
        event, other = logsigmoid(logits).logsumexp(0), logsigmoid(-logits).logsumexp(0)
        return (logits[0] if len(logits) == 1 else event - other).numpy()


_TOLD = ("loss", "strength", "adversarial", "variant", "n_bins", "bandwidth", "window", "target_every")


def _tell(progress: Callable[[float, str], Any], start: float, share: float, done: float, text: str) -> None:
    """Say how far the whole has come, of one descent among several."""
    progress(start + share * done, text)


def _pair(z: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 2"]:
    p = torch.sigmoid(torch.from_numpy(z)).numpy()
    return np.column_stack([1 - p, p])


def _take(data: Any, rows: Int[np.ndarray, " n"]) -> Any:
    return _Indexed(data, rows) if isinstance(data, Dataset) else data[torch.from_numpy(rows)]


def _hold_out(codes: Int[np.ndarray, " n"], fraction: float, seed: int) -> Int[np.ndarray, " m"]:
    """Rows of both labels, at least one of each, and one of each left."""
    rng, found = np.random.default_rng(seed), []
    for code in (0, 1):
        rows = np.flatnonzero(codes == code)
        if len(rows) < 2:
            raise ValueError(
                "a label has one row only, so none can be held out: give X_val and y_val, or early_stopping=False"
            )
        count = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
        found.append(rng.permutation(rows)[:count])
    return np.sort(np.concatenate(found))


def _ranges(data: Any, net: nn.Module) -> Tensor:
    """Of each input over the training samples."""
    if isinstance(data, Dataset):
        raise ValueError("adversarial needs the samples in an array, to know their ranges")
    return _as_input(net, data.amax(0) - data.amin(0))


class CaPE(ProbabilisticNet):
    """Calibrated probability estimation: early stopping, then outcomes and empirical probabilities in turn.

    Parameters
    ----------
    module, optimizer, lr, batch_size, early_stopping, patience, validation_fraction, device, random_state
        As of :class:`ProbabilisticNet`.
    variant : {"bin", "kde"} or None
        What the second stage trains towards, see :func:`empirical_probabilities`; None: the outcomes in every epoch,
        which is plain training for as long.
    n_bins, bandwidth, window
        As there.
    target_every : int
        Every so many-th epoch of the second stage, the first included, is one with empirical probabilities.
    epochs : int
        Of the first stage at most; 0 begins with the second, from the module's weights as they are.
    fine_tune_epochs, fine_tune_lr
        Of the second stage. It stops early only by returning to its best epoch.

    Attributes
    ----------
    classes_, modules_, last_modules_, history_, training_
        As of :class:`ProbabilisticNet`. The first stage's best network is where the second begins.

    References
    ----------
    Liu et al. 2021, arXiv 2111.10734.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(400, 3))
    >>> y = rng.random(400) < 1 / (1 + np.exp(-X[:, 0]))
    >>> model = CaPE(epochs=3, fine_tune_epochs=2, random_state=0).fit(X, y)
    >>> [(r["stage"], r["targets"]) for r in model.history_][-2:]
    [('fine-tuning', 'bin'), ('fine-tuning', 'outcomes')]
    """

    def __init__(
        self,
        module: Any = None,
        *,
        optimizer: Any = "adam",
        variant: Any = "bin",
        n_bins: Any = 15,
        bandwidth: Any = 0.05,
        window: Any = 500,
        target_every: Any = 2,
        lr: Any = 1e-3,
        batch_size: Any = 128,
        epochs: Any = 30,
        fine_tune_epochs: Any = 12,
        fine_tune_lr: Any = 5e-4,
        early_stopping: Any = True,
        patience: Any = 5,
        validation_fraction: Any = 0.2,
        device: Any = None,
        random_state: Any = None,
    ):
        self.module = module
        self.optimizer = optimizer
        self.variant = variant
        self.n_bins = n_bins
        self.bandwidth = bandwidth
        self.window = window
        self.target_every = target_every
        self.lr = lr
        self.batch_size = batch_size
        self.epochs = epochs
        self.fine_tune_epochs = fine_tune_epochs
        self.fine_tune_lr = fine_tune_lr
        self.early_stopping = early_stopping
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.device = device
        self.random_state = random_state

    def _check_options(self) -> None:
        if self.variant is not None:
            check_choice(self.variant, VARIANTS, "variant")
        check_in_range(self.epochs, "epochs", low=0, integer=True)
        check_counts(
            n_bins=self.n_bins,
            window=self.window,
            target_every=self.target_every,
            fine_tune_epochs=self.fine_tune_epochs,
        )
        check_in_range(self.bandwidth, "bandwidth", low=1e-3, high=1e3)
        DescentRecipe(epochs=1, lr=self.fine_tune_lr)
        self._check_common()

    def _stages(self) -> dict[str, dict[str, Any]]:
        def retarget(epoch: int) -> str:
            return self.variant if self.variant is not None and epoch % self.target_every == 0 else "outcomes"

        tune = {"epochs": self.fine_tune_epochs, "lr": self.fine_tune_lr, "patience": self.fine_tune_epochs}
        first = super()._stages() if self.epochs else {}
        return {**first, "fine-tuning": {**tune, "retarget": retarget}}

    def _targets(self, p: np.ndarray, y: np.ndarray) -> np.ndarray:
        if self.variant == "bin" and len(p) < self.n_bins:
            raise ValueError(f"n_bins={self.n_bins} needs as many training rows, got {len(p)}; lower n_bins")
        return empirical_probabilities(
            p, y, variant=self.variant, n_bins=self.n_bins, bandwidth=self.bandwidth, window=self.window
        )


@dataclass(frozen=True)
class MemorizationReport(Result):
    """What training beyond the best epoch does to probabilities.

    Attributes
    ----------
    best, last : ProbabilityMetrics
        Of the network that answers, and of the one after the last epoch.
    sure : pair of float
        Share of their probabilities within 0.01 of 0 or 1.
    loss, val_log_loss : tuple of float
        Of the first member's epochs, both stages; the loss is on the targets of the epoch.
    """

    best: ProbabilityMetrics
    last: ProbabilityMetrics
    sure: tuple[float, float]
    loss: tuple[float, ...]
    val_log_loss: tuple[float, ...]

    def to_frame(self) -> Any:
        """Return a row of metrics for the best and the last network."""
        import pandas as pd

        return pd.DataFrame([vars(self.best), vars(self.last)], index=["best", "last"])

    def plot(self, ax: Any = None) -> Any:
        """Draw both losses over the epochs, and return the axes."""
        from lodim.plots import COLORS, new_axes

        ax, epoch = new_axes(ax), np.arange(1, len(self.loss) + 1)
        ax.plot(epoch, self.loss, color=COLORS[0], label="training targets")
        ax.plot(epoch, self.val_log_loss, color=COLORS[1], label="validation outcomes")
        ax.set(xlabel="epoch", ylabel="cross-entropy (nats)")
        ax.legend()
        return ax

    def __str__(self) -> str:
        return (
            f"best network: {self.best}; {self.sure[0]:.0%} within 0.01 of 0 or 1\n"
            f"last network: {self.last}; {self.sure[1]:.0%} within 0.01 of 0 or 1"
        )
