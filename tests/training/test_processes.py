"""Several processes that descend together are one with the same batches."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lodim.nets import mlp
from lodim.randomness import build_seeded, torch_generator
from lodim.training import DescentRecipe, ExponentialMovingAverage, descend

ROWS = torch.randn(
    45, 6, generator=torch_generator(0)
)  # the last batch of a pass has one row, the second process none


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return len(ROWS)

    def __getitem__(self, i):
        return ROWS[i]


def work(folder, accelerator, seed):
    """Train as every process does; the first one's weights must hold for all."""
    model = build_seeded(lambda: mlp([5, 8, 1]), seed)
    average, steps = ExponentialMovingAverage(model, 50), []
    loss = lambda x: (model(x[:, :5]) - x[:, 5:]).square().mean()  # noqa: E731
    recipe = DescentRecipe(epochs=4, batch_size=11, lr=0.01, grad_clip=1.0, epoch_steps=5)
    stop = lambda run: run.stop() if len(steps) == 1 and run.step == 7 else None  # noqa: E731
    for data in (Rows(), Rows(), ROWS):  # stopped by one process, resumed, and on tensors
        path = folder / "tensors.pt" if data is ROWS else folder / "rows.pt"
        steps.append(0)
        mine = stop if accelerator is None or accelerator.process_index else None
        result = descend(
            loss, model, recipe, data, ema=average, on_step=mine, checkpoint=path, accelerator=accelerator
        )
        steps[-1] = result.steps
    tensors = [p.detach() for p in model.parameters()] + average.averages
    return {"steps": steps, "tensors": tensors, "losses": torch.tensor(result.losses)}


@pytest.mark.slow
def test_two_processes_are_one_with_the_same_batches(tmp_path):
    pytest.importorskip("accelerate", reason="needs the extra accelerate")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "two").mkdir()
    (tmp_path / "one").mkdir()
    common = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "ACCELERATE_USE_CPU": "true",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(tmp_path / "two")],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]
    assert [p.wait(timeout=240) for p in processes] == [0, 0]
    alone = work(tmp_path / "one", None, 0)
    for rank in range(2):
        found = torch.load(tmp_path / "two" / f"result{rank}.pt")
        assert found["steps"] == alone["steps"] == [7, 20, 20]
        torch.testing.assert_close(found["tensors"], alone["tensors"], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found["losses"], alone["losses"], rtol=1e-5, atol=1e-5)


if __name__ == "__main__":
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    folder = Path(sys.argv[1])
    found = work(folder, accelerator, accelerator.process_index)  # the second starts from other weights
    torch.save(found, folder / f"result{accelerator.process_index}.pt")
    accelerator.wait_for_everyone()
    accelerator.end_training()  # a group left to the interpreter's end now and then aborts there
