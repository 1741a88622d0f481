r"""Probabilities of outcomes that are random, from networks, and what can be said of how true they are.

**Problem.** Whether it rains is uncertain even to a perfect forecaster, and the data hold yes or no only: outcomes
:math:`y_i \sim \mathrm{Bernoulli}(p(x_i))`. A network trained by the cross-entropy

.. math:: L(\theta; t) = -\frac1n \sum_i [ t_i \log \hat p_\theta(x_i) + (1 - t_i) \log (1 - \hat p_\theta(x_i)) ]

with targets t = y comes near p at first, and memorises the outcomes later: its answers go to 0 and 1.

**CaPE** (calibrated probability estimation). Stage 1 minimises L(theta; y) and stops where the validation loss is
least. Stage 2 goes on from there with a small rate, in turn with the outcomes and with empirical probabilities,
computed from what the network now predicts of the training samples: over B bins of equal counts, or by a kernel over
the W neighbours on either side in the order of the predictions,

.. math:: t_i = \frac{1}{|I_b|} \sum_{j \in I_b} y_j, \; i \in I_b, \qquad
          t_i = \frac{\sum_j K((\hat p_i - \hat p_j) / s)\, y_j}{\sum_j K((\hat p_i - \hat p_j) / s)}, \;
          K(u) = e^{-u^2/2}.

Kept are the epoch of the least validation loss, and the last.

========================  ==============================================================================
symbol in the paper       name here
========================  ==============================================================================
p(x), p hat               ``p_true``, ``p_hat``
y                         ``y``, any two labels; the second in sorted order is the event
B, s                      ``n_bins``, ``bandwidth``
W                         ``window``
psi                       ``scenario`` of :func:`simulate_outcomes`
MSE_p, KL_p, ECE, KS      :func:`lodim.metrics.probability_metrics`
========================  ==============================================================================

Source: Sheng Liu and others, 2021, arXiv 2111.10734.

Departures from the paper. Predictions that are equal get equal targets: they share a bin, and a window holds all of
them. The public code makes two epochs with outcomes for one with empirical probabilities, ``target_every=3``; the
default here is in turn. Beside it stand the methods it is compared with, at training time (:class:`ProbabilisticNet`)
and afterwards (:class:`Calibrated`), and a test of calibration whose interval allows for the upward bias of the
expected calibration error (:func:`calibration_check`), which the paper has not.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
