r"""Will a predictor that works in the environments seen keep working in new ones? A certificate with a probability.

**Problem.** Environments e (hospitals, years, interventions) are drawn from a family. In each, rows (x, y) have the
covariance :math:`\Sigma_e`. A representation :math:`\Phi \in R^{k \times d}` with one head w is invariant where w is
optimal in every environment. It looks so in m of them. How likely is it to be so, up to eps, in the next? With
:math:`G_e = \Phi \Sigma_e^{XX} \Phi^T`, :math:`r_e = G_e w - \Phi \Sigma_e^{Xy}` and :math:`w_e^* = w - G_e^{-1} r_e`
there are three measures, each the length of a vector of k numbers or its square:

.. math:: g_e = \Vert r_e \Vert \ \text{(gradient)}, \qquad \Vert w - w_e^* \Vert \ \text{(minimiser)}, \qquad
          R_e(w) - R_e(w_e^*) = r_e^T G_e^{-1} r_e \ \text{(risk)}.

**Held out.** Chosen without the environments, :math:`(\Phi, w)` violates eps independently in each, and the share of
all future ones that do has the exact binomial bound (Clopper and Pearson); without violations :math:`1 -
\gamma^{1/m}`. The same bound holds when eps is the largest :math:`g_e` seen (a tolerance limit, see :func:`certify`).

**Learnt** from the same environments, the bound must hold for all :math:`(\Phi, w)` at once, and sets :math:`\{e: g_e
\le \epsilon\}` must have finite VC dimension. Let V = B V + eta be a structural equation model without cycles, in
which an environment gives rows of B at sites S new weights, or none, and their noises new variances. In causal order
of the sites, the one with weights b and variance omega adds to V the effect of :math:`b \cdot V_{pa} + \eta`, and
with later sites cut that effect, T, is fixed. Covariances become

.. math:: c + T u^T + u T^T + s\, T T^T, \qquad u = \operatorname{cov}(V, V_{pa})\, b, \qquad
          s = b^T \operatorname{cov}(V_{pa})\, b + \omega,

where c, and cov(V, V_pa) for every parent, lie in the span of the f functions of e so far. So that span grows to (d +
1) f + 1 functions, for a site of in-degree d; it begins with the constant, f = 1. The measure is at most eps where a
form of degree q in these functions is at most 0, q = 2 (gradient: :math:`\Vert r \Vert^2 - \epsilon^2`), 2 k
(minimiser, times :math:`\det G^2`) or k + 1 (risk, times det G). Such forms make a space of

.. math:: D = \binom{f + q - 1}{q}

dimensions, and sets where a function of the space is not positive have VC dimension at most D (Dudley). D depends
neither on the number of variables nor on the number of columns, nor on a linear map of X that hides the variables
(Phi A is another Phi). Monomials alone, which need no causal order, give the product over sites of :math:`\binom{d +
2q}{2q}`, and with the variance as a variable of weight two :math:`\sum_j \binom{d + 2q - 2j}{d}`: see
:func:`polynomial_dimension`.

**The learnt bound.** Draw a ghost sample of m' environments. If some :math:`(\Phi, w, \epsilon)` with at most v
violations in m has a share above :math:`\delta`, the ghost holds at least :math:`t = \lfloor m' \delta \rfloor` of them
with probability a half (the median of a binomial). Exchanging the two samples, and with Sauer's bound on how many sets
of violations there are,

.. math:: \gamma = 2 \Big(\frac{e (m + m')}{D}\Big)^D \Pr[H \le v], \qquad
          H \sim \operatorname{Hypergeometric}(m + m',\ t + v,\ m).

This is solved for :math:`\delta`, with the best of a few m' (none of which looks at the data), and gamma / (m + 1) for
each v where v is not known beforehand. The closed forms found in books, :math:`m \ge \max(\frac4\delta
\log_2 \frac2\gamma, \frac{8D}\delta \log_2 \frac{13}\delta)` without violations (Blumer and others 1989) and
:math:`\delta = v/m + \sqrt{\frac8m (D \ln \frac{2em}D + \ln \frac4\gamma)}` with (Vapnik), are weaker consequences.

**Rows instead of covariances.** With N rows an environment has a bound :math:`U_e` on :math:`g_e` that fails with
probability alpha = 0.05, independently of others. See :func:`certify` for what then is certified.

=====================  =========================================================================================
symbol in the paper    name here
=====================  =========================================================================================
Phi, w                 ``Phi`` (k, d), ``w`` (k,)
B, Omega               ``LinearSEM.B``, ``LinearSEM.noise_var``; the last node is the target
Sigma_e                covariances of the columns of X and of y, y last
epsilon, delta, gamma  ``eps``, ``delta``, ``gamma`` (confidence is 1 - gamma)
=====================  =========================================================================================

Source: Advait Parulekar, Karthikeyan Shanmugam and Sanjay Shakkottai, 2022, arXiv 2205.15196.

Departures from the paper. Setting and spirit are the paper's; derivation and constants are ours, as the paper's could
not be compared. Counting functions of the environment instead of monomials makes D smaller (two sites of in-degree
two: 91, not 225) and lets noise variances change at no cost. If the sites are unknown but the same in all
environments, bounds on their number and in-degrees suffice and nothing is added: the true set is one, and no data
choose it. If they differ from one environment to the next, environments live on a union of families, one for each
set; traces multiply, so that D is multiplied by the number of sets, not increased by its logarithm.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
