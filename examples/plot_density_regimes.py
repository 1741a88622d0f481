"""
Does a density value mean anything?
===================================

A kernel density estimate in two dimensions is an average over hundreds of
points. In fifty, at its best bandwidth, it is decided by the few nearest ones.
How many points a value rests on can be measured, and the border between both
worlds can be computed.
"""

# %%
import numpy as np
from sklearn.datasets import load_digits

from lodim.geometry import HighDimKDE, density_regime, kde_theory, regime_map

rng = np.random.default_rng(0)
for d in (2, 10, 50):
    print(density_regime(rng.normal(size=(5000, d))))

# %%
# The map
# -------
#
# What decides is alpha, the logarithm of the number of points over the
# dimension, and the bandwidth. Below the lower border a few points decide; above
# the upper one the central limit theorem holds. The best bandwidth (blue) lies in
# the lower part everywhere. That is the limit of many dimensions: the dots, the best
# bandwidths of four samples of 5,000 Gaussian points, approach it from above.

dots = []
for d in (10, 20, 40, 80):
    kde = HighDimKDE(n_queries=500, random_state=0).fit(
        rng.normal(size=(5000, d))
    )
    dots.append((kde.alpha_, kde.bandwidth_, f"d = {d}"))
axes = regime_map().plot(points=dots)

# %%
# Real data
# ---------
#
# The handwritten digits, 64 pixels: half of them as points, half as queries. Each
# dot is a digit; to the left are those whose density is one neighbour's.

X = load_digits().data[rng.permutation(1797)]
kde = HighDimKDE(random_state=0).fit(X[:900])
found = kde.diagnose(X[900:])
print(found)
axes = found.plot()

# %%
# Textbook rules
# --------------
#
# Scott's and Silverman's rules are for few dimensions. The nearest-neighbour rule
# costs one search and comes within a fraction of a nat of the best.

for rule in ("loo", "nn", "gaussian", "scott", "silverman"):
    kde = HighDimKDE(rule, whiten="pca(20)", random_state=0).fit(X[:900])
    score = kde.score(X[900:]) / len(X[900:])
    print(f"{rule:10} h = {kde.bandwidth_:.3f}  {score:8.2f} nats a digit")

# %%
# How far theory goes: the same numbers for Gaussian data, at ever more dimensions.

for d in (20, 80, 320):
    print(kde_theory(5000, d))
