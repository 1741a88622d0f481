"""Draw the README's picture from the digits: ``python tools/readme_picture.py docs/_static/digits.png``."""

from __future__ import annotations

import sys

import matplotlib as mpl

from lodim.datasets import load
from lodim.geometry import intrinsic_dimensions
from lodim.landscape import LandscapeDimension
from lodim.nets import mlp
from lodim.plots import style

mpl.use("Agg")


def main(path: str) -> None:
    """Write the picture: the data's dimension by estimator, and the score of a network against trained numbers."""
    import matplotlib.pyplot as plt

    train, test = load("digits", split="train"), load("digits", split="test")
    summary = intrinsic_dimensions(load("digits").X, random_state=0)
    search = LandscapeDimension.for_classifier(
        lambda: mlp([64, 64, 64, 10]), train.X, train.y, test.X, test.y, random_state=0
    ).fit()
    with style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.0), layout="constrained")
        summary.plot(left)
        search.plot(right)
        left.set_title(f"64 pixels: about {summary.dimension:.0f} dimensions")
        right.set_title(
            f"{search.n_parameters_:,} weights: about {search.d_int_:.0f} trained numbers give 90 % of the score",
            fontsize=10,
        )
        figure.savefig(path, dpi=150)
    print(search.report())


if __name__ == "__main__":
    main(sys.argv[1])
