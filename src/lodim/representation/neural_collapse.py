"""The exact geometry that last-layer features and classifiers approach, with balanced or imbalanced classes.

The problem, in the paper's words and ours; the equations, as they are computed below.

===================  ====================
symbol in the paper  name here
===================  ====================
n                    ``n_samples``
===================  ====================

Source: Hien Dang and others, 2023, arXiv 2301.00437.
Departures from the paper: which, and why.
"""

from __future__ import annotations

__all__: list[str] = []
