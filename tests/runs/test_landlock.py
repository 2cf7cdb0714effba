"""What a command is denied, by the kernel itself: real processes, which try to get at it by every way there is."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from fsd.errors import FsdError
from fsd.runs import landlock
from fsd.runs.environment import python_places
from fsd.runs.landlock import Allowed, denial, prepare, system

needs_landlock = pytest.mark.skipif(not landlock.version(), reason="this kernel has no Landlock")

SECRET = "what nobody declared"
OPEN = "what was declared"
NOTHING = Allowed()


class Room:
    """A folder with things declared and not, and commands run in it."""

    def __init__(self, top: Path) -> None:
        self.top = top
        for folder in ("data", "hidden", "out", "temporary"):
            (top / folder).mkdir(parents=True)
        (top / "data" / "open").write_text(OPEN)
        (top / "hidden" / "secret").write_text(SECRET)
        (top / "out" / "old").write_text("old")
        places = python_places(sys.executable, os.environ, top)
        self.allowed = (
            Allowed(read=[*places, top / "data"], write=[top / "temporary"], outputs=[top / "out"]) | system()
        )

    def run(self, *command: str, more: Allowed = NOTHING) -> tuple[int, str]:
        """How it ended, and all that it said."""
        with prepare(self.allowed | more) as rules:
            done = subprocess.run(
                command,
                cwd=self.top,
                preexec_fn=rules.restrict_self,
                env={"PATH": os.environ["PATH"], "TMPDIR": os.fspath(self.top / "temporary"), "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=60,
                check=False,
            )
        return done.returncode, done.stdout

    def python(self, code: str, more: Allowed = NOTHING) -> tuple[int, str]:
        return self.run(sys.executable, "-c", code, more=more)


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path / "room")


def is_denied(found: tuple[int, str]) -> bool:
    code, output = found
    # (What the kernel says of a link or move by which a file would come to be readable is the latter.)
    said = "Permission denied" in output or "Invalid cross-device link" in output
    return code != 0 and SECRET not in output and said


# --- reading


@needs_landlock
@pytest.mark.parametrize(
    "command",
    [
        ["cat", "data/open"],
        ["cat", "out/old", "data/open"],
        ["sh", "-c", "ls data && cat data/../data/open"],
        ["sh", "-c", "cat < data/open | (setsid -w cat)"],
        [sys.executable, "-c", "import json, ssl, fsd; print(open('data/open').read())"],
        [sys.executable, "-c", "import os; os.chdir('data'); print(open('open').read(), os.listdir())"],
        ["sh", "-c", "cat data/open > /dev/null && cat data/open > /dev/stdout"],
        [
            sys.executable,
            "-c",
            "import tempfile; f = tempfile.TemporaryFile(); f.write(b'x'); print(open('data/open').read())",
        ],
        [
            sys.executable,
            "-c",
            "import multiprocessing as m; q = m.Queue(); q.put(open('data/open').read()); print(q.get())",
        ],
    ],
)
def test_what_is_declared_is_there(room: Room, command: Sequence[str]) -> None:
    code, output = room.run(*command)
    assert (code, OPEN in output) == (0, True), output


@needs_landlock
@pytest.mark.parametrize(
    "script",
    [
        "cat hidden/secret",
        "cat {room}/hidden/secret",
        "cat data/../hidden/secret",
        "cat link",
        "cat folder-link/secret",
        "cat /proc/self/root{room}/hidden/secret",
        "cat /proc/self/cwd/hidden/secret",
        "cat /proc/{outside}/root{room}/hidden/secret",
        "cat /proc/{outside}/cwd/room/hidden/secret",
        "cat /proc/{outside}/fd/{descriptor}",
        "cd hidden && cat secret",
        "ls hidden",
        "ls .",
        "sh -c 'sh -c \"cat hidden/secret\"'",
        "setsid -w cat hidden/secret",
        "cat hidden/secret & wait $!",
        "(setsid sh -c 'cat hidden/secret; echo $? > temporary/ended' &) ; "
        "while [ ! -s temporary/ended ]; do :; done; exit $(cat temporary/ended)",
        "cp hidden/secret out/copy",
        "ln hidden/secret out/hard && cat out/hard",
        "mv hidden/secret out/moved && cat out/moved",
        "cat hard",
        "sh hidden/secret",
        "hidden/secret",
        ". hidden/secret",
        "cat hidden-output",
    ],
)
def test_what_is_not_declared_is_denied(room: Room, script: str) -> None:
    hidden = room.top / "hidden" / "secret"
    hidden.chmod(0o755)
    (room.top / "link").symlink_to("hidden/secret")
    (room.top / "data" / "link").symlink_to("../hidden/secret")
    (room.top / "folder-link").symlink_to("hidden")
    os.link(hidden, room.top / "hard")
    # Where an output is, things may be made; not read.
    (room.top / "hidden-output").write_text(SECRET)
    with hidden.open() as held:
        script = script.format(room=room.top, outside=os.getpid(), descriptor=held.fileno())
        assert is_denied(room.run("sh", "-c", script)), script
    assert hidden.read_text() == SECRET


@needs_landlock
@pytest.mark.parametrize(
    "code",
    [
        "open('hidden/secret')",
        "open('data/link')",
        "import os; os.open('hidden', os.O_RDONLY)",
        "import os; os.listdir('.')",
        "import os; print(os.read(os.open(f'/proc/self/fd/{os.open(\"hidden/secret\", os.O_PATH)}', os.O_RDONLY), 99))",
        "import os; os.open('secret', os.O_RDONLY, dir_fd=os.open('hidden', os.O_PATH))",
        "import os; os.rename('hidden/secret', 'temporary/secret'); print(open('temporary/secret').read())",
        "import threading; t = threading.Thread(target=lambda: print(open('hidden/secret').read())); t.start(); "
        "t.join(); raise SystemExit(1)",
        "import os; pid = os.fork(); print(open('hidden/secret').read()) if pid == 0 else os.waitpid(pid, 0); "
        "raise SystemExit(1)",
        "import subprocess; subprocess.run(['cat', 'hidden/secret'], check=True, start_new_session=True)",
        "import mmap, os; mmap.mmap(os.open('hidden/secret', os.O_RDONLY), 0, prot=mmap.PROT_READ)",
        "import secret",
        "import ctypes; ctypes.CDLL('./hidden/secret')",
        "open('/var/lib/dpkg/status')",
        f"print(open('/proc/{os.getppid()}/mem', 'rb').read(1))",
    ],
)
def test_what_is_not_declared_is_denied_to_python(room: Room, code: str) -> None:
    (room.top / "data" / "link").symlink_to("../hidden/secret")
    found = room.python(f"import sys; sys.path.insert(0, 'hidden')\n{code}")
    assert found[0] != 0
    assert SECRET not in found[1]
    assert "denied" in found[1] or "No module" in found[1] or "Invalid cross-device" in found[1], found[1]


@needs_landlock
def test_a_symlink_opens_nothing(room: Room) -> None:
    """One that is in the code names a place that is not."""
    (room.top / "link").symlink_to("hidden/secret")
    assert is_denied(room.run("cat", "link", more=Allowed(read=[room.top / "link"])))
    code, output = room.run("cat", "link", more=Allowed(read=[(room.top / "link").resolve()]))
    assert (code, output) == (0, SECRET)


@needs_landlock
def test_a_file_is_not_its_folder(room: Room) -> None:
    (room.top / "hidden" / "known").write_text(OPEN)
    more = Allowed(read=[room.top / "hidden" / "known"])
    assert room.run("cat", "hidden/known", more=more) == (0, OPEN)
    assert is_denied(room.run("cat", "hidden/secret", more=more))
    assert is_denied(room.run("ls", "hidden", more=more))


@needs_landlock
def test_modules_are_found_where_names_may_be_listed(room: Room) -> None:
    (room.top / "package").mkdir()
    code = [room.top / "main.py", room.top / "helper.py", room.top / "package" / "part.py"]
    code[0].write_text("import helper, package.part\n")
    code[1].write_text(f"print({OPEN!r})\n")
    code[2].write_text("")
    found = room.run(sys.executable, "main.py", more=Allowed(read=code, listed=[room.top]))
    assert found == (0, f"{OPEN}\n")
    more = Allowed(read=code, listed=[room.top])
    assert room.run("ls", "hidden", more=more) == (0, "secret\n"), "names, of all folders below"
    assert is_denied(room.run("cat", "hidden/secret", more=more))
    assert room.run(sys.executable, "main.py", more=Allowed(read=code))[0] != 0


@needs_landlock
def test_thousands_of_files(room: Room) -> None:
    many = room.top / "many"
    many.mkdir()
    files = [many / str(number) for number in range(5000)]
    for file in files:
        file.write_text("x")
    more = Allowed(read=[file for file in files if file.name != "4321"])
    script = "cat many/0 many/2500 many/4999"
    assert room.run("sh", "-c", script, more=more) == (0, "xxx")
    assert is_denied(room.run("cat", "many/4321", more=more))


@needs_landlock
def test_what_is_not_there_opens_nothing(room: Room) -> None:
    missing = Allowed(read=[room.top / "later", room.top / "data" / "open" / "below"])
    with prepare(missing):
        pass
    assert is_denied(room.run("sh", "-c", "echo x > later; cat later", more=missing))


# --- writing


@needs_landlock
@pytest.mark.parametrize(
    "script",
    [
        "echo new > out/new && cat out/new",
        "echo more >> out/old && cat out/old",
        "mkdir -p out/a/b && echo x > out/a/b/c && mv out/a/b/c out/c && cat out/c && rm -r out/a",
        "ln -s old out/link && cat out/link && ln out/old out/hard && rm out/old",
        "echo x > temporary/x && cp temporary/x out/x && mv temporary/x out/y && cat out/y",
        "truncate -s 1 out/old && mkfifo out/fifo",
        "rm -r out && mkdir out && echo new > out/new",
        "echo '{}' > metrics.json.new && mv metrics.json.new metrics.json",
        "echo x > model.part && mv model.part model",
        "mkdir -p deep/er && echo x > deep/er/model",
    ],
)
def test_outputs_are_made(room: Room, script: str) -> None:
    outputs = [room.top / name for name in ("out", "metrics.json", "model", "deep/er/model")]
    code, output = room.run("sh", "-ec", script, more=Allowed(outputs=outputs))
    assert (code, output.count("denied")) == (0, 0), output


@needs_landlock
def test_what_is_made_beside_outputs_is_not_read(room: Room) -> None:
    assert is_denied(room.run("sh", "-c", "echo x > model && cat model", more=Allowed(outputs=[room.top / "model"])))
    assert (room.top / "model").read_text() == "x\n"
    assert room.run("cat", "model", more=Allowed(outputs=[room.top / "model"])) == (0, "x\n"), "it is there now"


@needs_landlock
def test_nothing_is_written_elsewhere(tmp_path: Path) -> None:
    room = Room(tmp_path / "room")
    room.allowed = room.allowed._replace(outputs=[room.top / "out" / "model"])
    for script in (
        "echo x > data/open",
        "echo x > data/new",
        "mkdir data/new",
        "rm data/open",
        "mv data/open out/open",
        "ln -s x data/link",
        f"echo x > {tmp_path}/elsewhere",
        "truncate -s 0 data/open",
    ):
        assert is_denied(room.run("sh", "-c", script)), script
    assert sorted(path.name for path in (room.top / "data").iterdir()) == ["open"]
    assert (room.top / "data" / "open").read_text() == OPEN


# --- the sandbox itself


@needs_landlock
def test_who_prepared_it_is_not_restricted(room: Room) -> None:
    room.run("true")
    assert (room.top / "hidden" / "secret").read_text() == SECRET


@needs_landlock
def test_from_among_threads(room: Room) -> None:
    """As the program that runs commands has them."""
    done = threading.Event()
    waiting = threading.Thread(target=done.wait)
    waiting.start()
    try:
        assert is_denied(room.run("cat", "hidden/secret"))
    finally:
        done.set()
        waiting.join()


@needs_landlock
def test_one_within_another_allows_what_both_do(room: Room) -> None:
    code = f"""
