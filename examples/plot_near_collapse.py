"""
Why features collapse only so far
=================================

The features of a classifier gather around their class means, layer by layer.
A model says how: each layer's features are as good for the labels as they can
be while staying near the last layer's. We push the handwritten digits through
it, and ask what each weight decay does.
"""

# %%
# 500 digits, seen through 64 random ReLU units: the features of a first layer.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from lodim.plots import COLORS, style
from lodim.representation import (
    NearCollapseModel,
    central_path,
    collapsed_minimizer,
    depth_profile,
)

X, y = load_digits(return_X_y=True)
rows = np.concatenate([np.flatnonzero(y == k)[:50] for k in range(10)])
X, y = X[rows] / 16, y[rows]
H0 = np.maximum(
    (X - X.mean(0)) @ np.random.default_rng(0).normal(size=(64, 64)), 0
)
H0 /= np.sqrt(np.square(H0).mean())

# %%
# Layer upon layer, each held to the one before: the variability within classes
# falls, in units of that between them.

layers = depth_profile(H0, y, lam_w=0.05, lam_h=0.01, beta=5.0, n_layers=8)
print(layers)
layers.plot()
plt.show()

# %%
# Many thin layers make a path. Which weight decay decides on collapse? Doubling
# the classifier's (lam_w) does a little, doubling the features' own (lam_h) more.

with style():
    ax = plt.figure(layout="constrained").subplots()
    for i, (lam_w, lam_h) in enumerate(
        [(0.05, 0.01), (0.1, 0.01), (0.05, 0.02)]
    ):
        path = central_path(H0, y, lam_w, lam_h, np.linspace(0, 60, 31))
        label = f"lam_w = {lam_w}, lam_h = {lam_h}"
        ax.plot(path.t, path.nc1_trace, color=COLORS[i], label=label)
    ax.set(xlabel="t", ylabel="variability within / between classes")
    ax.legend()
plt.show()

# %%
# Once features have collapsed, the theory is exact. What is left of a small
# deviation after the next layer takes five values, and ``lam_h`` sets the one
# that nearly all directions have.

plain = collapsed_minimizer(4, 10, 10, lam_w=0.5, lam_h=0.3, random_state=0)
model = NearCollapseModel(0.5, 0.3, beta=100.0).fit(
    plain.features, plain.labels
)
print(model.block_spectrum())
model.block_spectrum().plot()
plt.show()
