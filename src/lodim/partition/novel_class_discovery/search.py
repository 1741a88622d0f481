r"""Settings for novel classes without a label of theirs: known classes are hidden, and asked for back.

In each fold some of the known classes lose their labels. A setting learns from the others, sorts the hidden rows into
as many clusters as classes are hidden, and its score is the accuracy of that under the best naming. What finds hidden
classes best is trusted with the novel ones. Every class is hidden at least once: with the C classes on a circle, in
random order, fold f of F hides the h that follow place :math:`\lfloor f C / F \rfloor`, which with :math:`h F \ge C`
leaves none out.

All trials and folds begin with the same random numbers, so that their differences are those of the settings.
Projections of one shape are trained as one stack of nets
(:mod:`~lodim.partition.novel_class_discovery.projection`).

===========================  =====================================
in the paper                 name here
===========================  =====================================
k folds                      ``n_folds``
classes hidden in a fold     ``n_hidden``
===========================  =====================================

Source: Colin Troisemaine and others, 2023, arXiv 2311.05440. The paper searches with a tree-structured Parzen
estimator; here settings are drawn at random. How many classes it hides could not be read: ``n_hidden`` is half of them,
two at least.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int
from scipy import stats
from sklearn.base import MetaEstimatorMixin, clone
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.model_selection import ParameterSampler
from sklearn.utils.validation import check_is_fitted

from lodim.metrics import clustering_accuracy
from lodim.partition.novel_class_discovery.clustering import NCDSpectralClustering, NovelClassEstimator
from lodim.partition.novel_class_discovery.projection import (
    PBN,
    UselessTraining,
    centred,
    train_projections,
)
from lodim.randomness import as_generator, derive_seed, root_seed
from lodim.results import Result
from lodim.validation import (
    ConvergenceWarning,
    check_counts,
    check_in_range,
    check_labels,
    checked,
    plain_array,
    warn,
)

__all__ = ["NCDSearchCV", "NovelClassScores", "hidden_classes", "novel_class_scores"]


@dataclass(frozen=True)
class NovelClassScores(Result):
    """How well novel classes were found and known ones kept.

    Attributes
    ----------
    acc : float
        Share of novel rows that are right under the best one-to-one naming; rows said to be of a known class are wrong.
    nmi, ari : float
        Normalised mutual information and adjusted Rand index on novel rows.
    balanced_acc : float
        Mean over known classes of the share of their rows that are right; NaN without such rows.
    n_novel_rows, n_known_rows : int
    """

    acc: float
    nmi: float
    ari: float
    balanced_acc: float
    n_novel_rows: int
    n_known_rows: int

    def __str__(self) -> str:
        known = "" if math.isnan(self.balanced_acc) else f"; known balanced ACC {self.balanced_acc:.3f}"
        return f"novel ACC {self.acc:.3f}, NMI {self.nmi:.3f}, ARI {self.ari:.3f}{known}"


@checked
def novel_class_scores(y_true: Any, y_pred: Any, known_classes: Any) -> NovelClassScores:
    """Judge labels where the truth of novel rows is known after all.

    Parameters
    ----------
    y_true, y_pred : array-like, shape (n,)
        True classes, and what was predicted: names of novel classes are arbitrary.
    known_classes : array-like, shape (n_known,)
        Labels of the known classes; rows of any other class are novel ones.

    Raises
    ------
    ValueError
        No novel row, missing labels, or different numbers of them.

    Examples
    --------
    >>> print(novel_class_scores([0, 0, 1, 1, 2, 2], [0, 0, 7, 7, 5, 0], known_classes=[0]))
    novel ACC 0.750, NMI 0.800, ARI 0.571; known balanced ACC 1.000
    """
    n, n_classes = (
        len(plain_array(values, name, rows=True))
        for values, name in ((y_true, "y_true"), (known_classes, "known_classes"))
    )
    true, said = check_labels(y_true, n, name="y_true"), check_labels(y_pred, n, name="y_pred")
    known = check_labels(known_classes, n_classes, name="known_classes")
    for values, name in ((true, "y_true"), (said, "y_pred"), (known, "known_classes")):
        if values.dtype.kind == "V":
            raise TypeError(f"{name} must hold labels, one a row, got records of several fields")
    of_known = np.isin(true, known)
    for values, name, counts in ((true, "y_true", len(known)), (said, "y_pred", of_known.any())):
        if counts and _are_texts(values) != _are_texts(known):
            raise TypeError(
                f"{name} and known_classes must both be texts or both numbers, or no label is a known one"
            )
    if of_known.all():
        raise ValueError("y_true has no row of a novel class; there is nothing to score")
    rows, answers = true[~of_known], said[~of_known]
    named_known = np.isin(answers, known)
    right = 0.0 if named_known.all() else clustering_accuracy(rows[~named_known], answers[~named_known])
    recalls = [float((said[true == c] == c).mean()) for c in np.unique(true[of_known])]
    return NovelClassScores(
        float(right * (1 - named_known.mean())),
        float(normalized_mutual_info_score(rows, answers)),
        float(adjusted_rand_score(rows, answers)),
        float(np.mean(recalls)) if recalls else math.nan,
        len(rows),
        int(of_known.sum()),
    )


def _are_texts(labels: np.ndarray) -> bool:
    return labels.dtype.kind in "US" or any(isinstance(label, str) for label in labels.tolist())


def hidden_classes(
    n_classes: int, n_folds: int, n_hidden: int, rng: np.random.Generator
) -> list[Int[np.ndarray, " n_hidden"]]:
    """Classes that each fold hides, ascending; each class at least once."""
    order = rng.permutation(n_classes)
    starts = (fold * n_classes // n_folds for fold in range(n_folds))
    return [np.sort(order[(start + np.arange(n_hidden)) % n_classes]) for start in starts]


def _score(
    model: Any, trained: Any, rows: np.ndarray, codes: np.ndarray, shown: np.ndarray, hidden: np.ndarray
) -> float:
    """Accuracy on hidden rows; NaN where the training came to nothing."""
    try:
        if trained is None:
            clusters = model._sort_rows(rows, shown, hidden)
        else:
            clusters = model._sort_latents(trained[0].latents(rows), shown, hidden)
    except UselessTraining:
        return math.nan
    return clustering_accuracy(codes[hidden], clusters)


def _tell(progress: Any, first: float, share: float, done: float, text: str) -> None:
    progress(0.9 * (first + share * done), text)


class _NearOne:
    """A distribution on [0, 1] that is log-uniform in the distance to one, from .001 to 1."""

    def rvs(self, random_state: Any = None) -> float:
        return 1.0 - float(stats.loguniform(1e-3, 1.0).rvs(random_state=random_state))


@dataclass(eq=False, repr=False)
class NCDSearchCV(MetaEstimatorMixin, NovelClassEstimator):
    """Random search for the settings that find hidden known classes best.

    Parameters
    ----------
    estimator : PBN, NCDKMeans, NCDSpectralClustering or TabularNCD
        Its own ``n_novel`` (None: counted) is for the novel classes; that of hidden ones is known. The search's
        random_state replaces its own.
    param_distributions : dict of str to list or distribution, optional
        As of scikit-learn's ``RandomizedSearchCV``. Default, for PBN: lr log-uniform from .0001 to .01, dropout
        uniform to .6, and w with 1 - w log-uniform from .001 to 1; for spectral clustering ``min_dist`` uniform from
        .01 to .99 and ``n_components`` from 2 to 30, or to the rows of a fold less two.
    n_trials : int
        Settings tried.
    n_folds : int
    n_hidden : int, optional
        Known classes hidden in a fold, two at least; default: half of them, but two or more.
    include_novel : bool
        Whether the rows without a label take part, unlabelled, in the training of folds; they are not scored.
    stack : bool
        Whether projections are trained as one; otherwise one after the other, with the same answer up to rounding.
    random_state : int, Generator or None

    Attributes
    ----------
    best_params_ : dict
    best_score_ : float
        Mean accuracy on hidden classes.
    best_estimator_ : estimator
        Fitted to all rows with these.
    cv_results_ : dict of str to sequence
        As of scikit-learn: ``params``, ``mean_test_score``, ``std_test_score``, ``rank_test_score`` and
        ``split<f>_test_score``.
    hidden_ : list of ndarray
        Labels that each fold hides.
    labels_, classes_, novel_classes_, n_novel_, count_
        Of the best estimator.

    References
    ----------
    Troisemaine et al. 2023, arXiv 2311.05440.

    Examples
    --------
    >>> import numpy as np
    >>> from lodim.partition import NCDKMeans, NCDSearchCV
    >>> X = np.random.default_rng(0).normal(size=(180, 3)) + np.repeat(6 * np.eye(6, 3, k=-1), 30, axis=0)
    >>> y = np.repeat([0, 1, 2, 3, -1, -1], 30)
    >>> search = NCDSearchCV(NCDKMeans(2), {"power": [1, 2]}, n_trials=2, random_state=0).fit(X, y)
    >>> len(search.cv_results_["params"]), search.n_novel_
    (2, 2)
    """

    estimator: Any = None
    param_distributions: Any = None
    _: KW_ONLY
    n_trials: Any = 20
    n_folds: Any = 3
    n_hidden: Any = None
    include_novel: Any = False
    stack: Any = True
    random_state: Any = None

    _needs_known: ClassVar[bool] = True

    def fit(self, X: Any, y: Any = None, *, progress: Any = None) -> NCDSearchCV:
        """Search, and fit the best to all rows.

        Parameters
        ----------
        X : array-like, shape (n_samples, n_features)
        y : array-like, shape (n_samples,)
            Labels; -1, None or NaN for rows without one.
        progress : callable, optional
            ``progress(done, text)`` with done in [0, 1].

        Raises
        ------
        ValueError
            Fewer than three known classes (two are hidden, and one is learnt from), too few folds to hide every class,
            or what the estimator's fit refuses.
        """
        model = self._model
        if not isinstance(model, NovelClassEstimator) or isinstance(model, NCDSearchCV):
            raise TypeError(
                f"estimator must be one of novel classes, such as PBN or NCDKMeans, got {type(model).__name__}"
            )
        data, labels = self._read(X, y)
        seed = root_seed(self.random_state)
        n_hidden = self._check_folds(len(labels.classes))
        check_counts(n_trials=self.n_trials)
        kept = np.arange(len(data)) if self.include_novel else np.flatnonzero(labels.known)
        space = self._space(model, len(kept))
        drawn = ParameterSampler(
            space, int(self.n_trials), random_state=derive_seed(seed, "settings") % 2**31
        )
        settings = list(drawn)
        rng = as_generator(derive_seed(seed, "folds"))
        folds = hidden_classes(len(labels.classes), int(self.n_folds), n_hidden, rng)
        self.hidden_ = [self.classes_[hidden] for hidden in folds]
        common = {"random_state": derive_seed(seed, "trainings")}
        models = [
            clone(model).set_params(**setting, **common, n_novel=n_hidden)
            for setting in settings
            for _ in folds
        ]
        scores = self._scores(models, data[kept], labels.codes[kept], folds, progress)
        self._note(settings, scores.reshape(len(settings), len(folds)))
        best = clone(model).set_params(**self.best_params_, **common)
        self.best_estimator_ = best.fit(X, y)
        for name in ("labels_", "novel_classes_", "n_novel_", "count_"):
            setattr(self, name, getattr(best, name))
        if progress is not None:
            progress(1.0, f"best score {self.best_score_:.3f}")
        return self

    @property
    def _model(self) -> Any:
        return PBN() if self.estimator is None else self.estimator

    @property
    def n_novel(self) -> Any:  # type: ignore[override]
        """Of the estimator."""
        return self._model.n_novel

    @property
    def n_novel_range(self) -> Any:  # type: ignore[override]
        """Of the estimator."""
        return self._model.n_novel_range

    def _check_folds(self, n_classes: int) -> int:
        n_hidden = max(2, n_classes // 2) if self.n_hidden is None else self.n_hidden
        check_in_range(n_hidden, "n_hidden", low=2, integer=True)
        check_counts(n_folds=self.n_folds)
        if n_hidden >= n_classes:
            raise ValueError(
                f"{n_hidden} known classes cannot be hidden and others learnt from: y has {n_classes} class(es), and "
                f"the search needs {n_hidden + 1}"
            )
        if self.n_folds > n_classes or self.n_folds * n_hidden < n_classes:
            raise ValueError(
                f"n_folds={self.n_folds} folds that hide {n_hidden} classes each cannot hide every one of {n_classes} "
                f"in ways that differ; give from {-(-n_classes // n_hidden)} to {n_classes} folds"
            )
        return int(n_hidden)

    def _space(self, model: NovelClassEstimator, n: int) -> Any:
        if self.param_distributions is not None:
            if not isinstance(self.param_distributions, dict) or not self.param_distributions:
                raise TypeError(
                    f"param_distributions must be a dict of lists or distributions, got {self.param_distributions!r}"
                )
            if taken := sorted({"n_novel", "random_state"} & self.param_distributions.keys()):
                raise ValueError(f"param_distributions must leave {' and '.join(taken)} to the search")
            return self.param_distributions
        if isinstance(model, PBN):
            return {"lr": stats.loguniform(1e-4, 1e-2), "dropout": stats.uniform(0, 0.6), "w": _NearOne()}
        if isinstance(model, NCDSpectralClustering):
            return {
                "min_dist": stats.uniform(0.01, 0.98),
                "n_components": stats.randint(2, max(3, min(31, n - 1))),
            }
        raise ValueError(f"there is no default space for {type(model).__name__}; give param_distributions")

    def _scores(
        self, models: Sequence[Any], data: np.ndarray, codes: np.ndarray, folds: Sequence[Any], progress: Any
    ) -> np.ndarray:
        """Accuracy on the hidden rows of each model; folds take turns."""
        parts = []
        for hidden in folds:
            left = np.full(codes.max() + 1, -1)
            shown = np.setdiff1d(np.arange(len(left)), hidden)
            left[shown] = np.arange(len(shown))
            parts.append((np.where(codes >= 0, left[codes], -1), np.isin(codes, hidden)))
        told = [parts[i % len(folds)] for i in range(len(models))]
        scores, projected = np.empty(len(models)), isinstance(models[0], PBN)
        at_once = len(models) if self.stack and projected else 1
        inside = centred(data)[0] if projected else data
        for start in range(0, len(models), at_once):
            part = slice(start, start + at_once)
            nets: list[Any] = [None] * at_once
            if projected:
                labels = np.stack([shown for shown, _ in told[part]], 1)
                share = (
                    None
                    if progress is None
                    else partial(_tell, progress, start / len(models), at_once / len(models))
                )
                nets = train_projections(models[part], inside, labels, interruptible=False, progress=share)
            for i, trained in enumerate(nets, start):
                scores[i] = _score(models[i], trained, inside, codes, *told[i])
            if progress is not None:
                progress(
                    0.9 * (start + at_once) / len(models), f"{start + at_once} of {len(models)} trainings"
                )
        if np.isnan(scores).any():
            warn(
                f"{int(np.isnan(scores).sum())} of {len(scores)} trainings came to nothing, and score so; narrow "
                "param_distributions",
                ConvergenceWarning,
                stacklevel=4,
            )
        return np.nan_to_num(scores)

    def _note(self, settings: list[dict[str, Any]], scores: np.ndarray) -> None:
        mean = scores.mean(1)
        best = int(mean.argmax())
        self.cv_results_ = {
            "params": settings,
            "mean_test_score": mean,
            "std_test_score": scores.std(1),
            "rank_test_score": stats.rankdata(-mean, method="min").astype(int),
            **{f"split{f}_test_score": scores[:, f] for f in range(scores.shape[1])},
        }
        self.best_params_, self.best_score_ = settings[best], float(mean[best])

    def predict(self, X: Any) -> np.ndarray:
        """Predict by the best estimator, as its own method does."""
        check_is_fitted(self, "best_estimator_")
        return self.best_estimator_.predict(X)

    def predict_novel(self, X: Any) -> np.ndarray:
        """Predict novel classes by the best estimator, as its own method does."""
        check_is_fitted(self, "best_estimator_")
        return self.best_estimator_.predict_novel(X)
