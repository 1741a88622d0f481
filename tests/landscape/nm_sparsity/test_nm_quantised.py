"""Sparsify, then quantise: a symmetric grid has zero on it, so the pattern survives."""

import pytest
import torch

from lodim.landscape import NMSparsifier, check_nm
from lodim.landscape.quantization import QuantSpec, fake_quantize, weight_qparams
from lodim.nets import mlp
from lodim.randomness import build_seeded


@pytest.mark.parametrize("bits", [4, 8])
def test_zeros_stay_zeros_on_a_symmetric_grid(bits):
    net = build_seeded(lambda: mlp([32, 16, 3]), 0)
    sparsifier = NMSparsifier(net, 2, 8, "ste", targets=["0"], total_steps=1, dense_frac=0, finetune_frac=0)
    sparsifier.step()
    assert sparsifier.finalize().exact
    pruned = net[0].weight == 0
    assert int(pruned.sum()) == 32 * 16 * 6 // 8
    weight, spec = net[0].weight.detach(), QuantSpec(bits=bits, symmetric=True)
    rounded = fake_quantize(weight, *weight_qparams(weight, spec), spec)
    assert bool((rounded[pruned] == 0).all())
    with torch.no_grad():
        net[0].weight.copy_(rounded)
    assert check_nm(net, 2, 8, ["0"]).valid
