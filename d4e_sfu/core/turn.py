"""What clients are told of the TURN server beside us: where it is, and credentials that are theirs alone.

They follow from a secret that the front shares (engine/src/front/credentials.rs): a name that says until when it is
good, and a MAC of it as the password. Nothing is stored; a secret lives as long as the process, and so do they.
"""

from __future__ import annotations

import hashlib
import hmac

from livekit.protocol import rtc


class Turn:
    """TURN over TLS: the one form that libwebrtc speaks through firewalls that look for TLS."""

    def __init__(self, *, host: str, ports: tuple[int, ...], secret: bytes) -> None:
        host = f"[{host}]" if ":" in host else host
        self.urls = tuple(f"turns:{host}:{port}?transport=tcp" for port in ports)
        self._secret = secret

    def server(self, sid: str, *, expires: float) -> rtc.ICEServer:
        """For this participant, until his token is over."""
        name, password = self.credentials(sid, expires=expires)
        return rtc.ICEServer(urls=self.urls, username=name, credential=password)

    def credentials(self, sid: str, *, expires: float) -> tuple[str, str]:
        name = f"{int(expires)}:{sid}"
        return name, hmac.new(self._secret, name.encode(), hashlib.sha256).hexdigest()