import subprocess
from pathlib import Path
from fsd.runs.landlock import Allowed, prepare, system
more = Allowed(read=[Path({str(room.top)!r})])
with prepare(system() | more) as rules:
    subprocess.run(["cat", "data/open", "hidden/secret"], preexec_fn=rules.restrict_self, check=True)
"""
    site = Allowed(read=[Path(path) for path in sys.path if path and Path(path).is_dir()])
    found = room.python(code, more=site)
    assert OPEN in found[1]
    assert is_denied(found)


@needs_landlock
def test_descriptors_do_not_pile_up(room: Room) -> None:
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        prepare(room.allowed).close()
    assert os.listdir("/proc/self/fd") == before


@needs_landlock
@pytest.mark.parametrize("known", range(1, 8))
def test_older_versions(room: Room, monkeypatch: pytest.MonkeyPatch, known: int) -> None:
    """They deny less, and say so of nothing that they do not know."""
    if known > landlock.version():
        pytest.skip("this kernel's Landlock is older itself")
    monkeypatch.setattr(landlock, "version", lambda: known)
    assert room.run("cat", "data/open") == (0, OPEN)
    assert is_denied(room.run("cat", "hidden/secret"))
    assert room.run("sh", "-c", "echo x > out/x") == (0, "")


def test_a_kernel_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "_CREATE_RULESET", 100_000)
    assert landlock.version() == 0
    with pytest.raises(FsdError, match=r"has no Landlock; run it without --strict; or boot Linux 5\.13"):
        prepare(Allowed())


# --- what is said of it


@needs_landlock
@pytest.mark.parametrize(
    "command",
    [
        ["cat", "hidden/secret"],
        ["sh", "-c", ". ./hidden/secret"],
        ["perl", "-e", 'open(F, "<", "hidden/secret") or die "hidden/secret: $!"'],
        ["ls", "hidden"],
        [sys.executable, "-c", "open('hidden/secret')"],
        [sys.executable, "-c", "import os; os.listdir('hidden')"],
    ],
)
def test_what_was_denied_is_said(room: Room, tmp_path: Path, command: Sequence[str]) -> None:
    code, output = room.run(*command)
    assert code != 0
    (tmp_path / "log").write_text("much before\n" * 10_000 + output + "after\n")
    found = denial(tmp_path / "log")
    assert found.startswith("a file that is not declared (")
    assert "hidden" in found.partition("(")[2].partition(")")[0]
    assert found.endswith(") was denied: see --dep")


def test_what_was_denied_is_not_made_up(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("ValueError: no rows\n")
    for log in ("log", "missing"):
        assert denial(tmp_path / log).endswith("its output does not say so, and the system does not tell which")
    (tmp_path / "log").write_text("Permission denied\n")
    assert denial(tmp_path / "log") == "a file that is not declared was denied: see --dep"
