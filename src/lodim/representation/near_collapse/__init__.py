r"""Why real features stay short of full collapse, and how much variability the next layer or regulariser removes.

**Problem.** Were the features of a classifier free, they would collapse: those of a class to one point, and the points
to an orthogonal frame. Those of a network do not, since a layer can move what it receives only so far. So features H
are optimised, with a penalty for leaving the features :math:`H_0` of a shallower layer; with K classes of n rows,
N = K n, rows h of H, rows of the classifier W, and one-hot Y,

.. math:: f(W, H; H_0) = \frac{1}{2N} \|H W^\top - Y\|_F^2 + \frac{\lambda_W}{2K} \|W\|_F^2
          + \frac{\lambda_H}{2N} \|H\|_F^2 + \frac{\beta}{2N} \|H - H_0\|_F^2.

**Solver.** Both halves have an exact minimum, taken in turn; f never rises:

.. math:: W^*(H)^\top = (H^\top H + n \lambda_W I)^{-1} H^\top Y, \qquad
          H = (Y W + \beta H_0) (W^\top W + (\lambda_H + \beta) I)^{-1}.

All of it keeps its form when rows of H, H0 and Y are turned by one orthogonal matrix. A QR factorisation of
:math:`[Y\ H_0] = U R` leaves K + d rows of N (``compress``): an alternation then costs O(d^3), a step of the flow
O(d^2 K + d^3), however many samples there are.

**Central path.** With :math:`L(H) = \min_W f` without its last term, :math:`\dot H = -N \nabla L(H) =
-(H W^* - Y) W^* - \lambda_H H` (the first W transposed); t plays 1/beta. Theorem 3.1: :math:`\widetilde{NC}_1 =
\operatorname{tr} \Sigma_W / \operatorname{tr} \Sigma_B` and :math:`e^{2 \lambda_H t} \operatorname{tr} \Sigma_W`
fall, :math:`e^{2 \lambda_H t} \operatorname{tr} \Sigma_B` rises. Where beta is large, features of the model are less
variable than :math:`H_0` (corollary 3.2), and so are those of layer upon layer.

**Response.** At a minimum :math:`N \nabla L(H) + \beta (H - H_0) = 0`, hence a small change of :math:`H_0` comes out as

.. math:: dH = \beta\, (N \nabla^2 L + \beta I)^{-1} dH_0 \approx (I - N \nabla^2 L / \beta)\, dH_0,

where elimination of W gives, with :math:`E = H W^\top - Y` and :math:`S = H^\top H + n \lambda_W I`,

.. math:: N \nabla^2 L[V] = V W^\top W + \lambda_H V + H\, dW^\top W + E\, dW, \qquad
          dW = -(E^\top V + W V^\top H) S^{-1}.

This is the paper's theorem 4.1 (its Schur complement), and no matrix of (N d)^2 entries. The second form is the
paper's F. Where :math:`H_0` has collapsed (``collapsed_minimizer``), with :math:`c = \sqrt{\lambda_H \lambda_W} < 1`,
blocks of F within a class have the values

============================================  =================
value of F                                    how often
============================================  =================
1                                             d - K
1 - 4 lambda_H (1 - c) / beta                 1
1 - 2 lambda_H (1 - c) / beta                 K - 1
1 - lambda_H / beta                           (n - 1) (d - K)
1 - sqrt(lambda_H / lambda_W) / beta          (n - 1) K
============================================  =================

and blocks between classes one, 2 lambda_H (1 - c) / beta. So lambda_H acts on variability within classes in all
directions, lambda_W only on K of them and on the cross-talk.

=========================================  ==================================================
symbol in the paper (samples are columns)  name here (rows are samples)
=========================================  ==================================================
W, H, H_0, Y                               ``classifier_``, ``features_``, ``H0``; ``W``, ``H``, ``Y``
K, n, d                                    ``n_classes``, ``n_per_class``, ``n_features``
lambda_W, lambda_H, beta, t                ``lam_w``, ``lam_h``, ``beta``, ``t``
NC1 with a tilde                           ``nc1_trace``
F, F_{k,k'}                                ``response_matrix``, ``BlockSpectrum``
E                                          ``E``
=========================================  ==================================================

Source: Tom Tirer, Haoxiang Huang and Jonathan Niles-Weed, 2022, arXiv 2210.16658.

Departures from the paper. Classes may differ in size, n being their mean then; the theorems are for equal ones, and
what rests on them refuses others. Where alternations are slow (beta below 10) Anderson's extrapolation speeds them up
(``solver="anderson"``); a quasi-Newton method would stop at the square root of the rounding. Two levels of F that the
paper leaves open are in the table above. :func:`~lodim.representation.estimate_beta` is ours.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
