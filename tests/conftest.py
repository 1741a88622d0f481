"""What all tests share: one thread a process, examples of hypothesis without a time limit, and no colours."""

import os

# Before NumPy and torch are loaded: the problems are small, and processes side by side would fight for the cores.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

# A busy machine may take long over any single example.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

os.environ["_TYPER_FORCE_DISABLE_TERMINAL"] = "1"  # on GitHub it would colour; read when typer is imported


@pytest.fixture(scope="session", autouse=True)
def _plain_text():
    """Commands write as into a file, without the escape sequences of a terminal."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
            patch.delenv(name, raising=False)
        yield
