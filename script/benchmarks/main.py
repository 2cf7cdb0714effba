"""`script/bench`: see docs/benchmarks.md for what is measured and why."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import care
import cloud
import diffing
import importing
import publishing
import reading
from reading import Bench
from report import Report, machine

PARTS = {
    "publish": publishing.publish,
    "dedup": publishing.dedup,
    "large": reading.large,
    "small": reading.small,
    "listings": reading.listings,
    "first-byte": reading.first_byte,
    "memory": reading.memory,
    "million": publishing.million,
    "diffs": diffing.diffs,
    "care": care.care,
    "import": importing.imports,
}
LONG = ("million", "diffs", "care", "import")
"""They make a store of 1.5 million files first, or a DVC repository with the DVC that they install."""
DEFAULT = [name for name in PARTS if name not in LONG]


def main() -> None:
    """Run the parts asked for, in order."""
    if sys.argv[1:2] == ["cloud"]:
        cloud.main(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(
        prog="script/bench", description=__doc__, epilog="script/bench cloud --help: over a network"
    )
    parser.add_argument(
        "parts", nargs="*", choices=[*PARTS, []], help="default: all but the long ones; publish comes first"
    )
    parser.add_argument("--dir", type=Path, default=Path(".bench"), help="where data, stores and caches go (10 GB)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    options = parser.parse_args()
    folder = options.dir.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(folder, Report())
    print(machine())
    print(f"{'figure':<66} {'fsd':>10} {'native':>10} {'ratio':>6}  goal")
    for part in options.parts or DEFAULT:
        PARTS[part](bench)
    if options.json:
        options.json.write_text(bench.report.json())
    if options.markdown:
        options.markdown.write_text(bench.report.markdown())


if __name__ == "__main__":
    main()
