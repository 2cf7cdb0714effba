"""Environment variables: which of them count when two runs are compared, and what is recorded of them.

Values may be secrets. So the values of those in `TOLD` are recorded; of all others only the names, and one digest over
all of them together. What differs between two shells, or two people, and does not change a result is left out of both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from blake3 import blake3

TOLD = (
    "CONDA_DEFAULT_ENV",
    "CONDA_PREFIX",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_VISIBLE_DEVICES",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "PATH",
    "PYTHONHASHSEED",
    "PYTHONPATH",
    "RANK",
    "TZ",
    "VIRTUAL_ENV",
    "WORLD_SIZE",
)
"""Known to hold no secrets."""

COUNTED = ("FSD_PARAM_*",)
"""These count, whatever `IGNORED` says: somebody set them by hand."""

IGNORED = (
    # the shell and where it is
    *("PWD", "OLDPWD", "SHLVL", "_", "HIST*", "PS1", "PS2", "PROMPT_COMMAND", "BASH_EXECUTION_STRING", "DIRENV_*"),
    # the terminal, the editor and what colours they have
    *("TERM*", "COLUMNS", "LINES", "COLORTERM", "LS_COLORS", "NO_COLOR", "FORCE_COLOR", "CLICOLOR*", "LC_TERMINAL*"),
    *("EDITOR", "VISUAL", "PAGER", "LESS*", "BROWSER", "TMUX*", "STY", "WINDOW", "WINDOWID", "WT_*", "VTE_VERSION"),
    *("VSCODE_*", "ITERM_*", "KITTY_*", "JPY_*"),
    # the person and the session
    *("HOME", "USER", "LOGNAME", "USERNAME", "MAIL", "SHELL", "HOSTNAME", "HOST", "SUDO_*", "TMPDIR", "TMP", "TEMP"),
    *("SSH_*", "DISPLAY", "XAUTHORITY", "WAYLAND_*", "XDG_*", "DBUS_*", "DESKTOP_SESSION", "SESSION_MANAGER"),
    *("GNOME_*", "GTK_*", "QT_*", "GPG_*", "KRB5CCNAME", "INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID"),
    *("NOTIFY_SOCKET", "WATCHDOG_*", "LISTEN_*", "MEMORY_PRESSURE_*"),
    # who we are to others: credentials open doors and choose nothing
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_PROFILE"),
    *("GOOGLE_APPLICATION_CREDENTIALS", "AZURE_CLIENT_SECRET", "GH_TOKEN", "GITHUB_TOKEN", "CI_JOB_TOKEN"),
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD"),
    # which time it is that a machine does this
    *("GITHUB_RUN_*", "GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_STATE", "GITHUB_STEP_SUMMARY"),
    *("CI_JOB_ID", "CI_JOB_URL", "CI_JOB_STARTED_AT", "CI_PIPELINE_ID", "CI_PIPELINE_IID", "CI_PIPELINE_URL"),
    *("CI_PIPELINE_CREATED_AT", "BUILD_ID", "BUILD_NUMBER", "BUILD_TAG", "BUILD_URL", "BUILDKITE_BUILD_ID"),
    *("SLURM_JOB_ID", "SLURM_JOBID", "SLURM_STEP_ID", "SLURM_STEPID", "SLURM_TASK_PID", "SLURM_SRUN_COMM_*"),
    *("SLURM_STEP_LAUNCHER_PORT", "SLURM_LAUNCH_NODE_IPADDR", "SLURM_SUBMIT_HOST", "SLURM_TOPOLOGY_ADDR"),
    "PYTEST_CURRENT_TEST",
    # Git's and our own: what they choose is recorded and compared by itself
    *("GIT_*", "FSD_*"),
)
"""Names and patterns."""

_CONTEXT = "fsd 2026-11-24 environment variables of a run"
_TOP = "<top>"
_HOME = "<home>"


def counts(name: str) -> bool:
    """Whether a variable counts when runs are compared."""
    return _is_any(name, COUNTED) or not _is_any(name, IGNORED)


def describe(variables: Mapping[str, str], top: str, home: str) -> dict[str, Any]:
    """What a record says of them: `variables` by name, `other_variables` and the `digest` of these.

    Where a value has the work tree's top or the home folder in it, it is written as such: the same setting looks the
    same to a colleague.
    """
    counted = compared(variables, top, home)
    told = {name: value for name, value in counted.items() if name in TOLD}
    others = {name: value for name, value in counted.items() if name not in TOLD}
    digest = blake3(derive_key_context=_CONTEXT)
    for name in sorted(others):
        for text in (name, others[name]):
            data = text.encode(errors="surrogateescape")
            digest.update(b"%d:%s" % (len(data), data))
    return {
        "variables": {name: _text(value) for name, value in told.items()},
        "other_variables": sorted(map(_text, others)),
        "digest": digest.hexdigest(),
    }


def compared(variables: Mapping[str, str], top: str, home: str) -> dict[str, str]:
    """Those that count, as they are compared."""
    return {name: normalised(value, top, home) for name, value in variables.items() if counts(name)}


def normalised(value: str, top: str, home: str) -> str:
    """A value without where this person has the work tree."""
    for path, placeholder in ((top, _TOP), (home, _HOME)):
        if len(path) > 1:
            value = re.sub(rf"{re.escape(path)}(?![\w.-])", placeholder, value)
    return value


def _is_any(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _text(text: str) -> str:
    """As UTF-8 can hold it."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")
