"""Ambient diffusion against its best-known peer: which, on what data, with what target.

Run ``python benchmarks/ambient_diffusion.py``.
"""

from __future__ import annotations


def main() -> None:
    print("ambient-diffusion is planned: nothing to time")


if __name__ == "__main__":
    main()
