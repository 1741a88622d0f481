"""Everything traces into one graph: in a process of its own, because run-time type checks do not trace."""

import subprocess
import sys
import textwrap

import pytest

SCRIPT = """
import warnings
import torch
from lodim.linalg import fwht
from lodim.sketch import KINDS, make_projection

warnings.simplefilter("ignore")
maps = {kind: make_projection(kind, 50, 8, seed=1) for kind in KINDS} | {"fwht": fwht}
for name, function in maps.items():
    torch.compiler.reset()
    compiled = torch.compile(lambda v: 2 * function(v), backend="aot_eager", fullgraph=True)
    gradients = []
    for path in (compiled, lambda v: 2 * function(v)):
        v = torch.arange(8.0).requires_grad_()
        result = path(v)
        result.square().sum().backward()
        gradients.append((result.detach(), v.grad))
    torch.testing.assert_close(*gradients)
    print(name)
"""


@pytest.mark.slow
def test_projections_and_the_transform_compile_without_graph_breaks():
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(SCRIPT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 14
