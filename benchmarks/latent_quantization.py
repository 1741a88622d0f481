"""Latent quantization against its best-known peer: which, on what data, with what target.

Run ``python benchmarks/latent_quantization.py``.
"""

from __future__ import annotations


def main() -> None:
    print("latent-quantization is planned: nothing to time")


if __name__ == "__main__":
    main()
