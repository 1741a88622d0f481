"""Why real features stay short of full collapse, and how much variability the next layer or regulariser removes.

The problem, in the paper's words and ours; the equations, as they are computed below.

===================  ====================
symbol in the paper  name here
===================  ====================
n                    ``n_samples``
===================  ====================

Source: Tom Tirer and others, 2022, arXiv 2210.16658.
Departures from the paper: which, and why.
"""

from __future__ import annotations

__all__: list[str] = []
