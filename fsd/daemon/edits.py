"""Edits: writable views of versions, as this user has them. What each is lies in a file; what it changed, beside it.

    STATE/edits/VIEW.json       what the edit is
    .NAME.fsd-edit-VIEW/        beside the folder, on its disk: `upper` has the changes, `work` is the overlay's own

An edit outlives everything: while its overlay or the mount below is gone (a daemon that ended, a reboot), its changes
lie in the upper folder, and `resume` mounts it again. It knows no store: what is committed is the caller's business.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fsd.daemon import mounts, overlays
from fsd.durable import replace_file
from fsd.errors import ConflictError, NotFoundError, near_misses


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit. Ids are in hex."""

    view: str
    """16 hex digits: its name, and that of its view in the mount."""
    place: str
    """The folder, absolute and without symlinks: however it is named, it is not to be taken for an ordinary one."""
    store: str
    """The store's id."""
    repository: str
    revision: str
    """By what the version was asked for."""
    commit: str
    last: str
    """The commit that has what it had when it was last committed; `commit` at first."""
    lower: str
    """The version's directory in the view, below the mountpoint that served it last."""
    made_place: bool
    """Whether the folder was made for it."""
    marks_are_files: bool
    """Whether fuse-overlayfs keeps it."""

    @property
    def folder(self) -> Path:
        """Where its changes are."""
        place = Path(self.place)
        return place.with_name(f".{place.name}.fsd-edit-{self.view}")

    @property
    def upper(self) -> Path:
        """What was changed, and nothing else."""
        return self.folder / "upper"

    @property
    def is_mounted(self) -> bool:
        """Whether the overlay is there, and what is below it answers."""
        return overlays.is_overlaid(Path(self.place)) and _answers(self.place)


class Edits:
    """All edits of a user. Blocks."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self._folder = state / "edits"

    def all(self) -> list[Edit]:
        """By place."""
        return sorted(self._read(), key=lambda edit: edit.place)

    def at(self, place: Path) -> Edit | None:
        """The edit at a folder, if it is one."""
        path = os.path.realpath(place)
        return next((edit for edit in self._read() if edit.place == path), None)

    def known_at(self, place: Path) -> Edit:
        """The same. Raises NotFoundError."""
        edit = self.at(place)
        if edit is None:
            hint = near_misses(os.path.realpath(place), [edit.place for edit in self._read()])
            raise NotFoundError(f"{place} is no edit", hint=hint or "'fsd edit --list' lists them")
        return edit

    def begin(
        self, place: Path, *, store: str, repository: str, revision: str, commit: str, mountpoint: str, by_program: bool
    ) -> Edit:
        """A writable view of a commit at `place`, which must be an empty folder or nothing. Raises ConflictError.

        `by_program`: by fuse-overlayfs also where the kernel would do.
        """
        place = Path(os.path.realpath(place))
        made_place = not place.exists()
        if not made_place and (not place.is_dir() or any(place.iterdir())):
            raise ConflictError(f"{place} is not an empty folder", hint="edit in a folder of its own")
        by_program = overlays.needs_program(by_program)
        view = secrets.token_hex(8)
        lower = os.path.join(mountpoint, ".views", view, repository, commit)
        edit = Edit(view, os.fspath(place), store, repository, revision, commit, commit, lower, made_place, by_program)
        place.mkdir(parents=True, exist_ok=True)
        for folder in (edit.upper, edit.folder / "work"):
            folder.mkdir(parents=True)
        try:
            self._mount(edit)
            self.save(edit)
        except BaseException:
            self.discard(edit)
            raise
        return edit

    def resume(self, edit: Edit, mountpoint: str) -> Edit:
        """Mount an edit again, with its changes, over a mount that answers."""
        lower = os.path.join(mountpoint, ".views", edit.view, edit.repository, edit.commit)
        edit = replace(edit, lower=lower)
        self._unmount(edit)
        os.makedirs(edit.place, exist_ok=True)
        self._mount(edit)
        self.save(edit)
        return edit

    def discard(self, edit: Edit) -> None:
        """Take an edit away with all its changes. Raises MountBusyError while somebody uses it."""
        self._unmount(edit)
        while os.path.lexists(edit.folder):
            with suppress(FileNotFoundError):  # somebody else takes it away as well, or has
                shutil.rmtree(edit.folder)
        if edit.made_place:
            with suppress(OSError):
                os.rmdir(edit.place)
        self._file(edit).unlink(missing_ok=True)

    def save(self, edit: Edit) -> None:
        """Keep what is known of it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        replace_file(self._file(edit), (json.dumps(asdict(edit), indent=2) + "\n").encode())

    def _mount(self, edit: Edit) -> None:
        work = edit.folder / "work"
        overlays.mount_overlay(Path(edit.lower), edit.upper, work, Path(edit.place), by_program=edit.marks_are_files)

    def _unmount(self, edit: Edit) -> None:
        overlays.unmount_overlay(Path(edit.place))

    def _file(self, edit: Edit) -> Path:
        return self._folder / f"{edit.view}.json"

    def _read(self) -> Iterator[Edit]:
        with suppress(FileNotFoundError):
            for path in self._folder.glob("*.json"):
                with suppress(ValueError, TypeError, FileNotFoundError):
                    yield Edit(**json.loads(path.read_text()))


def _answers(place: str) -> bool:
    """Whether what is below an overlay is asked, and answers: by a name that nobody can have cached."""
    try:
        mounts.within(mounts.STATUS_TIMEOUT_S, lambda: os.stat(os.path.join(place, secrets.token_hex(16))))
    except FileNotFoundError:
        return True
    except (OSError, TimeoutError):
        return False
    return True
