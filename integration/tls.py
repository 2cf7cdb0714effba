"""A server's plain HTTP behind TLS, as real ones are: passes bytes on, with a certificate made for the occasion."""

from __future__ import annotations

import datetime
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def make_certificate(folder: Path) -> Path:
    """A certificate for localhost with its key in one file, which also serves those who are to trust it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


def make_chain(folder: Path) -> tuple[Path, Path]:
    """An authority's certificate, and one for localhost that it signed, with its key: what stricter clients want."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    authority, host = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("authority", "localhost")
    )
    now = datetime.datetime.now(datetime.UTC)
    made = []
    for key, subject in zip(keys, (authority, host), strict=True):
        is_authority = subject is authority
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        )
        made.append(builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    (folder / "authority.pem").write_bytes(made[0])
    (folder / "server.pem").write_bytes(
        keys[1].private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + made[1]
    )
    return folder / "authority.pem", folder / "server.pem"


@contextmanager
def behind_tls(port: int, certificate: Path) -> Iterator[str]:
    """The URL by which the plain server at `port` of this machine is reached through TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    ready = threading.Event()
    found: dict[str, int] = {}
    scope = trio.CancelScope()

    async def pass_on(source: trio.abc.ReceiveStream, target: trio.abc.SendStream, done: trio.CancelScope) -> None:
        try:
            async for data in source:
                await target.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        done.cancel()

    async def serve(client: trio.SSLStream[trio.SocketStream]) -> None:
        server = await trio.open_tcp_stream("127.0.0.1", port)
        async with client, server, trio.open_nursery() as nursery:
            nursery.start_soon(pass_on, client, server, nursery.cancel_scope)
            nursery.start_soon(pass_on, server, client, nursery.cancel_scope)

    async def main() -> None:
        with scope:
            listeners = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1", https_compatible=True)
            found["port"] = listeners[0].transport_listener.socket.getsockname()[1]
            token.append(trio.lowlevel.current_trio_token())
            ready.set()
            await trio.serve_listeners(serve, listeners)

    token: list[trio.lowlevel.TrioToken] = []
    thread = threading.Thread(target=trio.run, args=(main,), daemon=True)
    thread.start()
    assert ready.wait(10), "the proxy did not start"
    try:
        yield f"https://localhost:{found['port']}"
    finally:
        token[0].run_sync_soon(scope.cancel)
        thread.join(10)
