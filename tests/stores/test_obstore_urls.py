"""What the URLs of the stores behind obstore mean, and what is refused."""

from __future__ import annotations

import pytest

from fsd.errors import UsageError
from fsd.limits import DEFAULT_LIMITS
from fsd.stores.obstore_urls import parse_place, parse_web
from fsd.stores.open import open_store


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("s3://bucket", ("bucket", "")),
        ("S3://Bucket/", ("bucket", "")),
        ("s3://my.bucket-1/a/b_c@d=e+f.g/", ("my.bucket-1", "a/b_c@d=e+f.g")),
        ("az://container/prefix", ("container", "prefix")),
    ],
)
def test_places(url: str, place: tuple[str, str]) -> None:
    assert parse_place(url) == place


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("http://host", "http://host"),
        ("HTTP://Host:8080/a/", "http://host:8080/a"),
        ("https://[::1]:8443/a/B", "https://[::1]:8443/a/B"),
    ],
)
def test_web_servers(url: str, same: str) -> None:
    assert parse_web(url) == same
    assert open_store(url, DEFAULT_LIMITS).url == same


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://", "names no bucket"),
        ("s3://b", "names no bucket"),
        ("s3://under_score/a", "names no bucket"),
        ("az://bucket:80/a", "names no bucket"),
        ("s3://bucket//a", "names no folder of a bucket"),
        ("s3://bucket/../a", "names no folder of a bucket"),
        ("s3://bucket/a b", "names no folder of a bucket"),
        ("s3://bucket/a?versionId=1", "names no folder of a bucket"),
        ("s3://bucket/" + "a/" * 300, "is too long"),
        ("http://", "names no host"),
        ("http:///path", "names no host"),
        ("http://host:x/", "impossible port"),
        ("http://host:0/", "names no host"),
        ("http://host/a?b", "names no folder of a web server"),
        ("http://host/a//b", "names no folder of a web server"),
        ("http://host/a/../b", "names no folder of a web server"),
        ("https://[broken", "is no URL"),
    ],
)
def test_what_names_nothing(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        open_store(url, DEFAULT_LIMITS)
    assert caught.value.hint


@pytest.mark.parametrize("url", ["s3://key:SECRET@bucket/a", "az://SECRET@bucket", "https://user:SECRET@host/a"])
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError, match="may not hold") as caught:
        open_store(url, DEFAULT_LIMITS)
    assert "SECRET" not in str(caught.value)
