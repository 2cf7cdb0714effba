"""`script/soak`: exit code 0 if no byte was wrong, nothing leaked, and no read failed that should not have."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from integration.soak.report import figures, plot, table
from integration.soak.world import Plan, soaking

LEAST_MINUTES = 5.0
"""Below that, caches are still filling when it ends, and growth says nothing."""


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="script/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long; from 5 on, growth is judged, too")
    parser.add_argument("--seed", type=int, default=1, help="another one has other accidents")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures and samples there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="a PNG of memory, descriptors and threads over time")
    arguments = parser.parse_args()
    plan = Plan(60 * arguments.minutes, judges_growth=arguments.minutes >= LEAST_MINUTES, seed=arguments.seed)
    with tempfile.TemporaryDirectory(prefix="fsd-soak-") as folder, soaking(plan, Path(folder)) as soak:
        soak.run(lambda line: print(line, file=sys.stderr, flush=True))
        found = figures(soak)
        if arguments.json:
            arguments.json.write_text(json.dumps(found, indent=1))
        if arguments.plot:
            plot(soak.lives[0].samples, soak.lives[1].samples, arguments.plot)
    print(table(found))
    for violation in found["violations"]:
        print("VIOLATION:", violation, file=sys.stderr)
    return 1 if found["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
