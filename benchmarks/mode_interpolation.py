"""Mode interpolation against its best-known peer: which, on what data, with what target.

Run ``python benchmarks/mode_interpolation.py``.
"""

from __future__ import annotations


def main() -> None:
    print("mode-interpolation is planned: nothing to time")


if __name__ == "__main__":
    main()
