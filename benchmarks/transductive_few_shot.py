"""Transductive few shot against its best-known peer: which, on what data, with what target.

Run ``python benchmarks/transductive_few_shot.py``.
"""

from __future__ import annotations


def main() -> None:
    print("transductive-few-shot is planned: nothing to time")


if __name__ == "__main__":
    main()
