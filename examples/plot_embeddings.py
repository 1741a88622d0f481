"""
How many dimensions do embeddings have?
=======================================

A network turns each input into a vector, and the vectors have as many
coordinates as the layer has units. How many of those are used? We follow the
handwritten digits through a small network, layer by layer, and then ask what
the answer is good for.
"""

# %%
# The data: 1,797 images of 8 by 8 pixels. The network: three hidden layers of
# 128 units.

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

from lodim.geometry import IntrinsicDimension, intrinsic_dimensions
from lodim.nets import mlp
from lodim.plots import COLORS, mark_value, style
from lodim.randomness import build_seeded
from lodim.training import Recipe, Task, fit

X, y = load_digits(return_X_y=True)
X = (X - X.mean(axis=0)) / 8
X_train, X_val, y_train, y_val = train_test_split(
    X, y, test_size=0.3, random_state=0, stratify=y
)


def make_model():
    return mlp([64, 128, 128, 128, 10])


untrained = build_seeded(make_model, 0)
model = build_seeded(make_model, 0)
result = fit(
    model,
    Task.from_arrays(X_train, y_train, X_val, y_val),
    Recipe(epochs=30),
    lr=1e-3,
    random_state=0,
)
print(f"validation accuracy {result.score:.3f}")


# %%
# Layer by layer
# --------------
#
# The consensus of five estimators, for the pixels and for the activations after
# each layer, with its interval. A random layer does not simplify anything:
# every ReLU bends the surface on which the digits lie, and a bent surface looks
# thicker to its neighbours, so the dimension creeps up. Training works against
# it. It folds away what does not tell one digit from another, and at the output
# fewer dimensions are left than the pixels came with.


def activations(network, inputs):
    """Outputs of every layer that ends in a non-linearity, and of the last one."""
    vectors, x = [inputs], torch.as_tensor(inputs, dtype=torch.float32)
    with torch.no_grad():
        for layer in network:
            x = layer(x)
            if isinstance(layer, torch.nn.ReLU):
                vectors.append(x.numpy())
    return [*vectors, x.numpy()]


def consensus(vectors):
    return intrinsic_dimensions(vectors, scales=False, random_state=0)


layers = ["pixels", "layer 1", "layer 2", "layer 3", "logits"]
with style():
    fig, ax = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    for network, name, color in (
        (untrained, "at random", COLORS[6]),
        (model, "trained", COLORS[0]),
    ):
        found = [consensus(v) for v in activations(network, X)]
        low, high = np.transpose([s.interval for s in found])
        ax.fill_between(layers, low, high, color=color, alpha=0.15, linewidth=0)
        ax.plot(
            layers, [s.dimension for s in found], "o-", color=color, label=name
        )
    ax.set(
        ylabel="intrinsic dimension",
        ylim=(0, None),
        title="The digits on their way through the network",
    )
    ax.legend()

# %%
# At which scale?
# ---------------
#
# A dimension belongs to a scale. Near neighbours see what makes one image
# differ from the next, far ones the shape of whole classes. Here no stretch is
# flat: 1,797 points are few for eight dimensions, so that far neighbours lie
# around the surface's bends and beyond its borders. The left end is the better
# answer, and "at least" the honest wording.

embedding = activations(model, X)[3]
with style():
    fig, ax = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    for vectors, name, color in (
        (X, "pixels", COLORS[6]),
        (embedding, "layer 3", COLORS[0]),
    ):
        points = [
            p
            for p in intrinsic_dimensions(vectors, random_state=0).scales
            if p.kind == "gride"
        ]
        neighbours = [2 * p.n1 for p in points]
        d, se = np.array([(p.dimension, p.se) for p in points]).T
        ax.fill_between(
            neighbours,
            d - 1.96 * se,
            d + 1.96 * se,
            color=color,
            alpha=0.15,
            linewidth=0,
        )
        ax.plot(neighbours, d, "o-", color=color, label=name)
    ax.set(
        xscale="log",
        xlabel="farthest neighbour used",
        ylabel="dimension (Gride)",
        ylim=(0, None),
    )
    ax.set_xticks(neighbours, [str(n) for n in neighbours])
    ax.minorticks_off()
    ax.set_title("Across scales")
    ax.legend()

# %%
# What it is good for
# -------------------
#
# The embedding has 128 coordinates and about eight dimensions, so an index of
# it need not keep 128 numbers a vector. We reduce it by principal components
# and look up the nearest neighbours of unseen images. With as many components
# as dimensions the embedding has lost next to nothing. The pixels have the same
# dimension but need about twice as many components: their surface is curved,
# and flat coordinates must cover every direction that it bends into. The
# network has flattened it, which is what makes its embedding cheap to store.

components = [1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 64]


def lookup(vectors, q):
    """Accuracy of 5 nearest neighbours on q principal components."""
    train, val, t, v = train_test_split(
        vectors, y, test_size=0.3, random_state=0, stratify=y
    )
    pca = PCA(q, random_state=0).fit(train)
    return (
        KNeighborsClassifier(5)
        .fit(pca.transform(train), t)
        .score(pca.transform(val), v)
    )


with style():
    fig, ax = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    for vectors, name, color in (
        (X, "pixels", COLORS[6]),
        (embedding, "layer 3", COLORS[0]),
    ):
        ax.plot(
            components,
            [lookup(vectors, q) for q in components],
            "o-",
            color=color,
            label=name,
        )
        estimate = IntrinsicDimension("consensus", ci=0.95, random_state=0).fit(
            vectors
        )
        mark_value(
            ax,
            estimate.dimension_,
            estimate.ci_,
            f"dimension of {name}: {estimate.dimension_:.1f}",
            color,
        )
    ax.set(
        xscale="log",
        xlabel="principal components kept",
        ylabel="accuracy of 5 nearest neighbours",
    )
    ax.set_xticks(
        components[:4] + components[4::2],
        [str(q) for q in components[:4] + components[4::2]],
    )
    ax.minorticks_off()
    ax.set_title("How short may the vectors be?")
    ax.legend(loc="lower right")
