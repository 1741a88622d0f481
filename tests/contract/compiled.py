"""Compiles every example layer in one graph and prints what went wrong, by name, as JSON.

A process of its own runs it (``python -m contract.compiled`` in the tests' folder), because the run-time type checks of
the tests cannot be traced.
"""

import json
import warnings

import torch

from contract.examples import LAYERS


def difference(layer):
    """Return what is wrong with the compiled layer, or an empty string."""
    model, x = layer.build().eval(), layer.inputs()
    torch.compiler.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    try:
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:400]}"
    return ""


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    found = {
        f"{thing.__name__}-{i}": difference(layer)
        for thing, several in LAYERS.items()
        for i, layer in enumerate(several)
        if "compile" not in layer.without
    }
    print(json.dumps(found))
