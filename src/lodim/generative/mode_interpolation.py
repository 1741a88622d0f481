"""Detect generated samples that belong to no training mode, such as hands with extra fingers, while they are drawn.

The problem, in the paper's words and ours; the equations, as they are computed below.

===================  ====================
symbol in the paper  name here
===================  ====================
n                    ``n_samples``
===================  ====================

Source: Sumukh K Aithal and others, 2024, arXiv 2406.09358.
Departures from the paper: which, and why.
"""

from __future__ import annotations

__all__: list[str] = []
