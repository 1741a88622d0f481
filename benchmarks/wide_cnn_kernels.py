"""Wide cnn kernels against its best-known peer: which, on what data, with what target.

Run ``python benchmarks/wide_cnn_kernels.py``.
"""

from __future__ import annotations


def main() -> None:
    print("wide-cnn-kernels is planned: nothing to time")


if __name__ == "__main__":
    main()
