"""What all tests share: examples of hypothesis without a time limit, and no colours, whatever the environment says."""

import os

import pytest
from hypothesis import HealthCheck, settings

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
