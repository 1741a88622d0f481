"""Harmonic denoisers against its best-known peer: which, on what data, with what target.

Run ``python benchmarks/harmonic_denoisers.py``.
"""

from __future__ import annotations


def main() -> None:
    print("harmonic-denoisers is planned: nothing to time")


if __name__ == "__main__":
    main()
