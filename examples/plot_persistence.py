"""
Loops among outliers
====================

A circle of sixty points among fifteen that lie anywhere. In distance alone, stray points inside close the loop early;
among the denser points it lasts, and the gradient of what distance and density see together can mend it.
"""

# %%
# The Hilbert function: how many loops there are at every distance among the points that are dense enough.

import matplotlib.pyplot as plt
import numpy as np
import torch

from lodim.geometry.differentiable_persistence import (
    SignedMeasureLayer,
    hilbert_volume,
    optimize_points,
)
from lodim.geometry.multiparameter_persistence import (
    FunctionRips,
    hilbert_function,
)
from lodim.plots import style

rng = np.random.default_rng(0)
angle, radius = rng.uniform(0, 2 * np.pi, 60), 1 + 0.15 * rng.normal(size=60)
circle = np.c_[radius * np.cos(angle), radius * np.sin(angle)]
points = torch.from_numpy(
    np.concatenate([circle, rng.uniform(-1.3, 1.3, (15, 2))])
)

fc = FunctionRips(bandwidth=0.3)(points)
grades = fc.filtration[: len(points), 1]
axes = (
    np.linspace(0, 2, 80),
    np.linspace(float(grades.min()), float(grades.max()), 80),
)
loops = hilbert_function(fc, axes, 1)
with style():
    fig, ax = plt.subplots(figsize=(5.4, 4), layout="constrained")
    mesh = ax.pcolormesh(*axes, loops.T, cmap="Blues", shading="auto")
    fig.colorbar(mesh, ax=ax, label="loops", ticks=range(loops.max() + 1))
    ax.set_xlabel("distance")
    ax.set_ylabel("codensity: points at least this dense")

# %%
# Descent: more mass of loops, less of components, looking at the denser 95 percent of the points. Plain subgradient
# steps keep the weights: what is hardly dense hardly moves.

filtration = FunctionRips(function=lambda _: grades)
low, high = float(grades.min()), float(grades.quantile(0.95))
mass = hilbert_volume(([0, low], [2.6, high]))
loop_layer, component_layer = (
    SignedMeasureLayer("hilbert", 1),
    SignedMeasureLayer("hilbert", 0),
)


def loss(x):
    complex_ = filtration(x)
    topology = 0.5 * mass(component_layer(complex_)) - mass(
        loop_layer(complex_)
    )
    return topology / (high - low) + (x.abs() - 1.3).clamp(min=0).square().sum()


result = optimize_points(points, loss, 40, 0.5, optimizer="sgd")
print(result)
with style():
    ax = result.plot()
