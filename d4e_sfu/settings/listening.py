"""Where this server is reached: the sockets of HTTP, of media and of the administrator, and the certificate."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Self

from pydantic import BeforeValidator, PlainSerializer, StrictBool, StrictInt, model_validator

from d4e_sfu.settings.setting import Settings, live, restart
from d4e_sfu.settings.values import FilePath, Host, IpAddress, IpNetwork, Origin, Port, Size, shown


class Listener(Settings):
    """One TCP socket for the page and for signalling."""

    address: Annotated[IpAddress, restart("Address to listen on; 0.0.0.0 or :: for all.")] = "127.0.0.1"
    port: Annotated[Port, restart("TCP port; 0 takes any free one.")]
    tls: Annotated[StrictBool, restart("Serve HTTPS with http.tls; browsers need it anywhere but on localhost.")] = (
        False
    )
    media: Annotated[
        StrictBool | None,
        restart("Take media there as well (ICE-TCP, TURN over TLS); null = on port 443 with tls."),
    ] = None

    @property
    def is_front(self) -> bool:
        """Whether it is the engine that serves it, and hands on what is HTTP."""
        return (self.tls and self.port == 443) if self.media is None else self.media


class Tls(Settings):
    """A pair that is replaced under the same names is served within 5 s, without a reload."""

    certificate: Annotated[
        FilePath | None, live("PEM file: certificate, then its chain. Relative to the folder of this file.")
    ] = None
    key: Annotated[FilePath | None, live("PEM file: private key. Relative to the folder of this file.")] = None


class Http(Settings):
    listeners: Annotated[
        tuple[Listener, ...], restart("Where the page and the signalling are served.", min_length=1, max_length=16)
    ] = (Listener(port=7880),)
    tls: Annotated[Tls, live("Certificate of the listeners with tls: true.")] = Tls()
    allowed_origins: Annotated[
        tuple[Origin, ...],
        live(
            "Other web sites whose pages may join, as https://host. Our own, and apps that send none, may.",
            max_length=64,
        ),
    ] = ()
    trusted_proxies: Annotated[
        tuple[IpNetwork, ...],
        live(
            "Addresses or networks of reverse proxies, whose X-Forwarded-For says who is asking; nobody else's does.",
            max_length=64,
        ),
    ] = ()


class Front(Settings):
    """Listeners that take media too, for who can reach nothing but TCP 443."""

    host: Annotated[
        Host | None,
        live("Name of this server in its certificate: where clients find TURN over TLS; null = they are offered none."),
    ] = None
    connections: Annotated[StrictInt, restart("Open connections, all together.", ge=16, le=60_000)] = 8192
    connections_per_address: Annotated[
        StrictInt, restart("Of them, from one address; a hospital may share it. Of IPv6, a /64.", ge=1, le=60_000)
    ] = 1024


class Admin(Settings):
    """Health, metrics and room state. No passwords: keep it on loopback or behind something that has them."""

    address: Annotated[IpAddress, restart("Address to listen on.")] = "127.0.0.1"
    port: Annotated[Port, restart("TCP port; 0 takes any free one.")] = 7881
    control: Annotated[
        FilePath | None,
        restart("Unix socket for commands that change something: reload, drain. For root and the server's own user."),
    ] = None


class MediaAddress(Settings):
    listen: Annotated[IpAddress, restart("Address of this machine to receive media on; not a wildcard.")]
    announce: Annotated[
        tuple[IpAddress, ...],
        restart("Addresses under which clients reach it, the best first: several for LAN and WAN.", max_length=8),
    ] = ()

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        return {"listen": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _specific(self) -> Self:
        for address in (self.listen, *self.announce):
            # RFC 8445 §5.1.1.1: a candidate is one address; a socket bound to all would answer from the wrong one.
            if ipaddress.ip_address(address).is_unspecified:
                raise ValueError(f"{address} stands for all addresses: name each one")
            if ipaddress.ip_address(address).is_multicast:
                raise ValueError(f"{address} is a multicast address")
        return self

    @property
    def announced(self) -> tuple[str, ...]:
        """What goes into candidates."""
        return self.announce or (self.listen,)


def _addresses(value: object) -> object:
    if value == "auto":
        return ()
    if isinstance(value, str):
        raise ValueError(f"expected auto or a list of addresses, not {shown(value)}")
    if isinstance(value, list) and not value:
        raise ValueError("an empty list would receive no media; write auto for every address of this machine")
    return value


class Media(Settings):
    workers: Annotated[StrictInt, restart("Threads that forward packets; a room lives on one.", ge=1, le=64)] = 1
    port: Annotated[Port, restart("UDP port of the first worker, the next uses the next; 0 takes any free ones.")] = (
        7882
    )
    addresses: Annotated[
        tuple[MediaAddress, ...],
        BeforeValidator(_addresses),
        PlainSerializer(lambda value: value or "auto"),
        restart('"auto" (every address of this machine), or a list of addresses.', max_length=16),
    ] = ()
    """Empty means auto."""
    buffer: Annotated[
        Size, restart("Bytes that the kernel holds of each UDP socket, each way.", ge=65_536, le=256 << 20)
    ] = 8 << 20
