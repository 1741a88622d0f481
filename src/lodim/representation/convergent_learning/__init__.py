r"""Whether two networks learn the same: unit by unit, few units for one, or subspaces that no single units span.

Nets a and b of p and q units see the same n inputs; X (n, p) and Y (n, q) are what they say. Each part of the question
has a file, with its equations: :mod:`.matching` (one unit for one unit, by correlation or mutual information),
:mod:`.aligning` (weights in the order of another net's units),
:mod:`.mapping` (few units for one: the Lasso; and stitching), :mod:`.clusters` (groups of units of both nets), and
:mod:`.similarity` (one number for two representations, with what chance gives).

=============================  ==========================================================
symbol or word of the paper    name here
=============================  ==========================================================
within-net, between-net corr.  ``UnitMatcher().fit(X)``, ``.fit(X, Y)``; ``score_matrix_``
bipartite semi-matching        ``method="semi"``, ``semi_match_``
bipartite matching             ``method="one_to_one"``, ``match_``
mapping layer W, decay lambda  ``SparsePredictor.coefs_``, ``alphas_``
spectral clustering            ``CoClusterer``
=============================  ==========================================================

Source: Yixuan Li and others, 2015, arXiv 1511.07543.

Departures from the paper. Mutual information is corrected in its own unit, and by the bins that are occupied. Zeros of
a unit are what is below a millionth of its largest value, so that its scale does not matter; units that take both signs
have no bin of zeros. Sparse maps are found by coordinate descent on one Gram matrix rather than by gradient steps, and
judged on rows not seen. Dead units are left out of all means.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
