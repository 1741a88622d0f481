"""A filter that rounds an image's latent code to bits before a fixed classifier, and attacks that judge any defence.

:mod:`.filters` is the method, with its equations; :mod:`.attacks` what is thrown at it; :mod:`.reports` accuracies
under several threat models side by side, none of which is only the attack that a defence was built for.

Source: Vinay Kyatham and others, 2019, arXiv 1903.09940.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
