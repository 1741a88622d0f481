r"""Are there groups, how many, which rows surely belong, do new rows bring new ones: :func:`groups`.

A clusterer divides whatever it is given. A *statement* of groups needs a null: rows that have one summit of density,
be they a ball, a curved sheet, a long rectangle or a heavy tail, must answer "no groups". So groups here are what
valleys of the density part (:mod:`lodim.partition.density_tree`), along the rows' own neighbourhoods and in the
dimension that these have, where the valleys are deeper than those that ungrouped rows show by chance
(:mod:`lodim.partition.valley_null`). No projection, no shape of the groups and no number of them is assumed.

**Steps.** Of more than ``max_rows`` different rows a sample is measured, and the others follow their nearest. The tree
is read at several k, and the k that parts the most groups is taken (of equals the one whose deepest valley is the
rarest). Then all of it is done again on ``n_resamples`` random subsets of four fifths of the rows, with neighbours that
are known already: how often the number of groups comes again, how well the groups agree (adjusted Rand index), and how
often each row is in its own.

**Rows.** A group comes again when a resample has one that shares more than half of the rows of both. A row is
*separable* when it is in its group in 95 % of the resamples that hold it, and all its k neighbours are in the same
group. It is in no group (-1) when it is in its own in less than half of the resamples in which that comes again, or
lies apart with too few others to be a group.

**Classes.** With y, of which some may be unlabelled (-1), a group is *new* when it holds fewer than a tenth of the
labelled rows that a random choice of its size would, with a chance (hypergeometric, times the groups) below 1 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import hypergeom
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics.cluster import contingency_matrix

from lodim.datasets import Dataset, read_source, read_table
from lodim.metrics import clustering_accuracy
from lodim.neighbors import NeighborIndex, first_occurrences
from lodim.neighbors.queries import safe_scale
from lodim.partition.density_tree import Neighborhoods, best_tree
from lodim.partition.grouping_answer import Group, Groups, Peer
from lodim.partition.partial_labels import PartialLabels, read_partial_labels
from lodim.partition.valley_null import FEWEST, chance, deep_enough, least_rows, scales
from lodim.randomness import RandomState, derive_seed, root_seed
from lodim.validation import check_in_range, check_matrix, checked, warn

__all__ = ["groups"]

_KEPT, _SURE, _HALF = 0.8, 0.95, 0.5
_NEW_LEVEL, _NEW_SHARE = 0.01, 0.1
_TOLD = 0.98  # of the rows, that one column puts into their groups
_PEER_ROWS, _PEER_MOST = 2000, 10


@checked
def groups(
    X: Any,
    y: Any = None,
    *,
    dimension: str | int | float | np.floating = "auto",
    level: float | int | np.floating = 0.05,
    n_resamples: int | np.integer = 20,
    max_rows: int | np.integer = 5000,
    compare: bool = False,
    random_state: RandomState = 0,
) -> Groups:
    """Say whether rows fall into groups, how many, which rows surely belong, and which groups are new.

    Parameters
    ----------
    X : array-like, shape (n_samples, n_features), pandas.DataFrame, str, Path, or lodim.datasets.Dataset
        Distances of an array are measured in its own units: bring columns to one scale first. A data frame, or the
        name of a data set or file, is read as a table (columns scaled, categories encoded), a Dataset as it is.
    y : array-like, shape (n_samples,), optional
        Classes, of which some rows may have none (-1, or NaN and None). They are compared with the groups, never used
        to find them. A Dataset brings its own.
    dimension : "auto" or float
        Of the rows; by default measured, on each part at the scale at which its density is compared.
    level : float
        Chance of groups where there are none.
    n_resamples : int
        Random subsets of four fifths of the rows on which everything is done again; at least 2.
    max_rows : int
        Different rows that are measured; of more a sample, which the others follow.
    compare : bool
        Whether to ask k-means with the silhouette, Gaussian mixtures with BIC, and HDBSCAN too (some seconds).
    random_state : int, Generator or None

    Returns
    -------
    Groups

    Raises
    ------
    ValueError
        Not a finite matrix; a dimension, level or number that is out of range; y of another length.

    Examples
    --------
    >>> import numpy as np
    >>> from lodim.partition import groups
    >>> rng = np.random.default_rng(0)
    >>> ball, other = rng.normal(size=(300, 4)), rng.normal(size=(300, 4)) + 4
    >>> groups(ball).n_groups, groups(np.vstack([ball, other])).n_groups
    (1, 2)
    """
    if isinstance(dimension, str) and dimension != "auto":
        raise ValueError(f"dimension must be 'auto' or a positive number, got {dimension!r}")
    given = None if isinstance(dimension, str) else float(check_in_range(dimension, "dimension", low=1e-3))
    check_in_range(level, "level", low=1e-6, high=0.5)
    check_in_range(n_resamples, "n_resamples", low=2, high=10_000, integer=True)
    check_in_range(max_rows, "max_rows", low=FEWEST, integer=True)
    seed = root_seed(random_state)
    data = _read(X, seed)
    known = None
    if y is not None:
        known = read_partial_labels(y, len(data.X))
    elif data.y is not None and data.kind == "classification":
        known = read_partial_labels(data.y, len(data.X))
    twin = first_occurrences(data.X)
    distinct = np.flatnonzero(twin == np.arange(len(twin)))
    rng, rows, notes = np.random.default_rng(derive_seed(seed, "rows")), distinct, list(data.notes)
    if len(distinct) > max_rows:
        rows = np.sort(rng.choice(distinct, int(max_rows), replace=False))
        notes.append(
            f"{len(rows):,} of {len(distinct):,} different rows were measured; the others follow their nearest."
        )
    unit = safe_scale(data.X)
    if unit != 1.0:
        data = replace(data, X=data.X / unit)
    if len(rows) < FEWEST:
        few = f"{len(rows)} different rows are too few to show groups; {FEWEST} are needed"
        warn(few)
        notes.append(f"{few}.")
        found = _one_group(data, rows, float(level))
    else:
        found = _measured(data, rows, float(level), given, int(n_resamples), seed)
    found = _told(_with_classes(_spread(found, data, rows, twin), known), data)
    beside = _peers(data.X[rows], found.labels[rows], seed) if compare and len(rows) >= FEWEST else ()
    return replace(found, beside=beside, notes=tuple(notes))


def _read(X: Any, seed: int) -> Dataset:
    if isinstance(X, str | Path):
        X = read_source(X, random_state=seed)
    elif hasattr(X, "columns"):
        X = read_table(X, max_rows=len(X))
    if isinstance(X, Dataset):
        check_matrix(X.X)
        return X
    single = str(getattr(X, "dtype", "")).removeprefix("torch.") in ("float32", "float16", "bfloat16")
    return Dataset(check_matrix(X, dtype=np.float32 if single else np.float64))


def _one_group(data: Dataset, rows: np.ndarray, level: float) -> Groups:
    """What is said of rows that are too few."""
    n, labels = len(rows), np.zeros(len(rows), dtype=np.int64)
    return Groups(
        n_groups=1, labels=labels, separable=labels > 0, repeated=math.nan, agreement=math.nan, n_resamples=0,
        p_value=1.0, groups=(Group(n, 0, 1.0, 1.0, math.nan, math.nan),), depths=np.empty(0), threshold=math.nan,
        level=level, dimension=math.nan, k=0, least=n, n_used=n, rows=rows, coordinates=_plane(data.X[rows], labels),
    )  # fmt: skip


def _measured(
    data: Dataset, rows: np.ndarray, level: float, given: float | None, n_resamples: int, seed: int
) -> Groups:
    """The groups of different rows, labels and the like for these alone."""
    X, n = np.ascontiguousarray(data.X[rows]), len(rows)
    ks = scales(n)
    needed = 2 * max(ks)
    lists = Neighborhoods.of(X, min(n - 1, math.ceil(1.25 * needed / _KEPT) + 20))
    k, tree = best_tree(lists, ks, level, given)
    labels, n_groups = tree.labels, len(tree.saddle)
    in_own, drawn, with_own, back = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n_groups)
    same, agreement = [], []
    for i in range(n_resamples):
        order = np.random.default_rng(derive_seed(seed, "resample", i)).permutation(n)
        kept = np.isin(np.arange(n), order[: round(_KEPT * n)])
        again = best_tree(lists.take(kept, needed), ks, level, given)[1]
        same.append(len(again.saddle) == n_groups)
        mine = labels[kept]
        comes, own = _again(mine, again.labels, n_groups)
        agreement.append(adjusted_rand_score(mine[mine >= 0], again.labels[mine >= 0]))
        drawn += kept
        in_own[kept] += own
        with_own[kept] += comes[mine] & (mine >= 0)
        back += comes
    often = in_own / np.maximum(drawn, 1)
    labels = np.where((with_own > 0) & (in_own < _HALF * with_own), -1, labels)
    united = (labels[lists.idx[:, :k]] == labels[:, None]).all(1)
    separable = (labels >= 0) & (often >= _SURE) & united & (n_groups > 1)
    deep = tree.part_depths if n_groups > 1 else np.zeros(1)  # nothing parts an only group from others
    p = np.array([chance(depth, n, k, len(ks)) for depth in deep])
    members = [labels == g for g in range(n_groups)]
    parts = tuple(
        Group(int(m.sum()), int(separable[m].sum()), math.exp(-depth), float(c), float(d), float(share))
        for m, depth, c, d, share in zip(members, deep, p, tree.part_dims, back / n_resamples)
    )
    deepest = chance(float(tree.depths[0]), n, k, len(ks)) if len(tree.depths) else 1.0
    return Groups(
        n_groups=n_groups,
        labels=labels,
        separable=separable,
        repeated=float(np.mean(same)),
        agreement=float(np.mean(agreement)),
        n_resamples=n_resamples,
        p_value=float(p.max()) if n_groups > 1 else deepest,
        groups=parts,
        depths=tree.depths,
        threshold=deep_enough(n, k, len(ks), level),
        level=level,
        dimension=tree.dimension,
        k=k,
        least=least_rows(n, k),
        n_used=n,
        rows=rows,
        coordinates=_plane(X, labels),
    )


def _again(labels: np.ndarray, others: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Which groups come again among others (Jaccard index above a half), and which rows are in their own then."""
    shared = np.zeros((n_groups, int(others.max()) + 1))
    both = (labels >= 0) & (others >= 0)
    np.add.at(shared, (labels[both], others[both]), 1)
    sizes, theirs = (np.bincount(v[v >= 0], minlength=m) for v, m in zip((labels, others), shared.shape))
    jaccard = shared / np.maximum(sizes[:, None] + theirs - shared, 1)
    partner = np.where(jaccard.max(1) > _HALF, jaccard.argmax(1), -2)
    return partner >= 0, both & (partner[labels] == others)


