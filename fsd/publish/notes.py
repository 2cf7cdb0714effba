"""The notes of a publisher on this machine, for the next time: the index of the folder, and that of known chunks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fsd.errors import FsdError
from fsd.tasks import one_error


@contextmanager
def notes_kept_in(state: Path) -> Iterator[None]:
    """An OSError inside is about the notes: what the folder and the store cannot do has errors of its own.

    Of several tasks that failed, the error that is meant for the user leaves it, not in a group. Raises FsdError.
    """
    try:
        with one_error():
            yield
    except OSError as error:
        raise FsdError(
            f"cannot keep notes in {state}: {error.strerror or error}; nothing was published",
            hint="they need a folder that you may write to, with a hundred bytes of room for each file",
        ) from error
