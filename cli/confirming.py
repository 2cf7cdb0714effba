"""Having a person confirm what cannot be undone."""

from __future__ import annotations

import sys

import click

from fsd.errors import ConflictError, UsageError


def confirm(question: str, *, otherwise: str) -> None:
    """Ask. Raises UsageError where nobody is there to answer, ConflictError, with the message `otherwise`, for a no."""
    if not sys.stdin.isatty():
        raise UsageError("nobody is there to confirm that", hint="--yes goes on without asking")
    if not click.confirm(question, err=True):
        raise ConflictError(otherwise)
