"""A page (the room's, or that of the status): built files, served from memory with the headers that keep it to itself.

Nothing is compressed or read from disk while serving; what the build did not put there does not exist.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from pathlib import Path
from typing import Final

from aiohttp import web

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".wasm": "application/wasm",
}
# Built beside each file; the best first.
_ENCODINGS: Final = ((".br", "br"), (".gz", "gzip"))
# RFC 3986 §3.2.2: what may stand in a Host header that we repeat in a policy; anything else is left out of it.
_HOST: Final = re.compile(r"[A-Za-z0-9.\-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")

_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the address of the page holds a token, after `#`
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(self), display-capture=(self), geolocation=(), payment=()",
}
# RFC 6797 §6.1, one year; a browser that has met us by HTTPS comes by nothing else. Names beside ours are not ours.
_STRICT: Final = {"Strict-Transport-Security": "max-age=31536000"}


@dataclasses.dataclass(frozen=True, slots=True)
class _File:
    content_type: str
    bodies: dict[str, bytes]  # by content encoding; "" = as it is
    etag: str
    cache_control: str


class Pages:
    """`setup` adds its routes to an application."""

    def __init__(self, folder: Path, *, without: str = "") -> None:
        """`without`: a folder in it that is another page."""
        files = _load(folder) if folder.is_dir() else {}
        self._files = {name: file for name, file in files.items() if not without or not name.startswith(f"{without}/")}

    def setup(self, app: web.Application) -> None:
        app.router.add_get("/{path:[^:]*}", self._serve)  # answers HEAD too: clients ask `HEAD /` whether we are there

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"] or "index.html"
        file = self._files.get(path)
        if file is None:
            if path == "index.html":
                return web.Response(text="d4e-sfu is running; its page was not built.\n", headers=_HEADERS)
            return web.Response(status=404, text="not found", headers=_HEADERS)
        headers = {**_HEADERS, "ETag": file.etag, "Cache-Control": file.cache_control, "Vary": "Accept-Encoding"}
        headers["Content-Security-Policy"] = _policy(request.host)
        if (
            request.secure
        ):  # RFC 6797 §7.2: never over plain HTTP; behind a proxy that ends TLS it is the proxy's to say
            headers |= _STRICT
        # On a 304 too: a browser merges its headers into what it has (RFC 9111 §4.3.4).
        headers["Content-Type"] = file.content_type
        if request.headers.get("If-None-Match") == file.etag:
            return web.Response(status=304, headers=headers)
        encoding = _encoding(request.headers.get("Accept-Encoding", ""), file)
        if encoding:
            headers["Content-Encoding"] = encoding
        return web.Response(body=file.bodies[encoding], headers=headers)


def _load(folder: Path) -> dict[str, _File]:
    files = {}
    for path in sorted(folder.rglob("*")):
        # A link may lead anywhere, and the build makes none.
        if not path.is_file() or path.is_symlink() or path.suffix not in _TYPES:
            continue
        body = path.read_bytes()
        bodies = {"": body}
        for suffix, encoding in _ENCODINGS:
            compressed = path.with_name(path.name + suffix)
            if compressed.is_file():
                bodies[encoding] = compressed.read_bytes()
        name = path.relative_to(folder).as_posix()
        # The build names what is under assets/ by its content.
        cache = "public, max-age=31536000, immutable" if name.startswith("assets/") else "no-cache"
        files[name] = _File(_TYPES[path.suffix], bodies, f'"{hashlib.sha256(body).hexdigest()[:32]}"', cache)
    return files


def _encoding(accepted: str, file: _File) -> str:
    offers = [offer.strip() for offer in accepted[:256].lower().split(",")]
    return next((encoding for _, encoding in _ENCODINGS if encoding in offers and encoding in file.bodies), "")


def _policy(host: str) -> str:
    """CSP level 3. Older browsers do not count ws: to our host as 'self', so it is named."""
    sockets = f" ws://{host} wss://{host}" if _HOST.fullmatch(host) else ""
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self'",
            "font-src 'self'",
            "media-src 'self' blob: mediastream:",
            f"connect-src 'self'{sockets}",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
