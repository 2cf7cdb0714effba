"""The machinery of the tests can fail a test."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest
import trio
import trio.testing

pytest_plugins = ["pytester"]

CONFTEST = Path(__file__).parents[1] / "conftest.py"


async def test_async_tests_run_on_trio() -> None:
    await trio.lowlevel.checkpoint()


@hypothesis.given(st.integers())
async def test_async_examples_run_on_trio(number: int) -> None:
    await trio.lowlevel.checkpoint()
    assert number == number


async def test_virtual_time_jumps(autojump_clock: trio.testing.MockClock) -> None:
    await trio.sleep(86_400)
    assert autojump_clock.current_time() >= 86_400


def test_expected_errors_are_handed_over(error_logs: list[logging.LogRecord]) -> None:
    logging.getLogger("fsd.test").error("meant")
    assert [record.getMessage() for record in error_logs] == ["meant"]


def test_nothing_of_the_machine_is_found(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "AWS_PROFILE",
        "AZURE_STORAGE_SAS_TOKEN",
        "GIT_DIR",
        "GOOGLE_CLOUD_PROJECT",
        "https_proxy",
        "NO_PROXY",
    ):
        monkeypatch.setenv(name, "somewhere")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/home/somebody/.gitconfig")
    monkeypatch.setenv("SOMETHING_ELSE", "kept")
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # which the other session has as well, and removes
    before = dict(os.environ)
    pytester.makeconftest(CONFTEST.read_text())
    pytester.makepyfile(
        """
        import os

        def test_environment(found_environment, tmp_path):
            assert "somewhere" not in os.environ.values()
            assert os.environ["SOMETHING_ELSE"] == "kept"
            assert str(tmp_path.parent) == os.path.dirname(os.path.dirname(os.environ["GIT_CONFIG_GLOBAL"]))
            assert os.environ["GIT_CONFIG_NOSYSTEM"] == "1"
            assert list(found_environment.values()).count("somewhere") == 6
        """
    )
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
    assert os.environ == before


def test_what_must_fail_fails(pytester: pytest.Pytester, error_logs: list[logging.LogRecord]) -> None:
    pytester.makeconftest(CONFTEST.read_text())
    pytester.makepyfile(
        """
        import logging
        import hypothesis, hypothesis.strategies as st, pytest, trio

        def test_error_in_the_log():
            logging.getLogger("anything").error("lost a byte")

        async def test_async_failure():
            assert False

        @hypothesis.given(st.integers())
        async def test_async_example_failure(number):
            assert number < 1000

        @pytest.mark.timeout_s(0.01)
        async def test_async_hang():
            await trio.sleep_forever()

        @pytest.mark.parametrize("number", [1, 2])
        async def test_passes(number, tmp_path):
            logging.getLogger("anything").warning("a warning is no error")
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=3, failed=3, errors=1)
    assert len(error_logs) == 1, "it ran in this process, so this test sees it too"
    result.stdout.fnmatch_lines(["*unexpected ERROR in the log*", "*lost a byte*"])
