"""`fsd init`: make a store."""

from __future__ import annotations

import click
import trio

from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.opening import create_store
from fsd_cli.output import json_option, print_json, say


@click.command()
@click.argument("store", metavar="[STORE]", required=False)
@click.option("--keep", metavar="GLOB", multiple=True, help="Names that every subset keeps; may be given repeatedly.")
@json_option
@pass_invocation
def init(invocation: Invocation, store: str | None, keep: tuple[str, ...], as_json: bool) -> None:
    """Make a store.

    STORE is a folder that is empty or not there yet, or a URL. Without it, the store that --store, FSD_STORE or the
    configuration names, or a store of your own.
    """
    url = invocation.store_url if store is None else store
    made = trio.run(create_store, invocation, url, keep)
    if as_json:
        print_json({"store": made.url, "id": made.marker.id})
    else:
        say(f"made a store at {made.url}")
