"""
How many labels are unlabelled rows worth?
==========================================

Labels are dear, rows without them cheap. Whether the cheap ones help can be
measured from the labels at hand: the answer is a number of labels with an
interval, or "none".
"""

# %%
# 600 digits have labels, some 1200 have none. A mixture of 30 Gaussians in the
# 15 leading directions is fitted to the latter; then a table says which
# component is which digit. What do they add to 42, 60, ... of the labels?

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline

from lodim.plots import style
from lodim.representation import PretrainedClassifier, pretraining_gain

X, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(X))
labelled, unlabelled = order[:600], order[600:]

mixture = GaussianMixture(30, reg_covar=0.1, random_state=0)
digits = pretraining_gain(
    X[unlabelled],
    X[labelled],
    y[labelled],
    predictor=PretrainedClassifier(
        make_pipeline(PCA(15, random_state=0), mixture)
    ),
    baseline=LogisticRegression(C=0.01, max_iter=500),
    n_labels=[42, 60, 85, 120],
    n_repeats=15,
    random_state=0,
)
print(digits)

# %%
# A control: the same rows, and labels that have nothing to do with groups of
# digits, but say whether a picture's left half has more ink than its right.

halves = X.reshape(-1, 8, 2, 4).sum((1, 3))
ink = np.where(halves[:, 0] > halves[:, 1], "left", "right")
control = pretraining_gain(
    X[unlabelled],
    X[labelled],
    ink[labelled],
    predictor=PretrainedClassifier(
        make_pipeline(PCA(15, random_state=0), mixture)
    ),
    baseline=LogisticRegression(C=0.01, max_iter=500),
    n_labels=[42, 120],
    n_repeats=15,
    random_state=0,
)
print(control)

# %%
# The arrow leads from the error that few labels and many rows reach to where
# labels alone reach it.

with style():
    axes = plt.figure(figsize=(9, 4), layout="constrained").subplots(1, 2)
digits.plot(axes[0])
control.plot(axes[1])
plt.show()
