"""What a command reads below the mounts of this machine: it runs in views of them, which remember (`fsd.vfs.toplevel`).

    with Observing.begin(is_store) as observing:
        with observing.entering():
            process = subprocess.Popen(command, preexec_fn=observing.enter)
        process.wait()
        inputs = observing.inputs()

The command and all that it starts are in a mount namespace of their own, where the views stand at the places of the
mounts. Not seen is what does not go by a path below those: descriptors that it got from somebody else, the overlays of
edits, processes of others that it has read something for it.

A view is there while the kernel knows its top, for which this holds a descriptor, until it is said to be over. Whatever
cannot be known becomes `Inputs.problem`. Blocks; nothing here waits for ever for a mount that does not answer.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple, NoReturn, Self

from fsd.daemon import mounts, namespace
from fsd.daemon.mounts import Mount
from fsd.daemon.namespace import Shown
from fsd.errors import CorruptDataError, FsdError
from fsd.format.inputs import Inputs, decode_inputs

INPUTS_FILE = ".fsd/inputs"
"""Below a run's view."""

END_FILE = ".fsd/end"
"""Looked up, though there is none: the view will not be asked any more."""

INPUTS_TIMEOUT_S = 60.0
"""Millions of files that lie apart take seconds to write down."""

_MESSAGE_BYTES = 1 << 20
_MOUNTINFO_BYTES = 1 << 20

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_ROOT = re.compile(r"(?P<base>(?:/\.views/r[0-9a-f]{32})*)(?P<inside>/.*)?")
_GONE = (errno.ENOTCONN, errno.ECONNABORTED)
_BARRED = (errno.EACCES, errno.EPERM, *_GONE)
"""Of a mount in which the command cannot read anything, either."""


class _View(NamedTuple):
    """A view that was made, in a mount or in the view that stands in its place."""

    descriptor: int
    """Of its top."""
    mount: Mount


