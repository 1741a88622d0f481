"""Clusters that come out the same at every run, with the number of clusters chosen and the separable points named.

The problem, in the paper's words and ours; the equations, as they are computed below.

===================  ====================
symbol in the paper  name here
===================  ====================
n                    ``n_samples``
===================  ====================

Source: Mujahid Sultan and others, 2020, arXiv 2003.04372.
Departures from the paper: which, and why.
"""

from __future__ import annotations

__all__: list[str] = []
