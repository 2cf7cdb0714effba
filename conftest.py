"""What all tests share: `async def` tests run on trio, with a deadline; an ERROR in the log fails a test; nothing of
this machine's Git, clouds and proxies is found.

- `async def test_...` needs no marker. `@pytest.mark.timeout_s(5)` sets its deadline, `TIMEOUT_S` otherwise.
  Hypothesis' `@given` works as well: each example is a run of its own.
- A test that asks for `autojump_clock` runs in virtual time, which jumps ahead whenever every task sleeps. (It knows
  nothing of threads: use it with stores in memory.)
- `@pytest.mark.slow` is for what takes minutes: `script/test --all` and `.ci/run` have it.
- A test that means an ERROR to be logged asks for `error_logs` and says itself which records there must be.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
from collections.abc import Awaitable, Callable, Generator, Iterator
from typing import Any

import hypothesis
import pytest
import trio
import trio.testing

TIMEOUT_S = 60.0

hypothesis.settings.register_profile(
    "fsd",
    # Time says little on a shared machine; the test's own deadline finds what hangs.
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    print_blob=True,
)
hypothesis.settings.load_profile("fsd")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--all`: also the slow tests."""
    parser.addoption("--all", action="store_true", help="run also the tests that are marked slow")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers."""
    config.addinivalue_line("markers", "timeout_s(seconds): how long an async test may take")
    config.addinivalue_line("markers", "slow: runs only with --all")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is slow, unless it was asked for."""
    if config.getoption("--all"):
        return
    for item in items:
        if item.get_closest_marker("slow") is not None:
            item.add_marker(pytest.mark.skip(reason="slow: run with --all"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Names that are no UTF-8 stand in logs as lone surrogates, which do not travel between test processes."""
    report = yield
    report.sections = [(title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections]
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run async tests."""
    marker = pyfuncitem.get_closest_marker("timeout_s")
    timeout_s = float(marker.args[0]) if marker else TIMEOUT_S
    clock = next((value for value in pyfuncitem.funcargs.values() if isinstance(value, trio.testing.MockClock)), None)
    if hasattr(pyfuncitem.obj, "hypothesis"):
        inner = pyfuncitem.obj.hypothesis.inner_test
        if inspect.iscoroutinefunction(inner):

            @functools.wraps(inner)
            def run_example(*positional: Any, **arguments: Any) -> None:
                _run_async(functools.partial(inner, *positional, **arguments), timeout_s, clock)

            pyfuncitem.obj.hypothesis.inner_test = run_example
        return None
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    _run_async(functools.partial(pyfuncitem.obj, **arguments), timeout_s, clock)
    return True


def _run_async(test: Callable[[], Awaitable[None]], timeout_s: float, clock: trio.testing.MockClock | None) -> None:
    async def main() -> None:
        # In virtual time a deadline of the test's own would pass in no time.
        with trio.fail_after(timeout_s if clock is None else float("inf")):
            await test()

    trio.run(main, clock=clock)


@pytest.fixture
def autojump_clock() -> trio.testing.MockClock:
    """Virtual time, which jumps ahead when every task sleeps."""
    return trio.testing.MockClock(autojump_threshold=0)


_OF_THE_MACHINE = ("AWS_", "AZURE_", "CLOUDSDK_", "GIT_", "GOOGLE_", "STORAGE_EMULATOR_")
"""How the variables begin by which Git and the clouds' clients find configuration and credentials."""


@pytest.fixture(autouse=True, scope="session")
def found_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables as they were found: for who must reach the world outside. Everybody else goes without those that
    lead to the configuration of this machine's Git, to somebody's credentials, or through a proxy."""
    found = dict(os.environ)
    with pytest.MonkeyPatch.context() as patch:
        for name in found:
            if name.startswith(_OF_THE_MACHINE) or name.lower().endswith("_proxy"):
                patch.delenv(name)
        # A file of our own and not /dev/null: `git config --global` puts a new file in its place, which root may do.
        patch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path_factory.mktemp("git") / "config"))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        yield found


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def error_logs() -> Iterator[list[logging.LogRecord]]:
    """The ERROR records of this test so far; whoever asks for them judges them."""
    handler = _Records()
    logging.getLogger().addHandler(handler)
    try:
        yield handler.records
    finally:
        logging.getLogger().removeHandler(handler)


@pytest.fixture(autouse=True)
def _no_unexpected_errors(request: pytest.FixtureRequest) -> Iterator[None]:
    if "error_logs" in request.fixturenames:
        yield
        return
    handler = _Records()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
    if handler.records:
        lines = "\n".join(f"{record.name}: {record.getMessage()}" for record in handler.records)
        pytest.fail(f"unexpected ERROR in the log (ask for `error_logs` if it is meant):\n{lines}", pytrace=False)
