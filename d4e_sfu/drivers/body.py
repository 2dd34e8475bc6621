"""The body of a request over HTTP, in bounded time and memory."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from d4e_sfu.errors import BadRequest, TooLarge

# From the end of the head to the end of the body.
BODY_SECONDS: Final = 5.0


async def read(request: web.Request, limit: int) -> bytes:
    """All of it, and never more than a little above the limit in memory. Raises ClientError."""
    if (request.content_length or 0) > limit:
        raise TooLarge("The request is too large.", rule="body_size")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.content.iter_chunked(16 * 1024):
                body += piece
                if len(body) > limit:
                    raise TooLarge("The request is too large.", rule="body_size")
    except TimeoutError:
        raise BadRequest("The request did not come in time.", rule="body_slow") from None
    return bytes(body)
