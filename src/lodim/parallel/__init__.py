"""Independent jobs, here or elsewhere: ``run_jobs(function, jobs)``.

One call runs a list of jobs in this process, in local processes or on a Ray cluster, with the same results. A job that
fails, or whose process dies, is reported and the rest are kept; with a :class:`ResultStore`, finished jobs are never
run twice, so an interrupted sweep resumes where it stopped.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
