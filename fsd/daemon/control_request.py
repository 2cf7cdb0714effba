"""What comes with a question to the control API, taken in whole before it is answered.

An answer that comes earlier closes the connection on who still sends the question.
"""

from __future__ import annotations

from contextlib import aclosing

from starlette.requests import Request

from fsd.errors import UsageError

MAX_REQUEST_BYTES = 1 << 20
"""Of what is asked, but for an order, which is streamed. A path has 4 KiB."""


async def body_of(request: Request) -> bytes:
    """All that came with it. Raises UsageError if that is over `MAX_REQUEST_BYTES`."""
    data = bytearray()
    async with aclosing(request.stream()) as parts:
        async for part in parts:
            data += part
            if len(data) > MAX_REQUEST_BYTES:
                raise UsageError("the request is too long")
    return bytes(data)
