"""Random pipelines and edits through the real mount: what a HIT puts in place is what a forced run makes."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integration.program import Program
from integration.steps import Project

PATHS = ("a", "b", "d/a", "d/b", "e/a")

PROGRAM = """\
def do(what, name):
    path = Path('data') / name
    try:
        if what == 'read':
            return path.read_text()
        if what == 'list':
            return sorted(os.listdir(path))
        if what == 'stat':
            return path.exists()
        if what == 'made':
            return Path('made').read_text()
        if what == 'param':
            return Path('params.yaml').read_text()
        return os.environ.get('SOME')
    except OSError as error:
        return error.errno

Path(sys.argv[1]).write_text(json.dumps([do(*each) for each in json.loads(Path(sys.argv[2]).read_text())]))
"""

data = st.dictionaries(st.sampled_from(PATHS), st.sampled_from(["1", "2"]), min_size=1, max_size=4)
steps = st.lists(
    st.tuples(
        st.sampled_from(["read", "read", "list", "stat", "param", "made", "env"]), st.sampled_from([*PATHS, "d", "."])
    ),
    max_size=4,
)


@pytest.fixture(scope="module")
def project(module_program: Program) -> Project:
    """A work tree with a mount, of which each example makes what it wants."""
    project = Project(module_program, Path(tempfile.mkdtemp(dir=module_program.home)) / "project")
    project.mount()
    project.python("step.py", PROGRAM)
    project.write(".gitignore", "made\nout\n")
    return project


@settings(max_examples=2, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(st.lists(st.tuples(data, st.integers(0, 1), st.sampled_from(["", "x"])), min_size=2, max_size=2), steps, steps)
@pytest.mark.timeout_s(300)
def test_a_hit_is_what_a_forced_run_makes(
    project: Project,
    situations: list[tuple[dict[str, str], int, str]],
    prepare: list[tuple[str, str]],
    use: list[tuple[str, str]],
) -> None:
    project.write("prepare.json", json.dumps([step for step in prepare if step[0] != "made"]))
    project.write("use.json", json.dumps(use))
    for files, param, some in situations:
        project.pin(project.publish(files))
        project.write("params.yaml", f"p: {param}\n")
        variables = {"SOME": some}
        for arguments in (("-o", "made", "--", "made", "prepare.json"), ("-o", "out", "--", "out", "use.json")):
            run_twice(project, arguments, variables)


def run_twice(project: Project, arguments: tuple[str, ...], variables: dict[str, str]) -> None:
    """As it comes, and if that was a HIT, by force: the same is made. And then it must be a HIT."""
    split = arguments.index("--")
    options, words = arguments[:split], arguments[split + 1 :]
    output = options[1]

    def run(*more: str) -> bool:
        command = [*options, *more, "--", "python3", "step.py", *words]
        done = project.run(*command, variables=variables)
        assert done.code == 0, done
        return done.is_hit

    if run():
        made = project.read(output)
        assert not run("--force")
        assert project.read(output) == made
    assert run()
