"""
Locality beats the number of dimensions
=======================================

How fast does the error of a convolutional network fall with the number of
samples? In the limit of infinite width that can be computed, and the answer is
that of the patch on which the target depends, not of the whole input.
"""

# %%
# Rows of eight numbers, as four points on circles. Three kinds of random
# targets: sums of functions of one point each, of two neighbours, of all four.
# For each a kernel of its own depth, and the deepest one for all of them.

import matplotlib.pyplot as plt

from lodim.plots import COLORS, style
from lodim.representation import HierarchicalKernel, teacher_student_curve

names = {
    "one point": (2,),
    "two neighbours": (2, 2),
    "all four": (2, 2, 2),
}
sizes = (64, 128, 256, 512)
deep = HierarchicalKernel((2, 2, 2))
curves = {}
for name, filters in names.items():
    teacher = HierarchicalKernel(filters)
    for kind, student in (("its own", teacher), ("deep", deep)):
        curves[name, kind] = teacher_student_curve(
            teacher, student, sizes, d=8, random_state=0
        )
        print(f"{name}, {kind} kernel: {curves[name, kind]}")

# %%
# Dashed: the slope that theory predicts for many samples. The deep kernel, which
# could join all four points, still learns local targets fast: it adapts.

with style():
    axes = plt.figure(figsize=(9, 4), layout="constrained").subplots(
        1, 2, sharey=True
    )
for ax, kind in zip(axes, ("its own", "deep")):
    for color, name in zip(COLORS, names):
        curve = curves[name, kind]
        mean = curve.errors.mean(0)
        ax.loglog(sizes, mean, "o-", color=color, label=name)
        slope = (curve.sizes / sizes[-1]) ** -curve.predicted
        ax.loglog(sizes, mean[-1] * slope, "--", color=color, linewidth=1)
    ax.set(xlabel="training samples", title=f"kernel: {kind}")
    ax.set_xticks(sizes, [str(n) for n in sizes])
    ax.set_xticks([], minor=True)
axes[0].set_ylabel("relative test error")
axes[0].legend(title="the target depends on")
plt.show()
