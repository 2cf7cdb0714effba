"""A mount whose network goes away: the cable is pulled, the server's name does not resolve any more."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

import pytest

from integration.faults.cloud import Cloud, Watched
from integration.faults.network import SERVER_NAME, Network, network
from integration.faults.steady import Steady
from integration.gcs_places import serving
from integration.gcs_server.server import GcsServer
from integration.program import Program

REPOSITORIES = {"unplugged": 6, "unresolved": 6}


class Connected(NamedTuple):
    """A mount, and the network that it depends on."""

    watched: Watched
    network: Network


@pytest.fixture(scope="module")
def connected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connected]:
    folder = tmp_path_factory.mktemp("network")
    with network(folder) as made, serving(GcsServer(host=made.server_address)) as server:
        server.create_bucket("bucket")
        program = Program(folder / "home", wrapper=made.wrapper)
        cloud = Cloud(folder, server, program, REPOSITORIES)
        port = server.url.rpartition(":")[2]
        program.environment["STORAGE_EMULATOR_HOST"] = f"http://{SERVER_NAME}:{port}"
        inside = cloud.mountpoint
        inside.mkdir()
        program("mount", inside)
        cloud.mountpoint = made.root / inside.relative_to("/")
        try:
            with Steady(cloud.version("cached"), cloud.sources["cached"], folder / "records") as steady:
                yield Connected(Watched(cloud, steady), made)
        finally:
            program("umount", inside)


@pytest.mark.parametrize("how", ["unplugged", "unresolved"])
def test_a_network_that_goes_away(connected: Connected, how: str) -> None:
    watched, made = connected
    cloud = watched.cloud
    files = cloud.files(how)
    away: AbstractContextManager[None] = made.unplugged() if how == "unplugged" else made.unresolved()
    name = {"unplugged": "the network cable is pulled", "unresolved": "the server's name does not resolve"}[how]
    with watched.fault(name) as fault:
        assert len(os.listdir(cloud.version(how))) == len(files)
        if how == "unresolved":
            # Who has a connection needs no name; and who has just looked it up finds nobody there.
            cloud.server.stop()
        with away:
            if how == "unresolved":
                cloud.server.start()
            outcomes = fault.read(files[:4])
            assert all(outcome.error is not None for outcome in outcomes)
            expected = "no answer from the store" if how == "unplugged" else "cannot be resolved"
            assert expected in cloud.errors()
        fault.recover(files)
