"""
How small can MNIST be?
=======================

A network with 199,210 weights reads handwritten digits. How few numbers may
training change, and how short a message describes the trained network? We take
directions away until it no longer works, and then write the result to a file.

With MNIST at hand (the folder that ``LODIM_DATA`` names) this story uses 2,000
of its images; without, the small digits that ship with scikit-learn and a
smaller network.
"""

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from lodim.datasets import load
from lodim.landscape import CompressedModel, LandscapeDimension, SubspaceModule
from lodim.nets import fc
from lodim.plots import COLORS, style
from lodim.randomness import build_seeded
from lodim.training import Recipe, Task, fit

rng = np.random.default_rng(0)
try:
    parts = [load("mnist", split="train"), load("mnist", split="test")]
    rows, rows_val = (
        rng.permutation(60_000)[:2_000],
        rng.permutation(10_000)[:1_000],
    )
    name, width, recipe = "MNIST", 200, Recipe(epochs=6)
except OSError:
    print("MNIST is not here; this run uses the small digits instead.")
    parts = [load("digits")] * 2
    rows, rows_val = np.split(rng.permutation(len(parts[0].X)), [1_400])
    name, width, recipe = "the small digits", 64, Recipe(epochs=30)

X, y, X_val, y_val = (
    parts[0].X[rows],
    parts[0].y[rows],
    parts[1].X[rows_val],
    parts[1].y[rows_val],
)
side = round(X.shape[1] ** 0.5)
mean, deviation = X.mean(), X.std()
X, X_val = (X - mean) / deviation, (X_val - mean) / deviation


def make_model():
    return fc(X.shape[1], 10, width=width, depth=2)


print(
    f"{name}: {len(X):,} images of {side} by {side}, {sum(p.numel() for p in make_model().parameters()):,} weights"
)

# %%
# How few numbers?
# ----------------
#
# Weights are :math:`\theta_0 + P v` with a random :math:`P`, and only the
# :math:`d` numbers :math:`v` are trained. The search doubles :math:`d` until
# the network reaches 90 % of its direct accuracy, then narrows the crossing
# down. The learning rate is ten times the usual 0.001; left to itself, the
# search would choose it.

search = LandscapeDimension.for_classifier(
    make_model,
    X,
    y,
    X_val,
    y_val,
    recipe=recipe,
    n_seeds=2,
    resolution=1.5,
    lr_grid=(10,),
    random_state=0,
).fit()
print(search.report())

# %%
# The curve rises with the logarithm of :math:`d` and bends towards the direct
# score. Nothing special happens at the crossing: it is where 90 % are reached,
# and a reader who wants 95 % reads on to the right.

search.plot()

# %%
# Rounding the numbers
# --------------------
#
# We train once more in a subspace of the dimension found. Its :math:`d` numbers
# are rounded to a few levels and coded. The file holds two seeds, a codebook
# and the codes; whoever has the program draws the 199,210 weights again.

task = Task.from_arrays(X, y, X_val, y_val)
d = int(search.d_int_)
subspace = SubspaceModule(build_seeded(make_model, 0), d, seed=0)
trained = fit(
    subspace, task, recipe, lr=0.01 * subspace.lr_factor, random_state=0
)


def accuracy(module, inputs, labels):
    with torch.no_grad():
        logits = module(torch.as_tensor(inputs, dtype=torch.float32))
    return float((logits.argmax(1).numpy() == labels).mean())


folder = Path(tempfile.mkdtemp())
rows = []
for levels in (3, 5, 7, 11, 16, 32):
    message = CompressedModel.from_subspace(
        subspace, make_model, theta0_seed=0, n_levels=levels
    )
    message.save(folder / f"{levels}.lodim")
    network = CompressedModel.load(
        folder / f"{levels}.lodim", make_model
    ).to_module()
    error = 1 - accuracy(network, X, y)
    bound = message.bound(
        error, n=len(X), selection_bits=np.log2(6)
    )  # one of six
    size = (folder / f"{levels}.lodim").stat().st_size
    rows.append(
        (
            levels,
            message.message_bits / 8,
            size,
            accuracy(network, X_val, y_val),
            1 - bound,
        )
    )
    print(
        f"{levels:2} levels: message {rows[-1][1]:4.0f} bytes, file {size:4} bytes, accuracy {rows[-1][3]:.3f}"
    )

# %%
# The curve has a knee: below it the rounding hurts, above it bytes are wasted.
# The lower line is what the message's length *guarantees* about images never
# seen, with 95 % confidence and no test set: an accuracy that low would be bad
# luck at one in twenty. It is far below the truth, as guarantees from so few
# images are, and the lower the longer the message: well above chance for the
# shortest, and no better than chance for the longest.

levels, bytes_, sizes, scores, guaranteed = np.array(rows).T
with style():
    fig, ax = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    ax.axhline(
        trained.score,
        color=COLORS[6],
        linestyle="--",
        linewidth=1.2,
        label=f"not rounded, {4 * d:,} bytes",
    )
    ax.plot(bytes_, scores, "o-", label="on unseen images")
    ax.plot(
        bytes_,
        guaranteed,
        "s-",
        color=COLORS[1],
        label="guaranteed by the message's length",
    )
    for count, x, s in zip(levels, bytes_, scores):
        ax.annotate(
            f"{count:.0f} levels",
            (x, s),
            xytext=(0, -15),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    ax.set(
        xlabel="bytes of the message",
        ylabel="accuracy",
        title=f"{name} in a few hundred bytes",
        ylim=(0, 1),
    )
    ax.legend(loc="center right")

# %%
# What the digits look like from inside
# -------------------------------------
#
# The first layer of the direct network and of the rounded one are both mostly
# noise to the eye: they share the same random start, and training moved it
# little. What was learnt is the difference, and it is spread over all weights
# at once.

network = CompressedModel.load(folder / "16.lodim", make_model).to_module()
start = build_seeded(make_model, 0)
learnt = (
    (next(network.parameters()) - next(start.parameters())).detach().numpy()
)
with style():
    fig, axes = plt.subplots(2, 8, figsize=(8, 2.4), layout="constrained")
    for column in range(8):
        pictures = (X_val[column], learnt[column])
        for ax, picture in zip(axes[:, column], pictures):
            ax.imshow(
                picture.reshape(side, side),
                cmap="gray" if ax is axes[0, column] else "RdBu_r",
            )
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
    with torch.no_grad():
        answers = network(
            torch.as_tensor(X_val[:8], dtype=torch.float32)
        ).argmax(1)
    for ax, answer in zip(axes[0], answers):
        ax.set_title(f"read as {int(answer)}", fontsize=9, loc="center")
    axes[1, 0].set_ylabel("learnt", fontsize=9)
