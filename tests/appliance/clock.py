"""A time server (SNTP, RFC 4330) for a laboratory without one, wrong by as much as it is told: `clock.py ADDRESS
SECONDS`. Standard library alone: it runs in a machine's network, by Debian's own python3."""

import socket
import struct
import sys
import time

SINCE_1900 = 2_208_988_800


def stamp(seconds: float) -> bytes:
    whole = int(seconds)
    return struct.pack("!II", whole + SINCE_1900, int((seconds - whole) * 2**32))


def main(address: str, wrong_by: float) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, 123))
        while True:
            asked, whom = server.recvfrom(512)
            if len(asked) < 48:
                continue
            now = stamp(time.time() + wrong_by)
            # Version of who asks, mode 4: server; stratum 1, precision of a microsecond, from a reference of its own.
            head = struct.pack("!BBBbII4s", asked[0] & 0x38 | 4, 1, asked[2], -20, 0, 0, b"LAB\0")
            server.sendto(head + now + asked[40:48] + now + now, whom)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
