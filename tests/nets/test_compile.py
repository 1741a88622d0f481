"""The blocks trace into one graph: in a process of its own, because run-time type checks do not trace."""

import subprocess
import sys

import pytest

SCRIPT = """
import copy, warnings
import torch
from lodim.nets import BiasFreeUNet, CausalTransformer, SmallUNet, TimeMLP, VectorQuantizer

warnings.simplefilter("ignore")
torch.manual_seed(0)
x = torch.randn(3, 7, 4)
CASES = [
    (VectorQuantizer(8, 4), (x,)),
    (VectorQuantizer(8, 4, ema=True), (x,)),
    (CausalTransformer(9, 8, 16, 2, 2), (torch.randint(9, (3, 7)),)),
    (TimeMLP(4, 16, 1, cond_dim=2), (x[0], x[0, :, 0], {"vector": x[0, :, :2]})),
    (SmallUNet(3, 4, (1, 2)), (x[None], x[0, :1, 0])),
    (BiasFreeUNet(3, 4, 1), (torch.randn(1, 3, 4, 6),)),
]
for model, inputs in CASES:
    torch.compiler.reset()
    twin = copy.deepcopy(model)
    compiled = torch.compile(twin, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(*inputs), model(*inputs))
    torch.testing.assert_close(twin.state_dict(), model.state_dict())
    print(type(model).__name__)
"""


@pytest.mark.slow
def test_every_block_compiles_without_a_graph_break():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 6
