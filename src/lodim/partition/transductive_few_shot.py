"""Classify with one or five labelled examples a class by clustering all test points together with them.

The problem, in the paper's words and ours; the equations, as they are computed below.

===================  ====================
symbol in the paper  name here
===================  ====================
n                    ``n_samples``
===================  ====================

Source: Imtiaz Masud Ziko and others, 2021, arXiv 2106.09516.
Departures from the paper: which, and why.
"""

from __future__ import annotations

__all__: list[str] = []
