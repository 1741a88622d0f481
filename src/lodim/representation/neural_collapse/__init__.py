r"""The exact geometry that features and classifiers approach behind a head of linear layers, classes balanced or not.

**Problem.** N features, the columns of H, are free; behind them are M linear layers, :math:`P = W_M \cdots W_1`, and
one-hot targets Y of K classes with :math:`n_k` samples. Minimise

.. math:: \frac{1}{2N} \Vert P H + b 1^\top - Y \Vert_F^2 + \sum_m \frac{\lambda_m}{2} \Vert W_m \Vert_F^2
          + \frac{\lambda_H}{2} \Vert H \Vert_F^2

or the same with mean cross-entropy in place of the first term.

**The regulariser of a product.** Of all factors with the product Z = P H the smallest penalty is

.. math:: \min_{W, H} = \frac{M + 1}{2} \sum_i \kappa_i, \qquad \kappa_i = (c\, \sigma_i^2)^{1/(M+1)}, \qquad
          c = \lambda_H \prod_m \lambda_m,

over the singular values :math:`\sigma_i` of Z. Then :math:`\lambda_m s_{m,i}^2 = \lambda_H h_i^2 = \kappa_i` for the
singular values of every layer and of H, all aligned: orthogonal classes stay so at every layer.

**Squared error.** The best Z has the singular vectors of Y (von Neumann), or with an unregularised bias those of Y less
its mean over samples, when :math:`b_k = n_k / N`. So directions part, each with the square of its singular value as
*effective count* :math:`\nu`: the classes themselves with :math:`\nu_k = n_k`, or the eigenvectors of
:math:`\operatorname{diag}(n) - n n^\top / N`. With :math:`t = x^M = p^2 / (N \lambda_H)`, where p is the singular value
of P, the direction's share of the loss is, times 2 N,

.. math:: \varphi(x) = \frac{\nu}{1 + x^M} + \beta x, \qquad \beta = M N (N c)^{1/M},

and :math:`\sigma = q \sqrt{\nu}` with :math:`q = t / (1 + t)`. Where :math:`\varphi' = 0`, in :math:`u = \log t`,

.. math:: g(u) = (1 - 1/M)\, u - 2 \log(1 + e^u) - \log \frac{\beta}{M \nu} = 0,

a concave function; its larger root is a local minimum, found by Newton's steps from above, which do not overshoot. A
direction is alive if it beats x = 0, i.e. :math:`\beta / \nu < t^{1 - 1/M} / (1 + t)`, which some t does if and only if
:math:`\beta / \nu < (M - 1)^{(M-1)/M} / M`; otherwise it is zero: **minority collapse**. Of more directions than the
narrowest layer has units the largest survive.

**Cross-entropy**, balanced classes, no layer narrower than K - 1: among simplex solutions
:math:`Z = \tau (I - 1 1^\top / K) \otimes 1_n^\top` the best has the larger root of

.. math:: \log(c\, n)^{1/(M+1)} - \frac{M - 1}{M + 1} \log \tau + \log(e^\tau + K - 1) = 0,

compared with :math:`\tau = 0`.

==========================  ==========================================================================================
symbol in the paper         name here
==========================  ==========================================================================================
n_k, N, K, M                ``n_per_class``, ``N``, ``K``, ``M``
lambda_m, lambda_H          ``lam_w``, ``lam_h``
b, x_k^M                    ``beta``, ``t``
w_k, h_k                    rows of P, columns of the class means: ``classifier_norms``, ``mean_norms``
d_0, ..., d_{M-1}           ``dims``, widths of the features and of the layers before the last
ETF, OF, GOF                frames "etf" and "orthogonal" of :mod:`lodim.representation.collapse`, and lengths
==========================  ==========================================================================================

Source: Hien Dang, Tho Tran, Stanley Osher, Hung Tran-The, Nhat Ho, Tan Nguyen, 2023, arXiv 2301.00437.

Departures from the paper. Effective counts cover unequal classes *with* a bias too, which the paper leaves out. The
root is compared with zero (a largest real root alone calls a class alive that is better at zero). With cross-entropy
and two linear layers or more the simplex need not be the global minimum, whatever the paper's theorem says: the
quasi-norm above favours low rank. Logits :math:`r \cos(2 \pi (i - j) / K)`, a regular polygon in the plane, are
compared with it, and a warning says when they are better; descent also finds other solutions of lower rank
(:class:`DeepLinearUFM` shows both).
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
