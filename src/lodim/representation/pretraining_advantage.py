"""When does fitting unlabelled data first beat supervised learning, and how many labels does it save?

The problem, in the paper's words and ours; the equations, as they are computed below.

===================  ====================
symbol in the paper  name here
===================  ====================
n                    ``n_samples``
===================  ====================

Source: Jiawei Ge and others, 2023, arXiv 2303.01566.
Departures from the paper: which, and why.
"""

from __future__ import annotations

__all__: list[str] = []