class Observing:
    """See the module. Made by `begin`, for one command."""

    def __init__(self, is_store: Callable[[str], bool]) -> None:
        self._is_store = is_store
        self._views: list[_View] = []
        self._shown: Sequence[Shown] = ()
        self._devices: frozenset[int] = frozenset()
        self._known: list[list[str]] = []
        """The mounts of fsd that the command saw when it began."""
        self._mounts_inside: int | None = None
        """A descriptor of the list of mounts that the command sees, which can be read when it has ended, too."""
        self._parent, self._child = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.problem = ""
        """Why not all that is read will be known, for people; '' if nothing speaks against it."""

    @classmethod
    @contextmanager
    def begin(cls, is_store: Callable[[str], bool]) -> Iterator[Self]:
        """Views of everything of fsd that is mounted here. Inputs are told of the store whose URL `is_store`.

        What is in the way of that is no error, but a `problem`.
        """
        namespace.prepare()
        observing = cls(is_store)
        with ExitStack() as stack:
            stack.callback(observing._close)
            observing._make_views()
            yield observing

    def _close(self) -> None:
        self._parent.close()
        self._child.close()
        if self._mounts_inside is not None:
            os.close(self._mounts_inside)
        for view in self._views:
            self._end(view)

    def _end(self, view: _View) -> None:
        def end() -> None:
            try:
                os.stat(END_FILE, dir_fd=view.descriptor)
            finally:
                os.close(view.descriptor)

        with suppress(OSError, TimeoutError):
            mounts.within(mounts.STATUS_TIMEOUT_S, end)

    # --- before

    def _make_views(self) -> None:
        visible = [mount for mount in _of_fsd(mounts.list_mounts()) if self._is_visible(mount)]
        paths: dict[tuple[str, str], str] = {}
        """Of the views, by file system and what of it they are a view of."""
        tops: list[Shown] = []
        for mount in visible:
            base, inside = _parts(mount)
            if inside or (mount.device, base) in paths:
                continue
            name = f".views/r{secrets.token_hex(16)}"
            if self._make_view(mount, name):
                paths[mount.device, base] = os.path.join(mount.mountpoint, name)
        folders: list[Shown] = []
        for mount in visible:
            base, inside = _parts(mount)
            view = paths.get((mount.device, base))
            if view is None:
                if inside:
                    self._note(
                        f"a folder of a mount is mounted at {mount.mountpoint}, and that mount is not to be seen"
                    )
            elif inside.startswith("/.views/") or inside.endswith("//deleted"):
                self._note(f"what is mounted at {mount.mountpoint} cannot be observed")
            elif inside:
                folders.append(Shown(view + inside, mount.mountpoint))
            else:
                name = "/".join(view.split("/")[-2:])
                tops.append(Shown(os.path.join(mount.mountpoint, name), mount.mountpoint))
        # Sources are found by paths that are covered afterwards.
        self._shown = folders + sorted(tops, key=lambda shown: shown.place.count("/"), reverse=True)
        self._devices = frozenset(os.makedev(*map(int, view.mount.device.split(":"))) for view in self._views)

    def _is_visible(self, mount: Mount) -> bool:
        """Whether the path of the mountpoint leads to it."""

        def look() -> bool:
            try:
                descriptor = os.open(mount.mountpoint, os.O_PATH | os.O_CLOEXEC)  # of a file too, perhaps
            except OSError:
                return False
            try:
                with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as file:
                    return any(line.split() == ["mnt_id:", str(mount.id)] for line in file)
            finally:
                os.close(descriptor)

        try:
            return mounts.within(mounts.STATUS_TIMEOUT_S, look)
        except TimeoutError:
            self._note(f"the mount at {mount.mountpoint} does not answer")
            return False

    def _make_view(self, mount: Mount, name: str) -> bool:
        path = os.path.join(mount.mountpoint, name)
        try:
            descriptor = mounts.within(mounts.STATUS_TIMEOUT_S, lambda: os.open(path, _DIRECTORY))
        except TimeoutError:
            self._note(f"the mount at {mount.mountpoint} does not answer")
        except FileNotFoundError:
            self._note(f"the mount at {mount.mountpoint} cannot tell what is read (its daemon lacks the C extension)")
        except OSError as error:
            if error.errno not in _BARRED:
                self._note(f"the mount at {mount.mountpoint} does not answer: {error.strerror}")
        else:
            self._views.append(_View(descriptor, mount))
            return True
        return False

    # --- the command

    def enter(self) -> None:
        """For `preexec_fn`: what comes after the fork and before the command, in its process."""
        try:
            namespace.show_instead(self._shown, self._devices)
            with open("/proc/self/mountinfo", "rb") as file:
                known = [_named(mount) for mount in _of_fsd(mounts.parse_mounts(file.read()))]
                socket.send_fds(self._child, [json.dumps(known).encode()], [file.fileno()])
        except FsdError as error:
            self._child.send(json.dumps({"message": error.message, "hint": error.hint}).encode())
            raise

    @contextmanager
    def entering(self) -> Iterator[None]:
        """To be around the start of the command. Raises FsdError for what went wrong in `enter`."""
        try:
            yield
        except subprocess.SubprocessError as error:
            self._raise(error)
        with suppress(BlockingIOError):
            known, descriptors, _, _ = socket.recv_fds(self._parent, _MESSAGE_BYTES, 1, socket.MSG_DONTWAIT)
            self._known, self._mounts_inside = json.loads(known), descriptors[0]

    def _raise(self, error: subprocess.SubprocessError) -> NoReturn:
        try:
            said = json.loads(self._parent.recv(_MESSAGE_BYTES, socket.MSG_DONTWAIT))
        except (BlockingIOError, ValueError):
            raise error from None
        raise FsdError(said["message"], hint=said["hint"]) from error

    # --- afterwards

    def inputs(self) -> Inputs:
        """All that was read until now of the store."""
        found = [(view.mount, self._read(view)) for view in self._views]
        self._check_mounts()
        for mount, inputs in found:
            if not self._is_store(mount.source) and _has_any(inputs):
                self._note(f"it read from another store, {mount.source}")
        own = [inputs for mount, inputs in found if self._is_store(mount.source) and _has_any(inputs)]
        if len(own) > 1:
            self._note("it read from two mounts of the store")
        chosen = own[0] if own else Inputs()
        return Inputs(chosen.versions, chosen.names, chosen.listings, chosen.problem or self.problem)

    def _read(self, view: _View) -> Inputs:
        def read() -> bytes:
            descriptor = os.open(INPUTS_FILE, os.O_RDONLY | os.O_CLOEXEC, dir_fd=view.descriptor)
            with open(descriptor, "rb") as file:
                return file.read()

        where = view.mount.mountpoint
        try:
            return decode_inputs(mounts.within(INPUTS_TIMEOUT_S, read), f"{where}/{INPUTS_FILE}")
        except TimeoutError:
            return Inputs(problem=f"the mount at {where} does not answer")
        except CorruptDataError as error:
            return Inputs(problem=error.message)
        except OSError as error:
            if error.errno in _GONE:
                return Inputs(problem=f"the mount at {where} ended while it ran")
            return Inputs(problem=f"the mount at {where} does not tell what was read: {error.strerror}")

    def _check_mounts(self) -> None:
        """Whether the command could see a mount that is no view, or a view was gone."""
        if self._mounts_inside is None:
            self._note("nobody looked at what it read")
            return
        text = bytearray()
        while chunk := os.pread(self._mounts_inside, _MOUNTINFO_BYTES, len(text)):
            text += chunk
        known = {tuple(each) for each in self._known}
        for _, _, place in sorted(known ^ set(map(_named, _of_fsd(mounts.parse_mounts(bytes(text)))))):
            self._note(f"what is mounted at {place} changed while it ran")

    def _note(self, why: str) -> None:
        self.problem = self.problem or why


def _parts(mount: Mount) -> tuple[str, str]:
    """Which view a mount shows ('' for none), and which folder of that ('' for all of it)."""
    match = _ROOT.fullmatch(mount.root)
    assert match is not None
    inside = match["inside"] or ""
    return match["base"], "" if inside == "/" else inside


def _of_fsd(some: Sequence[Mount]) -> list[Mount]:
    return [mount for mount in some if mount.type == mounts.FILESYSTEM_TYPE]


def _named(mount: Mount) -> tuple[str, str, str]:
    """What tells it from those that were or will be there. An id may come again, but not with a device that is held."""
    return str(mount.id), mount.device, mount.mountpoint


def _has_any(inputs: Inputs) -> bool:
    return inputs != Inputs()
