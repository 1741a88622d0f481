"""Probability estimation against its best-known peer: which, on what data, with what target.

Run ``python benchmarks/probability_estimation.py``.
"""

from __future__ import annotations


def main() -> None:
    print("probability-estimation is planned: nothing to time")


if __name__ == "__main__":
    main()
