"""Supervised dictionary against its best-known peer: which, on what data, with what target.

Run ``python benchmarks/supervised_dictionary.py``.
"""

from __future__ import annotations


def main() -> None:
    print("supervised-dictionary is planned: nothing to time")


if __name__ == "__main__":
    main()
