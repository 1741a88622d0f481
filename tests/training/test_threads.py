"""A small network trains on one thread, and the caller's number of threads comes back whatever happens."""

import pytest
import torch

from lodim.training.threads import threads_for


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("size", "inside"), [(10, 1), (10**7, 2)])
def test_number_inside_and_after(two_threads, size, inside):
    with threads_for(size, torch.device("cpu")):
        assert torch.get_num_threads() == inside
    assert torch.get_num_threads() == 2


def test_restored_after_an_error(two_threads):
    with pytest.raises(RuntimeError), threads_for(10, torch.device("cpu")):
        raise RuntimeError
    assert torch.get_num_threads() == 2