def _spread(found: Groups, data: Dataset, rows: np.ndarray, twin: np.ndarray) -> Groups:
    """Give every row of the data the label of its twin among the measured ones, or of the nearest of them."""
    n = len(data.X)
    labels, sure = np.full(n, -1, dtype=np.int64), np.zeros(n, dtype=bool)
    labels[rows], sure[rows] = found.labels, found.separable
    rest = np.setdiff1d(twin, rows)
    if len(rest) and found.n_groups == 1:
        labels[rest] = 0
    elif len(rest):
        index = NeighborIndex("l2").fit(data.X[rows])
        dist, nearest = (a[:, 0] for a in index.kneighbors(data.X[rest], k=1))
        reach = index.kneighbors(data.X[rows], k=found.k + 1)[0][:, -1]
        labels[rest] = found.labels[nearest]
        sure[rest] = found.separable[nearest] & (dist <= reach[nearest])
    labels, sure = labels[twin], sure[twin]
    sizes = np.bincount(labels[labels >= 0], minlength=found.n_groups)
    order = np.argsort(-sizes, kind="stable")  # the largest is 0, copies counted
    labels = np.where(labels >= 0, np.argsort(order)[labels], -1)
    separable = np.bincount(labels[sure], minlength=found.n_groups)
    parts = tuple(
        replace(found.groups[g], size=int(sizes[g]), separable=int(separable[i])) for i, g in enumerate(order)
    )
    return replace(found, labels=labels, separable=sure, groups=parts)


