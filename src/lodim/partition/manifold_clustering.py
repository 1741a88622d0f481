"""Learn features in which each curved cluster becomes a flat subspace, and the clusters, without labels.

The problem, in the paper's words and ours; the equations, as they are computed below.

===================  ====================
symbol in the paper  name here
===================  ====================
n                    ``n_samples``
===================  ====================

Source: Tianjiao Ding and others, 2023, arXiv 2301.01805.
Departures from the paper: which, and why.
"""

from __future__ import annotations

__all__: list[str] = []
