"""
Do two networks learn the same units?
=====================================

Two nets that differ in nothing but their seed, on the digits of scikit-learn. Which
units of one are in the other, how many does it take to predict one, and would the
upper half of one net understand the other?
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from torch import nn

from lodim.nets import mlp
from lodim.plots import COLORS, style
from lodim.randomness import build_seeded
from lodim.representation import (
    CoClusterer,
    UnitMatcher,
    collect,
    compare_mappings,
    stitching_test,
    top_activating,
)
from lodim.training import Recipe, Task, fit

style()
X, y = load_digits(return_X_y=True)
task = Task.from_arrays(X[:1200] / 16, y[:1200], X[1200:] / 16, y[1200:])


def trained(seed: int) -> nn.Module:
    net = build_seeded(lambda: mlp([64, 32, 32, 10]), seed)
    found = fit(
        net, task, Recipe(epochs=30, batch_size=64), lr=3e-3, random_state=seed
    )
    print(f"seed {seed}: accuracy {found.score:.3f}")
    return net


a, b = trained(0), trained(1)
layers = [
    name for name, layer in a.named_modules() if isinstance(layer, nn.ReLU)
]
of_a, of_b = (collect(net, layers, task.X_val) for net in (a, b))

# %%
# Pairs
# -----
#
# Each unit with its best partner, and one to one. Where the two lines part, several
# units of one net are like one unit of the other.

axes = plt.figure(figsize=(8, 3)).subplots(1, len(layers), sharey=True)
for layer, ax in zip(layers, axes):
    found = UnitMatcher().fit(of_a[layer], of_b[layer])
    print(
        f"layer {layer}: {found.matching_}; random pairs {found.random_score_:.2f}"
    )
    found.matching_.plot(ax)
    live = ~found.dead_a_
    ax.plot(
        np.arange(1, live.sum() + 1),
        np.sort(found.semi_score_[live])[::-1],
        color=COLORS[1],
        label="semi",
    )
    ax.axhline(found.random_score_, color="grey", ls=":", label="random pairs")
    ax.set_title(f"layer {layer}")
    ax.legend()

# %%
# The best pair, and the digits to which both respond most.

first = UnitMatcher().fit(of_a[layers[0]], of_b[layers[0]])
shown = top_activating(of_a[layers[0]], of_b[layers[0]], first.match_, n_top=8)
print(shown)
best = int(first.match_score_[shown.units_a].argmax())
axes = plt.figure(figsize=(8, 2.2)).subplots(2, 8)
for row, top, name in zip(axes, (shown.top_a[best], shown.top_b[best]), "ab"):
    for ax, sample in zip(row, top):
        ax.imshow(X[1200 + sample].reshape(8, 8), cmap="gray_r")
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(f"net {name}")

# %%
# One, few or all units
# ---------------------

compared = compare_mappings(of_a[layers[0]], of_b[layers[0]], random_state=0)
print(compared)
compared.plot()

# %%
# Groups of units of both nets, and what the other net makes of the mapped layer.

groups = CoClusterer(random_state=0).fit(of_a[layers[0]], of_b[layers[0]])
print(groups.clusters_)
groups.clusters_.plot()

test = [(task.X_val, task.y_val)]
for how in ("one_to_one", None):
    print(stitching_test(a, b, layers[0], layers[0], task.X, test, mapping=how))
