"""The kinds of servers that are reached through obstore: what is said of them, and how they differ. Asks nobody."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cloud:
    """What is said of a kind of bucket, and how it differs from the others."""

    name: str
    scheme: str
    bucket: str
    """What it calls a bucket."""
    log_in: str
    """What to do where credentials are missing."""
    ask_for: str
    """What to do where they do not suffice."""
    make_bucket: str
    has_tails: bool
    """Whether a range can be counted from the end."""


S3 = Cloud(
    name="Amazon S3",
    scheme="s3",
    bucket="bucket",
    log_in="run 'aws sso login' or 'aws configure', name a profile in AWS_PROFILE, or set AWS_ACCESS_KEY_ID and"
    " AWS_SECRET_ACCESS_KEY",
    ask_for="ask the bucket's owner for s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject",
    make_bucket="aws s3 mb s3://{bucket}",
    has_tails=True,
)
AZURE = Cloud(
    name="Azure Blob Storage",
    scheme="az",
    bucket="container",
    log_in="run 'az login', or set AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_TOKEN, or AZURE_CLIENT_ID,"
    " AZURE_TENANT_ID and AZURE_CLIENT_SECRET",
    ask_for="ask the container's owner for a role such as Storage Blob Data Contributor",
    make_bucket="az storage container create --name {bucket}",
    has_tails=False,
)
WEB = Cloud(
    name="the web server",
    scheme="http",
    bucket="folder",
    log_in="web servers are read without credentials; keep what is private in a bucket",
    ask_for="ask whoever runs the server to let everybody read",
    make_bucket="",
    has_tails=True,
)


class CredentialsError(Exception):
    """Credentials are configured and cannot be used; says why, and no secret."""


class NoAccountError(Exception):
    """Nobody says which account of Azure a container belongs to."""
