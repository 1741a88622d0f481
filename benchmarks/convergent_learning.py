"""Convergent learning against its best-known peer: which, on what data, with what target.

Run ``python benchmarks/convergent_learning.py``.
"""

from __future__ import annotations


def main() -> None:
    print("convergent-learning is planned: nothing to time")


if __name__ == "__main__":
    main()
