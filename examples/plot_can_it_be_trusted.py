"""
Can this model be trusted?
==========================

A forest of ten trees tells malignant from benign tumours, and is right on nineteen of
twenty women it has not seen. That says nothing of its reasons, of what its probabilities
mean, of the next hospital, nor of what fools it. One call asks all four.
"""

# %%
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

from lodim.trust import report

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
y = np.where(y == 0, "malignant", "benign")
X_train, X_test, y_train, y_test = train_test_split(
    X, y, test_size=0.5, random_state=0, stratify=y
)
forest = RandomForestClassifier(10, random_state=0).fit(X_train, y_train)

# %%
# The rows must be such as the model was not trained on: nothing in the report can
# see whether they were. Where they come from is asked for too. This table does not
# say, so the size of the tumour stands in for the hospital: four environments that
# differ in what is frequent there.

size = np.array(["smallest", "small", "large", "largest"])[
    np.searchsorted(
        np.quantile(X_test["mean radius"], [0.25, 0.5, 0.75]),
        X_test["mean radius"],
    )
]
answer = report(
    forest,
    X_test,
    y_test,
    environments=size,
    eps=(0.1, 0.5),
    name="the forest",
    random_state=0,
)
print(answer)

# %%
# The same as a page for others: ``answer.to_html("trust.html")``. The pictures are
# drawn from the same numbers.

figure = answer.figure()

# %%
# The null
# --------
#
# A report that finds something in every model says nothing. This model was trained
# on shuffled labels.

rng = np.random.default_rng(0)
guesser = RandomForestClassifier(10, random_state=0).fit(
    X_train, rng.permutation(y_train)
)
found = report(
    guesser, X_test, y_test, eps=0.1, name="a guesser", random_state=0
)
print(found.verdict)
