"""Invariance certificates against its best-known peer: which, on what data, with what target.

Run ``python benchmarks/invariance_certificates.py``.
"""

from __future__ import annotations


def main() -> None:
    print("invariance-certificates is planned: nothing to time")


if __name__ == "__main__":
    main()
