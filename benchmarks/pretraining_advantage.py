"""Pretraining advantage against its best-known peer: which, on what data, with what target.

Run ``python benchmarks/pretraining_advantage.py``.
"""

from __future__ import annotations


def main() -> None:
    print("pretraining-advantage is planned: nothing to time")


if __name__ == "__main__":
    main()
