"""What is measured in more than one area, each figure beside its sample sizes and, for distances, beside its floor.

=====================  =====================================================================================
two samples            ``sliced_wasserstein``, ``mmd_rbf``, ``kid``, ``c2st``, ``frechet_distance``
support of samples     ``precision_recall``, ``density_coverage``, ``mode_coverage``, ``memorisation_gap``
clusters               ``clustering_accuracy``
features               ``coding_rate``, ``rate_reduction``
probabilities          ``probability_metrics``, ``reliability_curve``
learning curves        ``learning_curve_exponent``
images                 ``psnr``, ``ssim``
predictions            ``accuracy``, ``auc``, ``r2``
shares                 ``wilson_interval``
several tests          ``holm``
=====================  =====================================================================================
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
