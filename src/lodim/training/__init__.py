"""One descent for everything that trains: :func:`descend` for any loss, :func:`fit` for one module on a task, and
:func:`fit_replicas` for many runs as one."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
