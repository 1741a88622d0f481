"""Find the few columns that drive a black box and replace it by readable rules, with numbers for their fidelity.

The problem, in the paper's words and ours; the equations, as they are computed below.

===================  ====================
symbol in the paper  name here
===================  ====================
n                    ``n_samples``
===================  ====================

Source: Md. Rezaul Karim and others, 2022, arXiv 2208.13405.
Departures from the paper: which, and why.
"""

from __future__ import annotations

__all__: list[str] = []
