"""Diffusion mbir against its best-known peer: which, on what data, with what target.

Run ``python benchmarks/diffusion_mbir.py``.
"""

from __future__ import annotations


def main() -> None:
    print("diffusion-mbir is planned: nothing to time")


if __name__ == "__main__":
    main()
