"""
The right set, the wrong law
============================

Clean data on a circle, two thirds of them in one bump. A decoder that is
trained by its likelihood with very little noise finds the circle, and spreads
its samples over it as it likes: near the set every law has a high likelihood.
A little noise on the data, left out again in the samples, brings the law back.
"""

# %%
import warnings

import matplotlib.pyplot as plt
import numpy as np

from lodim.datasets.toy import product_law, sphere_patch, uneven_circle
from lodim.generative import PerturbedLikelihoodModel
from lodim.metrics import wasserstein

law = uneven_circle(256, random_state=0)
fresh = uneven_circle(400, random_state=1).X
small = {"batch_size": 64, "n_grid": 64, "random_state": 0, "lr": 4e-3}
held = {**small, "learn_sigma": False, "sigma": 0.01}
warnings.filterwarnings("ignore", message=".*spacing of the grid")

figure, axes = plt.subplots(2, 3, figsize=(9, 5), layout="constrained")
bins = np.linspace(-np.pi, np.pi, 60)
for column, t in zip(axes.T, (0.0, 0.1, 0.4)):
    model = PerturbedLikelihoodModel(1, t, "grid", steps=450, **held)
    model.fit(law.X)
    drawn = model.sample(400)
    off, w1 = law.distance(drawn).mean(), wasserstein(drawn, fresh).value
    column[0].plot(*drawn.T, ".", ms=2)
    column[0].set(title=f"t = {t:g}: {off:.3f} off the circle", aspect="equal")
    for sample, label in ((fresh, "data"), (drawn, "samples")):
        angles = np.arctan2(sample[:, 1], sample[:, 0])
        column[1].hist(angles, bins, histtype="step", density=True, label=label)
    column[1].set(title=f"W1 = {w1:.3f}", xlabel="angle")
axes[1, 0].legend()

# %%
# Which level?
# ------------
#
# Never by the likelihood: it grows as the noise shrinks. Held-out clean rows can
# say, and they also say when they cannot tell.

model = PerturbedLikelihoodModel(1, "validation", "grid", steps=80, **held).fit(
    law.X
)
print(model.w1_path_)
axes = model.w1_path_.plot()

# %%
# Where noise brings nothing
# --------------------------
#
# When the decoder's own noise is learned and starts large, it shrinks during the
# training and anneals by itself.

for t in (0.0, 0.1):
    model = PerturbedLikelihoodModel(1, t, "grid", steps=300, **small)
    model.fit(law.X)
    print(t, model.sigma_, wasserstein(model.sample(400), fresh))

# %%
# More columns than dimensions
# ----------------------------
#
# The error depends on the set. A patch of a sphere, and two active columns of
# ten: how far samples lie from the set, and from its law.

for draw in (sphere_patch, product_law):
    law = draw(400, random_state=0)
    model = PerturbedLikelihoodModel(
        2, "theory", steps=250, random_state=0
    ).fit(law.X)
    drawn = model.sample(400)
    print(draw.__name__, model.dimension_, model.perturbation_)
    print(law.distance(drawn).mean(), wasserstein(drawn, draw(400).X))
