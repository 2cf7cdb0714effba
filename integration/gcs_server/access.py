"""Who may ask. Open to everybody unless tokens are demanded; may also refuse everybody.

The token endpoint is where a service account's key file points its `token_uri` to, so that the real client fetches and
renews its tokens here.
"""

from __future__ import annotations

from uuid import uuid4

from integration.gcs_server.objects import GcsError


class Access:
    """Its switches may be set at any time."""

    def __init__(self) -> None:
        self.demands_token = False
        self.grants_tokens = True
        """False: the token endpoint says that the account is gone."""
        self.forbids: str | None = None
        """A permission that nobody has, such as `storage.objects.create`: a prefix of those that are refused."""
        self.token_lifetime_s = 3600
        self.issued: list[str] = []
        self._tokens: set[str] = set()

    def issue(self) -> str:
        """A new token."""
        token = f"ya29.{uuid4().hex}"
        self._tokens.add(token)
        self.issued.append(token)
        return token

    def revoke(self) -> None:
        """No token of before is good any more."""
        self._tokens.clear()

    def check(self, authorization: str | None, permission: str) -> None:
        """Raises GcsError for who may not."""
        if self.demands_token:
            scheme, _, token = (authorization or "").partition(" ")
            if scheme != "Bearer":
                raise GcsError(401, "required", f"Anonymous caller does not have {permission} access to the object.")
            if token not in self._tokens:
                raise GcsError(401, "authError", "Invalid Credentials")
        if self.forbids is not None and permission.startswith(self.forbids):
            raise GcsError(403, "forbidden", f"somebody@example.com does not have {permission} access to the object.")
