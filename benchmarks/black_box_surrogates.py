"""Black box surrogates against its best-known peer: which, on what data, with what target.

Run ``python benchmarks/black_box_surrogates.py``.
"""

from __future__ import annotations


def main() -> None:
    print("black-box-surrogates is planned: nothing to time")


if __name__ == "__main__":
    main()
