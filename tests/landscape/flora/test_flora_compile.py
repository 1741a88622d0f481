"""Adapted layers compile into one graph: in a process of its own, because run-time type checks do not trace."""

import subprocess
import sys
import textwrap

import pytest

SCRIPT = """
import warnings
import torch
from torch import nn
from lodim.landscape.flora import FLoRAConv2d, FLoRAConvTranspose1d, FLoRAEmbedding, FLoRALinear

warnings.simplefilter("ignore")
torch.manual_seed(0)
CASES = [
    (FLoRALinear, nn.Linear(6, 8), torch.randn(4, 6)),
    (FLoRAConv2d, nn.Conv2d(8, 12, 3, groups=4), torch.randn(2, 8, 6, 5)),
    (FLoRAConvTranspose1d, nn.ConvTranspose1d(4, 6, 3, stride=2), torch.randn(2, 4, 7)),
    (FLoRAEmbedding, nn.Embedding(9, 5, padding_idx=0), torch.tensor([[0, 3, 8]])),
]
for kind, base, x in CASES:
    for form in ("auto", "materialize", "chain"):
        layer = kind(base, 2, form=form)
        nn.init.normal_(layer.flora_core["default"])
        torch.compiler.reset()
        compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
        gradients = []
        for path in (compiled, layer):
            layer.zero_grad()
            result = path(x)
            result.square().sum().backward()
            gradients.append((result.detach(), layer.flora_core["default"].grad.clone()))
        torch.testing.assert_close(*gradients)
        print(kind.__name__, form, sep="-")
"""


@pytest.mark.slow
def test_layers_compile_without_graph_breaks():
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(SCRIPT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 12
