"""Novel class discovery against its best-known peer: which, on what data, with what target.

Run ``python benchmarks/novel_class_discovery.py``.
"""

from __future__ import annotations


def main() -> None:
    print("novel-class-discovery is planned: nothing to time")


if __name__ == "__main__":
    main()
