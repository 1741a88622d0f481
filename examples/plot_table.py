"""
A table: thirty columns about tumours
=====================================

Thirty measurements of each of 569 cell samples, and a diagnosis. How many
dimensions does the table have, how few numbers does a model of it need, and
what follows? One call answers.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import lodim
from lodim.plots import COLORS, mark_value, style

table = load_breast_cancer(as_frame=True)
X = StandardScaler().fit_transform(table.data)
answer = lodim.profile(X, table.target, model="mlp", budget=8, random_state=0)
print(answer)

# %%
# The same as pictures. A flat curve across scales would be a dimension to rely
# on; this one tells what the estimators' spread tells too.

figure = answer.plot()

# %%
# Why so few?
# -----------
#
# The columns are not thirty different things. Radius, perimeter and area of a
# nucleus are one thing measured three ways, and each comes as a mean, a
# standard error and a worst case. The correlations show the blocks.

order = np.argsort(
    [
        name.split(" ", 1)[-1] if name.startswith(("mean", "worst")) else name
        for name in table.data.columns
    ]
)
with style():
    fig, ax = plt.subplots(figsize=(6.2, 5.4), layout="constrained")
    image = ax.imshow(
        np.abs(np.corrcoef(X[:, order].T)), cmap="Blues", vmin=0, vmax=1
    )
    ax.set(title="Absolute correlation of the columns", xticks=[])
    ax.set_yticks(range(30), table.data.columns[order], fontsize=6.5)
    ax.grid(False)
    fig.colorbar(image, ax=ax, shrink=0.8)

# %%
# Does it hold?
# -------------
#
# If the table has about as many dimensions as the profile says, a classifier
# that sees so many principal components should lose nothing against one that
# sees all thirty columns. Cross-validated, a logistic regression does not.

components = [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 30]
scores = [
    cross_val_score(
        make_pipeline(PCA(q), LogisticRegression(max_iter=2000)),
        X,
        table.target,
        cv=10,
    )
    for q in components
]
mean, spread = np.mean(scores, axis=1), np.std(scores, axis=1) / np.sqrt(10)

with style():
    fig, ax = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    ax.fill_between(
        components, mean - spread, mean + spread, alpha=0.2, linewidth=0
    )
    ax.plot(components, mean, "o-", label="logistic regression, 10-fold")
    mark_value(
        ax,
        answer.data.dimension,
        answer.data.interval,
        f"dimension {answer.data.dimension:.1f}",
        COLORS[1],
    )
    ax.set(
        xlabel="principal components kept",
        ylabel="accuracy",
        title="How many columns does the diagnosis need?",
    )
    ax.legend(loc="lower right")
