"""What went over the laboratory's network as a capture file, for Wireshark: classic pcap with nanoseconds, raw IP.

The datagrams are as they were on the wire, so media is encrypted: what can be read is who sent what size when, and the
headers of RTP, STUN and DTLS. Packets are written when they set out; what was lost on the way is in it as well.
"""

from __future__ import annotations

import ipaddress
import struct
from pathlib import Path
from types import TracebackType
from typing import Final

from tests.lab.network import Datagram

MAGIC: Final = 0xA1B23C4D  # nanoseconds
RAW_IP: Final = 101  # LINKTYPE_RAW
SNAP: Final = 65_535


class Pcap:
    """Use it as a tap of the network; it is a context manager."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._file.write(struct.pack("!IHHiIII", MAGIC, 2, 4, 0, 0, SNAP, RAW_IP))

    def __call__(self, datagram: Datagram, now: float) -> None:
        packet = ip(datagram)
        seconds, nanoseconds = divmod(round(now * 1e9), 1_000_000_000)
        self._file.write(struct.pack("!IIII", seconds, nanoseconds, len(packet), len(packet)) + packet)

    def __enter__(self) -> Pcap:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()


def ip(datagram: Datagram) -> bytes:
    """The datagram with the headers that it would have had (RFC 791, RFC 8200, RFC 768)."""
    (source, source_port), (target, target_port) = _end(datagram.source), _end(datagram.target)
    udp_length = 8 + len(datagram.payload)
    # UDP's checksum may be absent over IPv4; over IPv6 it may not, and readers only remark on it.
    udp = struct.pack("!HHHH", source_port, target_port, udp_length, 0) + datagram.payload
    if source.version == 6:
        return struct.pack("!IHBB", 6 << 28, udp_length, 17, 64) + source.packed + target.packed + udp
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + udp_length, 0, 0x4000, 64, 17, 0) + source.packed + target.packed
    words = sum(struct.unpack("!10H", header))
    words = (words & 0xFFFF) + (words >> 16)
    checksum = ~((words & 0xFFFF) + (words >> 16)) & 0xFFFF
    return header[:10] + struct.pack("!H", checksum) + header[12:] + udp


def _end(address: str) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]:
    host, _, port = address.rpartition(":")
    return ipaddress.ip_address(host.strip("[]")), int(port)
