"""`python -m fsd_cli`: the command `fsd` where its script is not on the PATH."""

from __future__ import annotations

import sys

from fsd_cli.main import main

if __name__ == "__main__":
    sys.exit(main())
