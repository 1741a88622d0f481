"""
What a denoiser has learnt
==========================

A denoiser that is trained on images of one disc each keeps a few directions of a noisy image and shrinks all others.
Which ones, its Jacobian tells; whether two denoisers have learnt the same, or only their own training images, the
samples tell that they draw from the same noise.
"""

# %%
# Discs have five degrees of freedom: place, radius, both grey levels. The spectrum of the Jacobian at a noisy disc.

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

from lodim.datasets import discs
from lodim.generative import (
    jacobian_basis,
    memorization_curve,
    train_denoiser,
)
from lodim.plots import style
from lodim.randomness import build_seeded


def small_net(side):
    """Three layers without biases, so that a brighter image is denoised alike."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(side**2, 256, bias=False),
        nn.ReLU(),
        nn.Linear(256, 256, bias=False),
        nn.ReLU(),
        nn.Linear(256, side**2, bias=False),
        nn.Unflatten(1, (1, side, side)),
    )


images, _ = discs(4000, 16, random_state=0)
net = build_seeded(lambda: small_net(16), 0)
train_denoiser(
    net,
    images[10:],
    sigma_range=(0, 0.5),
    steps=800,
    batch_size=64,
    lr=1e-3,
    random_state=0,
)
clean = torch.from_numpy(images[0])
generator = torch.Generator().manual_seed(0)
noisy = clean + 0.1 * torch.randn(clean.shape, generator=generator)
basis = jacobian_basis(net, noisy)
ax = basis.plot()

# %%
# The noisy image, what the denoiser makes of it, and the leading eigenvectors. The first is like the noisy image; those
# after it are smooth, as large as the disc: what is left when it changes its brightness or moves.

shown = [noisy[0], net(noisy[None])[0, 0].detach()]
shown += [*basis.vectors[:6, 0]]
names = [
    "noisy",
    "denoised",
    *(f"{value:.2f}" for value in basis.values[:6]),
]
with style():
    fig, axes = plt.subplots(2, 4, figsize=(6.4, 3.6), layout="constrained")
    for ax, image, name in zip(axes.flat, shown, names):
        ax.imshow(image, cmap="gray")
        ax.set_title(name)
        ax.axis("off")

# %%
# Memorising or generalising: two nets on disjoint sets of handwritten digits (8 x 8 pixels), in equally many steps.

X = load_digits().data.reshape(-1, 1, 8, 8) / 16

curve = memorization_curve(
    lambda: small_net(8),
    X[200:],
    X[:200],
    [5, 50, 700],
    steps=300,
    batch_size=32,
    n_samples=8,
    h=0.1,
    beta=0.3,
    mean=float(X.mean()),
    random_state=0,
)
ax = curve.plot()
curve.to_frame().round(3)

# %%
# Samples of the first net (top), of the second from the same noise, and the training images nearest to the first's.

with style():
    fig, axes = plt.subplots(3, 8, figsize=(6.4, 2.6), layout="constrained")
    for row, some in zip(axes, curve.pairs[-1].samples):
        for ax, image in zip(row, some):
            ax.imshow(image[0], cmap="gray", vmin=0, vmax=1)
            ax.axis("off")
