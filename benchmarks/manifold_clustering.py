"""Manifold clustering against its best-known peer: which, on what data, with what target.

Run ``python benchmarks/manifold_clustering.py``.
"""

from __future__ import annotations


def main() -> None:
    print("manifold-clustering is planned: nothing to time")


if __name__ == "__main__":
    main()
