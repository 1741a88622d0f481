"""Near collapse against its best-known peer: which, on what data, with what target.

Run ``python benchmarks/near_collapse.py``.
"""

from __future__ import annotations


def main() -> None:
    print("near-collapse is planned: nothing to time")


if __name__ == "__main__":
    main()
