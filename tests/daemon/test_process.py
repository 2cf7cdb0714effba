"""A daemon has what it asks of the system."""

from __future__ import annotations

import json
import subprocess
import sys

CODE = """
import json, resource
from fsd.daemon.process import tune
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, most))
tune()
tune()
print(json.dumps(resource.getrlimit(resource.RLIMIT_NOFILE)))
"""


def test_as_many_descriptors_as_are_permitted() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, timeout=60)
    soft, hard = json.loads(done.stdout)
    assert soft == hard
