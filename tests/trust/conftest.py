"""Networks that a test makes without a seed of their own have the same weights in every run, in any order of tests."""

import pytest
import torch


@pytest.fixture(autouse=True)
def same_weights():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
