"""deploy/Containerfile, built for real: upon a Debian that was made here, and not what a registry has by its name."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from integration import debian
from integration.users import needs_root
from integration.wheels import REPOSITORY

CONTAINERFILE = (REPOSITORY / "deploy/Containerfile").read_text()

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

pytestmark = [
    needs_root,
    pytest.mark.skipif(shutil.which("buildah") is None, reason="takes buildah"),
    pytest.mark.slow,
]

Buildah = Callable[..., str]

USE = """
fsd=/opt/fsd/bin/fsd
export FSD_STORE=/tmp/store
mkdir /tmp/data /tmp/m
echo content >/tmp/data/f
$fsd init >&2
$fsd commit /tmp/data data --tag v1 >&2
$fsd mount /tmp/m
cat /tmp/m/data/v1/f
$fsd umount /tmp/m
ls -A /tmp/m
"""


def run(folder: Path, environment: dict[str, str], *arguments: str | Path) -> str:
    """Run buildah with all that it keeps below `folder`; what it prints."""
    command = ["buildah", f"--root={folder / 'root'}", f"--runroot={folder / 'run'}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment)
    assert done.returncode == 0, f"{arguments} gave {done.returncode}:\n{done.stdout[-5000:]}{done.stderr[-5000:]}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory, found_environment: dict[str, str]) -> Iterator[Buildah]:
    """It, and an image by the name that the file begins with."""
    if not debian.mirror_answers(found_environment):
        pytest.skip(f"{debian.MIRROR}, where packages come from, does not answer")
    folder = tmp_path_factory.mktemp("buildah")
    command = partial(run, folder, found_environment)
    try:
        debian.SLIM.unpack(folder / "debian", found_environment)
        container = command("from", "scratch")
        command("add", container, folder / "debian", "/")
        [name] = set(re.findall(r"^FROM (\S+)", CONTAINERFILE, re.MULTILINE))
        command("commit", container, name)
        command("rm", container)
        yield command
    except debian.UnavailableError as error:
        pytest.skip(str(error))
    finally:
        command("rm", "--all")
        subprocess.run(["umount", "--quiet", folder / "root/overlay"], check=False)  # which it leaves mounted
        shutil.rmtree(folder)


def build(buildah: Buildah, folder: Path, containerfile: str, image: str) -> None:
    file = folder / "Containerfile"
    file.write_text(containerfile)
    # The container's own may not know who signs for the index here.
    trusted = [f"--volume={CERTIFICATES}:/trusted.crt:ro", "--env=PIP_CERT=/trusted.crt"]
    kept = ["--layers", "--pull-never", "--isolation=chroot"]
    buildah("bud", *kept, *(trusted if CERTIFICATES.exists() else []), f"--file={file}", f"--tag={image}", REPOSITORY)


# A step at a time, each upon those before: all together may take longer than a test may.


def test_the_system_to_build_on_is_made(buildah: Buildah) -> None:
    assert buildah("images", "--quiet")


@pytest.mark.parametrize("end", [found.end() for found in re.finditer(r"(?m)^RUN (?:.*\\\n)*.*\n", CONTAINERFILE)])
def test_it_builds_as_far_as(end: int, buildah: Buildah, tmp_path: Path) -> None:
    build(buildah, tmp_path, CONTAINERFILE[:end], "part")


def test_what_it_builds_mounts(buildah: Buildah, tmp_path: Path) -> None:
    build(buildah, tmp_path, CONTAINERFILE, "fsd")
    [entry] = re.findall(r'^ENTRYPOINT \["(.*)"\]$', CONTAINERFILE, re.MULTILINE)
    container = buildah("from", "--pull-never", "localhost/fsd")
    inside = partial(buildah, "run", "--isolation=chroot", "--cap-add=CAP_SYS_ADMIN", container, "--")
    assert inside(entry, "--version").startswith("fsd ")
    # Files are opened the fast way, and there are stores other than folders.
    inside("/opt/fsd/bin/python", "-P", "-c", "import fsd.fuse._interpose, obstore")
    assert inside("sh", "-e", "-c", USE) == "content"
    # What building took stayed where it was built.
    assert inside("sh", "-c", "command -v gcc || true") == ""
