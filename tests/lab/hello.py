"""The first words of a DTLS client, as OpenSSL says them."""

from __future__ import annotations

import contextlib

from OpenSSL import SSL


def client_hello() -> bytes:
    """One record."""
    connection = SSL.Connection(SSL.Context(SSL.DTLS_METHOD), None)
    connection.set_connect_state()
    with contextlib.suppress(SSL.WantReadError):
        connection.do_handshake()
    return connection.bio_read(4096)