def _with_classes(found: Groups, known: PartialLabels | None) -> Groups:
    """Compare the groups with the classes, and say which of them are new."""
    if known is None or not known.known.any():
        return found
    labels, told = found.labels, known.known
    counts = np.bincount(labels[told & (labels >= 0)], minlength=found.n_groups)
    parts = []
    for group, count in zip(found.groups, counts.tolist()):
        expected = group.size * told.mean()
        p = found.n_groups * float(hypergeom.cdf(count, len(labels), int(told.sum()), group.size))
        new = found.n_groups > 1 and p < _NEW_LEVEL and count < _NEW_SHARE * expected
        parts.append(replace(group, n_known=count, new=bool(new)))
    both = told & (labels >= 0)
    return replace(
        found,
        groups=tuple(parts),
        ari_classes=float(adjusted_rand_score(known.codes[both], labels[both])),
        accuracy=clustering_accuracy(known.codes[both], labels[both]) if both.any() else None,
    )


def _told(found: Groups, data: Dataset) -> Groups:
    """Name a column that alone puts nearly all rows into their groups: by its values, or by thresholds."""
    if found.n_groups == 1:
        return found
    from sklearn.feature_selection import f_classif
    from sklearn.tree import DecisionTreeClassifier

    inside = found.labels >= 0
    X, labels = data.X[inside], found.labels[inside]
    names = np.array(data.origins if data.origins is not None else _names(data))
    varying = X.min(0) < X.max(0)
    X, names = X[:, varying].astype(np.float64), names[varying]
    with np.errstate(all="ignore"):
        ratios = np.nan_to_num(f_classif(X, labels)[0], nan=0.0, posinf=np.inf)
    best = list(dict.fromkeys(names[np.argsort(-ratios, kind="stable")[:20]].tolist()))
    for name in best:
        column = X[:, names == name]
        values, codes = np.unique(column, axis=0, return_inverse=True)
        if len(values) <= 2 * found.n_groups:
            table = contingency_matrix(codes.ravel(), labels)
            if table.max(1).sum() >= _TOLD * len(labels):
                return replace(found, told_by=name, told_by_values=True)
    for name in best:
        stump = DecisionTreeClassifier(max_leaf_nodes=found.n_groups, random_state=0)
        column = X[:, names == name]
        if stump.fit(column, labels).score(column, labels) >= _TOLD:
            return replace(found, told_by=name)
    return found


