"""
Digits, guided
==============

A small diffusion model of 8 x 8 digits: how a sample forms, what guidance does to it, and what comes of asking for more
and more brightness.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression

from lodim import datasets
from lodim.generative import (
    Diffusion,
    RewardDirectedDiffusion,
    Trajectory,
    guidance_sweep,
    plot_samples,
)
from lodim.nets import TimeMLP
from lodim.randomness import build_seeded

digits = datasets.load("digits")
X, y = (
    np.asarray(digits.X, dtype=np.float32).reshape(-1, 64),
    np.asarray(digits.y),
)
half = len(X) // 2

# %%
# A model that knows classes
# --------------------------
# Trained on one half of the digits. From the noise on the left to the digit on the right: what the denoiser takes the
# sample for, level by level.

net = build_seeded(lambda: TimeMLP(64, 128, n_classes=10), 0)
model = Diffusion(net, 64, n_classes=10, random_state=0)
model.fit(X[:half], y[:half], steps=450)
seen = Trajectory(5)
model.sample(5, cond=[0, 2, 3, 5, 8], guidance=1.5, generator=0, on_step=seen)
seen.x0_hat = [x.reshape(-1, 8, 8)[:, None] for x in seen.x0_hat]
ax = seen.plot(value_range=(0, 1))

# %%
# Guidance
# --------
# Scale 1 is plain conditional sampling; larger scales are surer of the class, then leave the data. Rows are classes.

scales = (0, 1, 2, 4)
fig, axes = plt.subplots(1, len(scales), figsize=(10, 4))
for ax, scale in zip(axes, scales, strict=True):
    drawn = model.sample(
        64, cond=np.repeat(np.arange(8), 8), guidance=scale, generator=1
    )
    plot_samples(drawn.reshape(-1, 8, 8), ax, value_range=(0, 1)).set_title(
        f"scale {scale}"
    )

# %%
# The same in figures, judged by a classifier of the other half. The dotted lines are real digits. After so short a
# training samples are noisier than digits at every scale: their coverage of the data is next to nothing.

judge = LogisticRegression(max_iter=1000).fit(X[half:], y[half:])
found = guidance_sweep(model, judge, scales, n=50, X=X[:half], y=y[:half])
print(found)
ax = found.plot()

# %%
# Asking for reward
# -----------------
# The reward is the brightness of the left half as a screen shows it, known from 200 digits. Within the data (the band)
# one gets nearly what one asks for; beyond, the true reward falls behind, and the regression promises more than comes.


def brightness(x):
    return np.clip(x, 0, 1).reshape(-1, 8, 8)[:, :, :4].mean((1, 2))


net = build_seeded(lambda: TimeMLP(64, 128, cond_dim=1), 0)
base = Diffusion(net, 64, cond_dim=1, random_state=0)
design = RewardDirectedDiffusion(base).fit(
    X, X[:200], brightness(X[:200]), steps=150
)
curve = design.report(np.linspace(0.2, 1.0, 6), n=50, true_reward=brightness)
print(curve)
ax = curve.plot()
