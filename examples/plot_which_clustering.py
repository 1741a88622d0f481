"""
Which clustering finds what?
============================

Nine sets of points whose groups are known, three of which have none. Six methods,
five of them left to find the number of groups by themselves. Every method fails
somewhere, and most of them without a word.
"""

# %%
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import HDBSCAN, KMeans, SpectralClustering
from sklearn.datasets import make_blobs, make_circles, make_moons
from sklearn.metrics import adjusted_rand_score, silhouette_score
from sklearn.mixture import GaussianMixture

from lodim.partition import PPP, groups
from lodim.plots import COLORS, style

N = 400
rng = np.random.default_rng(0)


# %%
# The points
# ----------
#
# Round groups far apart are what methods are shown with. Then come long groups of
# unlike size, groups that are no blobs, and a dense group inside a thin one.
# Three sets are one piece: to find groups there is to invent them. The last has
# four groups in 3 of its 50 columns, and noise in the others.


def stretched():
    y = np.repeat([0, 1, 2], [240, 100, 60])
    centres = np.array([(0.0, 0.0), (2.4, 0.5), (4.8, 1.0)])
    return rng.normal(size=(N, 2)) * [0.35, 1.6] + centres[y], y


def nested():
    y = np.repeat([0, 1], [160, 240])
    return rng.normal(size=(N, 2)) * np.array([0.15, 1.5])[y, None], y


def sheet():
    turn = 1.5 * np.pi * (1 + 2 * rng.random(N))
    roll = [turn * np.cos(turn), turn * np.sin(turn), 21 * rng.random(N)]
    return np.transpose(roll), np.zeros(N, int)


def in_noise():
    y = np.arange(N) % 4
    centres = np.zeros((4, 50))
    centres[:, :3] = [(2, 2, 2), (-2, 2, -2), (2, -2, -2), (-2, -2, 2)]
    return rng.normal(size=(N, 50)) + centres[y], y


corners = [(0, 0), (7, 1), (1, 7), (8, 8)]
SETS = {
    "round": make_blobs(N, centers=corners, random_state=0),
    "long, unequal": stretched(),
    "two moons": make_moons(N, noise=0.06, random_state=0),
    "two rings": make_circles(N, noise=0.05, factor=0.45, random_state=0),
    "dense in thin": nested(),
    "one Gaussian": (rng.normal(size=(N, 2)), np.zeros(N, int)),
    "a full square": (rng.random((N, 2)), np.zeros(N, int)),
    "a rolled sheet": sheet(),
    "50 columns": in_noise(),
}

# %%
# The methods
# -----------
#
# The first four are scikit-learn's, each with its usual way to a number of groups.
# A silhouette needs two groups, so k-means never says "none". HDBSCAN leaves
# points out, grey in the picture. Spectral clustering is told the true number,
# and two where there are none.

KS = range(2, 9)


def by_silhouette(X, _):
    fits = [KMeans(k, n_init=2, random_state=0).fit_predict(X) for k in KS]
    return max(fits, key=lambda labels: silhouette_score(X, labels))


def by_bic(X, _):
    options = {"n_init": 1, "init_params": "k-means++", "random_state": 0}
    fits = [GaussianMixture(k, **options).fit(X) for k in (1, *KS)]
    return min(fits, key=lambda fit: fit.bic(X)).predict(X)


def by_density(X, _):
    return HDBSCAN(min_cluster_size=15, copy=True).fit_predict(X)


def by_graph(X, k):
    graph = {"affinity": "nearest_neighbors", "n_neighbors": 10}
    return SpectralClustering(k, random_state=0, **graph).fit_predict(X)


METHODS = {
    "k-means,\nsilhouette": by_silhouette,
    "mixture,\nBIC": by_bic,
    "HDBSCAN": by_density,
    "spectral,\nk told": by_graph,
    "PPP": lambda X, _: PPP().fit_predict(X),
    "groups": lambda X, _: groups(X).labels,
}

# %%
# What they find
# --------------
#
# Below each picture: how many groups were found, and how well they agree with
# the true ones (adjusted Rand index; 1 is the same groups). A full green frame is
# the right number and an index of 0.8 or more. Three-dimensional points and
# those in 50 columns are shown by their first two.


def draw(ax, X, labels, truth):
    """Draw one cell; return whether the groups are the right ones."""
    n_found = len(set(labels) - {-1}) or 1
    index = adjusted_rand_score(truth, labels)
    right = n_found == len(set(truth)) and index >= 0.8
    colors = ["#C8C8C8" if k < 0 else COLORS[k % 6] for k in labels]
    ax.scatter(X[:, 0], X[:, 1], s=3, c=colors, linewidths=0)
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    found = f"{n_found} found" if n_found > 1 else "none found"
    ax.set_xlabel(f"{found}, {max(0, index):.2f}", fontsize=7, labelpad=2)
    ax.spines[:].set(
        visible=True,
        color=COLORS[2] if right else COLORS[1],
        linewidth=2.5 if right else 1.0,
        linestyle="-" if right else "--",
    )
    return right


n_right = dict.fromkeys(METHODS, 0)
with style(), warnings.catch_warnings():
    warnings.simplefilter("ignore")  # graphs in pieces
    fig, axes = plt.subplots(
        len(SETS), len(METHODS), figsize=(7.4, 11.5), layout="constrained"
    )
    for row, (what, (X, truth)) in zip(axes, SETS.items(), strict=True):
        k = len(set(truth))
        row[0].set_ylabel(
            f"{what}\n({k if k > 1 else 'no'} groups)", fontsize=8
        )
        for ax, (name, method) in zip(row, METHODS.items(), strict=True):
            n_right[name] += draw(ax, X, method(X, max(2, k)), truth)
    for ax, name in zip(axes[0], METHODS, strict=True):
        ax.set_title(name, fontsize=9, loc="center")

for name, n in n_right.items():
    print(f"{' '.join(name.split()):20} {n} of {len(SETS)}")

# %%
# Reading it
# ----------
#
# - k-means cuts into round pieces of like size, whatever there is. With groups far
#   apart that is right, in 50 columns too; a moon, a square and a sheet are cut
#   like anything else.
# - A mixture of full Gaussians takes long groups and unlike densities, and can say
#   "none", if that one piece is Gaussian. In 50 columns each component has 1,325
#   numbers to fit to 400 points, and BIC forbids a second one.
# - HDBSCAN follows any shape, and leaves out what is thin. It needs one density at
#   which the groups part, and in 50 columns no place is dense.
# - A graph of neighbours follows shapes too. But it cuts where it is told to,
#   through a Gaussian as well as between moons.
# - PPP finds round groups as k-means does, their number by what mixtures agree
#   with, and the same at every run. A piece that is no blob it cuts too.
# - ``groups`` asks whether a valley of the density is deeper than chance makes
#   valleys. It invents nothing; but the rings need more points than these before
#   their gap is certain, and in 50 columns 400 points show no valley.
#
# :doc:`/guide/which_clustering` says what to call for which data, and how to
# tell groups from pieces.
