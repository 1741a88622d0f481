"""Partitive partitioning against its best-known peer: which, on what data, with what target.

Run ``python benchmarks/partitive_partitioning.py``.
"""

from __future__ import annotations


def main() -> None:
    print("partitive-partitioning is planned: nothing to time")


if __name__ == "__main__":
    main()
