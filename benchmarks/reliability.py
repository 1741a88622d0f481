"""What damage does to what lodim stores: bits are flipped, and what is then read is counted. Prints a Markdown table.

Right is: nothing raised, no altered value returned, every damaged file said. Run ``python benchmarks/reliability.py``.
"""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lodim.identity import content_hash
from lodim.parallel import ResultStore

FLIPS = 4000


@dataclass
class Run:
    """Like what sweeps store."""

    score: float = 0.91
    stopped: str = "steps"
    weights: dict[str, np.ndarray] = field(
        default_factory=lambda: {"w": np.linspace(0.0, 1.0, 300, dtype=np.float32)}
    )


STORED = (
    np.arange(2000.0),
    Run(),
    "text, with a dimension of 17 in it",
    {"d": 17, "scores": [0.5, 0.25]},
    None,
)


def flip_stores(folder: Path, flips: int, seed: int) -> dict[str, int]:
    """Flip one bit at a time in the files of a result store, all equally likely, and ask for their results."""
    store, rng = ResultStore(folder), np.random.default_rng(seed)
    found = {"tried": 0, "raised": 0, "altered": 0, "not said": 0}
    for number, value in enumerate(STORED):
        store.put(number, value)
    files = {number: folder / f"{content_hash(number)}.pkl" for number in range(len(STORED))}
    for _ in range(flips):
        number = int(rng.integers(len(STORED)))
        whole = files[number].read_bytes()
        damaged = bytearray(whole)
        damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        files[number].write_bytes(damaged)
        found["tried"] += 1
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                outcome = ResultStore(folder).get(number)
            except Exception:
                found["raised"] += 1
            else:
                found["altered"] += outcome is not None and content_hash(outcome.value) != content_hash(
                    STORED[number]
                )
                found["not said"] += not any(files[number].name in str(w.message) for w in said)
        files[number].write_bytes(whole)
    return found


def main() -> None:
    """Damage each kind of file and print what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        rows = {"result stores, one bit flipped": flip_stores(Path(folder), FLIPS, seed=0)}
    print("| damage | tried | raised | altered values returned | not said |\n|---|---|---|---|---|")
    for what, found in rows.items():
        print(f"| {what} | {' | '.join(f'{count:,}' for count in found.values())} |")


if __name__ == "__main__":
    main()
