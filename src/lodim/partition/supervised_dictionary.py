"""Dictionary atoms or topics that both reconstruct the data and predict its labels, with side information.

The problem, in the paper's words and ours; the equations, as they are computed below.

===================  ====================
symbol in the paper  name here
===================  ====================
n                    ``n_samples``
===================  ====================

Source: Joowon Lee and others, 2022, arXiv 2206.06774.
Departures from the paper: which, and why.
"""

from __future__ import annotations

__all__: list[str] = []
