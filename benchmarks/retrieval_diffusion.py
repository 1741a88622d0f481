"""Retrieval diffusion against its best-known peer: which, on what data, with what target.

Run ``python benchmarks/retrieval_diffusion.py``.
"""

from __future__ import annotations


def main() -> None:
    print("retrieval-diffusion is planned: nothing to time")


if __name__ == "__main__":
    main()
