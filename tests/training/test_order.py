"""The order of the samples."""

import torch

from lodim.training.order import epoch_order


def test_every_sample_once_and_a_fresh_order_each_epoch_and_seed():
    orders = [epoch_order(50, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(50))
    assert len({tuple(order.tolist()) for order in orders}) == 4
    assert torch.equal(epoch_order(50, 1, 0), orders[2])


def test_the_global_generator_is_untouched():
    before = torch.get_rng_state()
    epoch_order(50, 0, 0)
    assert torch.equal(torch.get_rng_state(), before)
