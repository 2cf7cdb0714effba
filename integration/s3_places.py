"""Places for the stores' contract in a bucket of moto's server, asked by the real obstore."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import WSGIRequestHandler, make_server

from fsd.limits import Limits
from fsd.stores.obstore import ObstoreStore
from fsd.stores.obstore_clients import s3_clients
from fsd.stores.obstore_clouds import S3
from integration.background import BackgroundServer
from integration.places import PREFIX, Places, closing
from tests.contract.places import MakePlace

LIMITS = Limits(store_timeout_s=20.0, store_connections=16, store_attempts=4, retry_min_s=0.001, retry_max_s=0.01)

SECRET = "a-secret-that-nobody-may-see"


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"
    """Connections are kept."""

    def log(self, *_: object) -> None:
        """Say nothing of each request."""


class MotoServer(BackgroundServer):
    """moto's S3 on a port of this machine. One request at a time: moto looks at a condition and then writes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._app = DomainDispatcherApplication(create_backend_app)
        super().__init__(make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Handler))
        self.requests: list[tuple[str, str, str]] = []
        """Method, path with query, and the authorization of each."""
        self.refusals: list[tuple[str, str, str]] = []
        """The status and the body of the next answers, each for the first request that its method fits."""

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with self._lock:
            method, query = environ["REQUEST_METHOD"], environ["QUERY_STRING"]
            path = environ["PATH_INFO"] + (f"?{query}" if query else "")
            self.requests.append((method, path, environ.get("HTTP_AUTHORIZATION", "")))
            for refusal in self.refusals:
                if refusal[0] == method:
                    self.refusals.remove(refusal)
                    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                    body = f"<Error>{refusal[2]}</Error>".encode()
                    start_response(refusal[1], [("Content-Length", str(len(body)))])
                    return [body]
            return list(self._app(environ, start_response))

    def fill(self, bucket: str, names: Iterable[str]) -> None:
        """Objects that nobody had to send."""
        for name in names:
            s3_backends[ACCOUNT]["aws"].put_object(bucket, name, b"x")

    def unfinished_uploads(self, bucket: str) -> int:
        """Multipart uploads that hold parts."""
        return len(s3_backends[ACCOUNT]["aws"].buckets[bucket].multiparts)

    def create_bucket(self, name: str) -> None:
        """A new one. (moto minds no signatures.)"""
        request = urllib.request.Request(f"{self.url}/{name}", method="PUT", headers={"Host": "s3.amazonaws.com"})
        with urllib.request.urlopen(request):
            pass


@contextmanager
def s3_environment(url: str, folder: Path) -> Iterator[pytest.MonkeyPatch]:
    """Clients find the server and credentials, and nothing in the home of who runs this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", url)
        patch.setenv("AWS_ACCESS_KEY_ID", "id")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))
        yield patch


def places_in(server: MotoServer) -> Places[ObstoreStore]:
    """Places in buckets of a server."""
    return Places(server.create_bucket, lambda bucket: ObstoreStore(S3, bucket, PREFIX, LIMITS, s3_clients))


@contextmanager
def s3_places(folder: Path) -> Iterator[MakePlace]:
    """Places in a server of their own."""
    with MotoServer() as server, s3_environment(server.url, folder), closing(places_in(server)) as places:
        yield places.make
