from .jobs import count_processes as count_processes
from .jobs import run_jobs as run_jobs
from .outcome import JobsInterrupted as JobsInterrupted
from .outcome import Outcome as Outcome
from .store import ResultStore as ResultStore

__all__ = ["JobsInterrupted", "Outcome", "ResultStore", "count_processes", "run_jobs"]