def _names(data: Dataset) -> Sequence[str]:
    return data.feature_names or [f"column {j}" for j in range(data.X.shape[1])]


def _plane(X: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Coordinates for the picture: two columns as they are; of more the plane through the groups' centres, or PCA's."""
    centred = X.astype(np.float64) - X.mean(0, dtype=np.float64)
    if X.shape[1] <= 2:
        return np.column_stack([centred, np.zeros(len(X))])[:, :2]
    axes = np.empty((0, X.shape[1]))
    names = np.unique(labels[labels >= 0])
    if len(names) > 1:
        centres = np.array([centred[labels == g].mean(0) for g in names])
        _, size, across = np.linalg.svd(centres - centres.mean(0), full_matrices=False)
        apart = size**2 / len(names) > 0.05 * (centred**2).sum(1).mean()
        axes = across[: min(2, len(names) - 1)][apart[: min(2, len(names) - 1)]]
    rest = centred - centred @ axes.T @ axes
    main = np.linalg.svd(rest[:: max(1, len(rest) // 2000)], full_matrices=False)[2]
    return centred @ np.vstack([axes, main])[:2].T


def _peers(X: np.ndarray, labels: np.ndarray, seed: int) -> tuple[Peer, ...]:
    """What k-means by silhouette, mixtures by BIC and HDBSCAN say, on 2,000 rows at most."""
    from sklearn.cluster import HDBSCAN, KMeans
    from sklearn.metrics import silhouette_score
    from sklearn.mixture import GaussianMixture

    some = np.random.default_rng(derive_seed(seed, "peers")).permutation(len(X))[:_PEER_ROWS]
    X, labels, state = X[some], labels[some], derive_seed(seed, "peer")
    means = [KMeans(k, n_init=4, random_state=state).fit(X).labels_ for k in range(2, _PEER_MOST + 1)]
    by_silhouette = max(means, key=lambda found: silhouette_score(X, found))
    family = "full" if X.shape[1] ** 2 * _PEER_MOST < len(X) else "diag"
    mixtures = [
        GaussianMixture(k, covariance_type=family, reg_covar=1e-6 * float(X.var()) + 1e-300, random_state=state).fit(X)
        for k in range(1, _PEER_MOST + 1)
    ]  # fmt: skip
    by_bic = min(mixtures, key=lambda model: model.bic(X)).predict(X)
    dense = HDBSCAN(copy=True).fit_predict(X)
    found = (("k-means by silhouette", by_silhouette), (f"Gaussian mixture by BIC ({family})", by_bic),
             ("HDBSCAN", dense))  # fmt: skip
    return tuple(
        Peer(name, len(set(other[other >= 0].tolist())), float(adjusted_rand_score(labels, other)))
        for name, other in found
    )
