"""
Have two networks learnt the same?
==================================

Two networks of one architecture, trained on the same digits from different
seeds, are right equally often. Whether they say the same of an image, and
in which sense the same, depends on what one is willing to overlook.
"""

# %%
# The same images through both, and what each layer says of them.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from lodim.nets import mlp
from lodim.plots import style
from lodim.randomness import build_seeded
from lodim.representation import (
    cka,
    collect,
    compare,
    linear_cka,
    linear_regression_r2,
    mean_cca,
    mutual_knn,
    null_calibrate,
    permutation_distance,
    procrustes_distance,
)
from lodim.training import Recipe, Task, fit

X, y = load_digits(return_X_y=True)
X_train, X_val, y_train, y_val = train_test_split(
    ((X - X.mean(axis=0)) / 8).astype(np.float32),
    y,
    test_size=0.4,
    random_state=0,
    stratify=y,
)
layers, nets = ["1", "3", "5", "6"], []  # after each ReLU, and the scores
names = ["first", "second", "third", "scores"]
for seed in (0, 1):
    net = build_seeded(lambda: mlp([64, 64, 64, 64, 10]), seed)
    task = Task.from_arrays(X_train, y_train, X_val, y_val)
    result = fit(net, task, Recipe(epochs=15), lr=2e-3, random_state=seed)
    print(f"seed {seed}: {result.score:.3f} of the validation images")
    nets.append(net)
a, b = (collect(net, layers, X_val) for net in nets)

# %%
# Layer beside layer. The measure overlooks rotations of the units, so it asks
# for the same geometry, not for the same neurons. In a network as small as this
# layers that follow each other differ little, and a layer is about as like the
# neighbours of its counterpart as like the counterpart itself.

grid = np.array([[cka(a[i], b[j]) for j in layers] for i in layers])
with style():
    figure_size = {"figsize": (7.2, 3.4), "layout": "constrained"}
    left, right = plt.figure(**figure_size).subplots(1, 2)
    mesh = left.imshow(grid, cmap="Blues", vmin=0.5, vmax=1)
    left.grid(False)
    for (i, j), value in np.ndenumerate(grid):
        left.text(
            j,
            i,
            f"{value:.2f}",
            ha="center",
            va="center",
            color="white" if value > 0.75 else "black",
        )
    left.set_xticks(range(4), names)
    left.set_yticks(range(4), names)
    left.set(xlabel="seed 1", ylabel="seed 0", title="debiased CKA")

    # What chance shows: 64 units each that have nothing in common.
    rows, rng = [20, 40, 80, 160, 320, 640], np.random.default_rng(0)
    for metric, name in (
        (mean_cca, "mean CCA"),
        (linear_cka, "biased CKA"),
        (cka, "debiased CKA"),
    ):
        chance = [
            np.mean(
                [
                    metric(rng.normal(size=(n, 64)), rng.normal(size=(n, 64)))
                    for _ in range(3)
                ]
            )
            for n in rows
        ]
        right.plot(rows, chance, ".-", label=name)
    right.set_xscale("log")
    right.set_xticks(rows, rows)
    right.minorticks_off()
    right.set(xlabel="rows", title="two kinds of noise, 64 units each")
    right.legend()

# %%
# The third hidden layer, by other measures, each with what shuffled rows show. Asked
# is another thing each time, so these numbers do not compete.

for metric in (
    permutation_distance,
    procrustes_distance,
    cka,
    mean_cca,
    linear_regression_r2,
    mutual_knn,
):
    found = null_calibrate(
        metric, a["5"], b["5"], n_permutations=20, random_state=0
    )
    print(f"{metric.__name__:22s}{found}")

# %%
# All of it in one call, with what shuffled samples and scrambled weights show.

found = compare(*nets, X_val, layers, random_state=0)
print(found)
found.plot()
