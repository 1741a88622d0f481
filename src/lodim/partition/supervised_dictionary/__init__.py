r"""Dictionary atoms that both reconstruct the data and predict its labels, with side information for the labels only.

A few atoms :math:`w_1, \ldots, w_r` are to rebuild every sample, :math:`x_s \approx \sum_k h_{sk} w_k`, and to say
its label :math:`y_s \in \{0, \ldots, \kappa\}` through logits :math:`a_s \in \mathbb R^\kappa` against class 0:

.. math::
    \ell(y, a) = \log\Big(1 + \sum_c e^{a_c}\Big) - a_y [y > 0], \qquad
    a_s = \beta^\top W x_s + \Gamma^\top z_s \ \text{(filter)} \quad\text{or}\quad
    a_s = \beta^\top h_s + \Gamma^\top z_s \ \text{(feature)},

.. math::
    F = \sum_s \omega_{y_s} \ell(y_s, a_s) + \xi\, \|X - H W\|_F^2 + \alpha\, (\|A\|_F^2 + \|\Gamma\|_F^2)
        + \text{l1} \sum |h_{sk}|

with :math:`A = W^\top \beta` in the filter model, :math:`A = H \beta` in the feature model, and a constant among the
auxiliary covariates :math:`z_s` whose coefficients, the intercept, are not penalised. Small :math:`\xi` makes atoms
that discriminate, large :math:`\xi` atoms that reconstruct: 0 is logistic regression with coefficients of rank r,
infinity the leading singular vectors of X (not centred) and then logistic regression on the codes.

=============================================  =====================================================================
symbol in the paper (its samples are columns)  name here (rows are samples)
=============================================  =====================================================================
X (p x n), X' (q x n)                          ``X`` (n, p), ``aux`` (n, q); ``Z`` in the solvers is ``aux`` and ones
W (p x r)                                      ``dictionary_`` (r, p): its transpose, an atom a row, of unit length
H (r x n)                                      codes (n, r), what ``transform`` gives
beta (r x kappa), Gamma (q x kappa)            ``coef_`` (kappa, r), ``aux_coef_`` (kappa, q) and ``intercept_``
A, B                                           ``A`` and ``H W`` in ``lpgd``, stacked as the paper stacks them
xi, lambda                                     ``xi``, ``alpha``
L_A, L_B, c = sqrt(L_A / L_B)                  ``curvature`` of A, ``2 xi``, ``c``
=============================================  =====================================================================

Source: Joowon Lee, Hanbaek Lyu and Weixin Yao, 2022, arXiv 2206.06774 (later split in two: low-rank projected gradient,
NeurIPS 2023; block coordinate descent, ICML 2024).

Departures from the paper. Low-rank projected gradient takes a step of its own for every block and projects in the
metric of those steps; it extrapolates with restarts, and its projection is one warm-started pass where the matrix is
large (:mod:`.solvers` says why the objective falls all the same). Block coordinate descent minimises quadratic bounds
whose curvature is a matrix over the atoms, not one number, and extrapolates likewise. The penalty alpha is of A in both
solvers, so that they minimise one objective. Labels' coefficients are solved for exactly at the end. The step size is
never shrunk geometrically, as public code does, and moves have no diminishing radius: both would stop a descent short
of a stationary point.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
