"""`fsd run`, as a user has it: real commands, in real work trees, that end, fail, and are killed."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pytest
import trio

from fsd.format.run import RunEnd
from fsd.limits import DEFAULT_LIMITS
from fsd.repo.repository import Repositories, open_repositories
from fsd.repo.runs import Run
from fsd.stores.local import LocalStore
from integration.program import Program
from tests.publish.folders import Item, file, read_commit

Result = TypeVar("Result")

TRAIN = """\
import json, os, pathlib, sys
import fsd
print("to stdout")
print("to stderr", file=sys.stderr)
pathlib.Path("out").mkdir(exist_ok=True)
pathlib.Path("out/model").write_text("lr " + os.environ.get("FSD_PARAM_train_lr", "of the file"))
pathlib.Path("metrics.json").write_text(json.dumps({"acc": 0.9}))
fsd.log_metric("loss", 0.5, step=1)
fsd.log_params({"depth": 3})
"""
SECRET = "s3cr3t-of-nobody"


class Work:
    """A Git work tree, and `fsd run` in it."""

    def __init__(self, program: Program, top: Path) -> None:
        self.program = program
        self.top = top
        top.mkdir()
        self.git("init", "-q", "-b", "main")
        self.git("config", "user.email", "a@b")
        self.git("config", "user.name", "A")
        (top / "train.py").write_text(TRAIN)
        (top / "params.yaml").write_text("train:\n  lr: 0.1  # slow\n")
        (top / ".gitignore").write_text("ignored\n")
        self.git("add", ".")
        self.git("commit", "-q", "-m", "first")

    def git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.top, env=self.program.environment, check=True)

    def command(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "fsd_cli", "run", *map(str, arguments)]

    def run(self, *arguments: str | Path, folder: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.top / folder,
            env=self.program.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.top,
            env=self.program.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def runs(self) -> list[Run]:
        """All records, by time."""

        async def read(repositories: Repositories) -> list[Run]:
            return sorted([run async for run in repositories.runs.read_all()], key=lambda run: run.start.time_us)

        return self._on_store(read)

    def only(self) -> tuple[Run, RunEnd]:
        """The only record, which has an end."""
        (run,) = self.runs()
        assert run.end is not None
        return run, run.end

    def files(self, commit: bytes) -> dict[bytes, Item]:
        """What a commit has."""

        async def read(repositories: Repositories) -> dict[bytes, Item]:
            return await read_commit(repositories, commit)

        return self._on_store(read)

    def _on_store(self, work: Callable[[Repositories], Awaitable[Result]]) -> Result:
        async def main() -> Result:
            return await work(await open_repositories(LocalStore(self.program.store, DEFAULT_LIMITS)))

        return trio.run(main)


@pytest.fixture
def work(program: Program, tmp_path: Path) -> Work:
    program("init")
    return Work(program, tmp_path / "digits")


def test_everything_of_a_run_is_recorded(work: Work) -> None:
    (work.top / "train.py").write_text(TRAIN + "# changed\n")
    (work.top / "helper.py").write_text("not in Git yet")
    (work.top / "ignored").write_text("not for anybody")
    work.program.environment["AWS_SECRET_ACCESS_KEY"] = SECRET
    done = work.run("-n", "first", "-S", "train.lr=0.5", "-o", "out", "--", sys.executable, "train.py")
    assert (done.returncode, done.stdout) == (0, "to stdout\n"), done.stderr
    assert "to stderr" in done.stderr
    run, end = work.only()
    start = run.start
    assert start.name.repository == "digits"
    assert (start.argv, start.directory, start.label) == ((sys.executable, "train.py"), "", "first")
    assert (start.params, start.overrides) == ({"train.lr": 0.5}, ("train.lr",))
    assert start.git is not None
    assert (start.git["branch"], start.git["is_changed"], len(start.git["commit"])) == ("main", True, 40)
    assert start.code is not None
    assert work.files(start.code.commit) == {
        b"train.py": file((TRAIN + "# changed\n").encode()),
        b"helper.py": file(b"not in Git yet"),
        b".gitignore": file(b"ignored\n"),
    }
    python = start.environment["python"]
    assert python["version"] == ".".join(map(str, sys.version_info[:3]))
    assert "trio" in python["packages"]
    assert (end.code, end.signal, end.interrupted, end.problems) == (0, None, False, ())
    assert end.is_success
    assert (end.metrics, end.params) == ({"acc": 0.9, "loss": 0.5}, {"depth": 3})
    assert end.outputs is not None
    assert work.files(end.outputs.commit)[b"out/model"] == file(b"lr 0.5")
    assert end.files is not None
    kept = work.files(end.files.commit)
    assert sorted(kept[b"log"].data.splitlines()) == [b"to stderr", b"to stdout"]
    assert json.loads(kept[b"params.yaml"].data) == {"depth": 3, "train.lr": 0.5}
    assert json.loads(kept[b"metrics.json"].data) == end.metrics
    assert SECRET not in repr(run)
    assert list((work.program.home / ".local/state/fsd/runs").iterdir()) == []


def test_what_a_run_writes_is_no_code_and_equal_code_is_one_tree(work: Work) -> None:
    for _ in range(2):
        assert work.run("-o", "out", "--", sys.executable, "train.py").returncode == 0
    first, second = work.runs()
    assert first.start.code == second.start.code
    assert first.start.name.step == second.start.name.step
    assert first.end is not None
    assert second.end is not None
    assert first.end.outputs == second.end.outputs


def test_metrics_of_an_earlier_run_are_not_this_ones(work: Work) -> None:
    assert work.run("--", sys.executable, "train.py").returncode == 0
    assert work.run("--", "true").returncode == 0
    end = work.runs()[1].end
    assert end is not None
    assert end.metrics == {}


def test_params_are_written_to_the_file_where_that_is_asked_for(work: Work) -> None:
    assert work.run("--write-params", "-S", "train.lr=0.7", "--", "cat", "params.yaml").stdout == (
        "train:\n  lr: 0.7  # slow\n"
    )
    assert "no param" in work.run("--write-params", "-S", "x=1", "--", "true").stderr
    assert len(work.runs()) == 1


def test_a_folder_of_the_work_tree(work: Work) -> None:
    (work.top / "src").mkdir()
    (work.top / "src" / "params.yaml").write_text("a: 1")
    done = work.run("-o", "made", "--", "sh", "-c", "echo x > made", folder="src")
    assert done.returncode == 0, done.stderr
    run, end = work.only()
    assert (run.start.directory, run.start.params, run.start.outputs) == ("src", {"a": 1}, ("src/made",))
    assert end.outputs is not None
    assert work.files(end.outputs.commit)[b"src/made"] == file(b"x\n")


def test_a_failure_is_recorded_and_is_ours(work: Work) -> None:
    assert work.run("--", "sh", "-c", "echo broken; exit 7").returncode == 7
    _, end = work.only()
    assert (end.code, end.is_success) == (7, False)
    assert end.files is not None
    assert work.files(end.files.commit)[b"log"] == file(b"broken\n")


def test_a_missing_output_is_a_problem(work: Work) -> None:
    done = work.run("-o", "out", "--", "true")
    assert done.returncode == 0
    assert "there is no output out" in done.stderr
    _, end = work.only()
    assert (end.code, end.is_success) == (0, False)


def test_a_command_that_dies_of_a_signal(work: Work) -> None:
    assert work.run("--", "sh", "-c", "kill -KILL $$").returncode == 128 + signal.SIGKILL
    _, end = work.only()
    assert (end.code, end.signal, end.interrupted) == (None, signal.SIGKILL, False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_so(work: Work, number: signal.Signals) -> None:
    program = "import time, sys; print('ready', flush=True); time.sleep(60)"
    process = work.start("--", sys.executable, "-c", program)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + number, said
    _, end = work.only()
    assert (end.signal, end.interrupted, end.is_success) == (number, True, False)
    assert end.files is not None
    assert work.files(end.files.commit)[b"log"].data.startswith(b"ready\n")


def test_a_run_whose_keeper_is_killed_has_no_end(work: Work) -> None:
    process = work.start("--", "sh", "-c", "echo $$; exec sleep 60")
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.kill()
    process.communicate(timeout=30)
    os.kill(pid, signal.SIGKILL)
    (run,) = work.runs()
    assert run.end is None
    (folder,) = (work.program.home / ".local/state/fsd/runs").iterdir()
    assert folder.name == run.start.name.run
    assert (folder / "log").read_text() == f"{pid}\n", "the log of a killed run is to be had"


def test_a_run_is_over_when_no_process_of_it_is_left(work: Work, tmp_path: Path) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    script = f"(setsid sh -c 'read x < {go}; echo late > out' > /dev/null 2>&1 &) ; echo first"
    process = work.start("-o", "out", "--", "sh", "-c", script)
    assert process.stderr is not None
    assert "waiting for what it left running: sh (" in process.stderr.readline()
    go.write_text("x\n")
    shown, said = process.communicate(timeout=30)
    assert (process.returncode, shown) == (0, "first\n"), said
    _, end = work.only()
    assert end.outputs is not None
    assert work.files(end.outputs.commit)[b"out"] == file(b"late\n")


def test_what_is_left_running_need_not_be_waited_for(work: Work) -> None:
    process = work.start("--", "sh", "-c", "(setsid sleep 60 > /dev/null 2>&1 &) ; exit 3")
    assert process.stderr is not None
    said = process.stderr.readline()
    pid = int(said.partition("(")[2].partition(")")[0])
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    os.kill(pid, signal.SIGKILL)
    assert process.returncode == 3
    _, end = work.only()
    assert end.problems == (f"left running: sleep ({pid})",)


def test_nothing_is_recorded_of_what_cannot_run(work: Work, tmp_path: Path) -> None:
    for arguments, code, why in (
        (("--", "no-such-program"), 4, "no program 'no-such-program'"),
        (("-S", "lr", "--", "true"), 2, "sets no param"),
        (("-o", tmp_path, "--", "true"), 2, "is not below"),
        (("--repo", "a/b", "--", "true"), 2, "not a repository name"),
        ((), 2, "COMMAND"),
    ):
        done = work.run(*arguments)
        assert done.returncode == code
        assert why in done.stderr
        assert done.stderr.count("\n") == 1
    assert work.runs() == []


def test_a_start_that_cannot_be_recorded_leaves_nothing_and_runs_nothing(work: Work) -> None:
    (work.program.store / "leases").write_text("in the way")
    done = work.run("--", "touch", "made")
    assert done.returncode not in (0, 126), done.stderr
    assert done.stderr.count("\n") == 1
    assert not (work.top / "made").exists()
    assert work.runs() == []
    assert list((work.program.home / ".local/state/fsd/runs").iterdir()) == []


def test_lines_of_both_streams_are_whole_in_the_log(work: Work) -> None:
    script = "import sys\nfor n in range(500):\n print(n)\n print(n, file=sys.stderr)\nprint('end', end='')"
    assert work.run("--", sys.executable, "-c", script).returncode == 0
    _, end = work.only()
    assert end.files is not None
    lines = work.files(end.files.commit)[b"log"].data.split(b"\n")
    numbers = [str(number).encode() for number in range(500)]
    assert sorted(lines) == sorted([*numbers, *numbers, b"end"])


def test_a_program_that_is_none(work: Work) -> None:
    script = work.top / "odd"
    script.write_bytes(b"\x7fELF nothing")
    script.chmod(0o755)
    assert work.run("--", "./odd").returncode == 126
    _, end = work.only()
    assert (end.code, end.signal) == (None, None)
    assert "cannot run ./odd" in end.problems[0]


def test_pins_are_recorded_and_are_no_code(work: Work, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "x").write_text("x")
    commit = work.program.json("commit", data, "birds", "--tag", "v1")["commit"]
    (work.top / ".fsd.toml").write_text(f'store = "{work.program.store}"\nmountpoint = "/fsd"\n')
    (work.top / "data").symlink_to(f"/fsd/birds/{commit}")
    (work.top / "tagged").symlink_to("/fsd/birds/v1+10pct/x")
    (work.top / "gone").symlink_to("/fsd/birds/v9")
    done = work.run("--", "true")
    assert done.returncode == 0, done.stderr
    run, _ = work.only()
    assert {pin.link: (pin.revision, pin.path, pin.commit and pin.commit.hex()) for pin in run.start.pins} == {
        "data": (commit, "", commit),
        "tagged": ("v1+10pct", "x", commit),
        "gone": ("v9", "", None),
    }
    assert run.start.code is not None
    assert set(work.files(run.start.code.commit)) == {b"train.py", b".gitignore", b".fsd.toml"}


def test_outside_of_git_the_code_is_not_recorded(program: Program, tmp_path: Path) -> None:
    program("init")
    folder = tmp_path / "plain"
    folder.mkdir()
    command = [sys.executable, "-m", "fsd_cli", "run", "--", "true"]
    done = subprocess.run(command, cwd=folder, env=program.environment, capture_output=True, text=True, check=True)
    assert "the run's code is not recorded" in done.stderr


def test_runs_at_the_same_time(work: Work) -> None:
    processes = [work.start("-S", f"n={number}", "--", "sh", "-c", "echo $FSD_PARAM_n") for number in range(4)]
    for number, process in enumerate(processes):
        shown, said = process.communicate(timeout=60)
        assert (process.returncode, shown) == (0, f"{number}\n"), said
    assert sorted(str(run.start.params["n"]) for run in work.runs()) == ["0", "1", "2", "3"]
    assert all(run.end is not None for run in work.runs())


def test_ctrl_c_reaches_the_command_once(work: Work) -> None:
    counts = (
        "import signal, sys\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\n"
        "print('ready', flush=True)\n"
        "signal.sigwait([signal.SIGINT])\n"
        "print('again' if signal.sigtimedwait([signal.SIGINT], 0.5) else 'once')\n"
    )
    (work.top / "counts.py").write_text(counts)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(work.top)
        os.execve(sys.executable, work.command("--", sys.executable, "counts.py"), work.program.environment)
    shown = b""
    while b"ready" not in shown:
        shown += os.read(terminal, 1000)
    os.write(terminal, b"\x03")
    with suppress(OSError):  # EIO: nobody has the terminal any more
        while data := os.read(terminal, 1000):
            shown += data
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, shown
    _, end = work.only()
    assert end.files is not None
    assert work.files(end.files.commit)[b"log"] == file(b"ready\nonce\n")
    assert (end.code, end.interrupted) == (0, True)


@pytest.mark.parametrize("code", [0, 3])
def test_an_end_that_cannot_be_recorded_leaves_what_there_is(work: Work, code: int) -> None:
    away = work.program.store.with_name("away")
    done = work.run("--", "sh", "-c", f"echo done; mv {work.program.store} {away}; exit {code}")
    assert done.returncode == (code or 4), done.stderr
    (folder,) = (work.program.home / ".local/state/fsd/runs").iterdir()
    assert f"the end of run {folder.name} is not recorded; its log is in {folder}" in done.stderr
    assert (folder / "log").read_text() == "done\n"
    away.rename(work.program.store)
    (run,) = work.runs()
    assert run.end is None


def test_runs_are_shown_while_they_run_and_when_they_were_killed(work: Work) -> None:
    def state() -> str:
        (run,) = work.program.json("exp", "list")
        return str(run["state"])

    process = work.start("--", "sh", "-c", "echo $$; exec sleep 60")
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    assert state() == "running"
    process.kill()
    process.communicate(timeout=30)
    os.kill(pid, signal.SIGKILL)
    assert state() == "killed"


def test_what_runs_name_outlives_a_collection(work: Work) -> None:
    assert work.run("-o", "out", "--", sys.executable, "train.py").returncode == 0
    run, end = work.only()
    work.program("gc", "--grace", "0")
    assert run.start.code is not None
    assert end.outputs is not None
    assert b"train.py" in work.files(run.start.code.commit)
    assert b"out/model" in work.files(end.outputs.commit)


def test_a_store_in_the_work_tree_is_no_code(program: Program, tmp_path: Path) -> None:
    work = Work(program, tmp_path / "digits")
    program.store = work.top / "store"
    program.environment |= {"FSD_STORE": str(program.store), "XDG_STATE_HOME": str(work.top / "state")}
    program("init")
    for _ in range(2):
        assert work.run("--", "true").returncode == 0
    codes = {run.start.code for run in work.runs()}
    (code,) = codes
    assert code is not None
    assert set(work.files(code.commit)) == {b"train.py", b".gitignore"}
    for output in ("store", "store/packs", "state"):
        done = work.run("-o", output, "--", "true")
        assert done.returncode == 2
        assert "cannot be an output" in done.stderr
    assert len(work.runs()) == 2


def test_a_mount_in_the_work_tree_is_no_code(work: Work) -> None:
    data = work.top / "data"
    data.mkdir()
    (data / "x").write_text("x")
    work.program("commit", data, "birds")
    work.program.mount(work.top / "mounted")
    assert work.run("--", "true").returncode == 0
    run, _ = work.only()
    assert run.start.code is not None
    assert set(work.files(run.start.code.commit)) == {b"train.py", b".gitignore", b"data", b"data/x"}
