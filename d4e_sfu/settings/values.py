"""What one value of a setting may look like: a time with its unit, a size, an address, a name, a file.

Each is a type for the models beside it, with a sentence of what was expected in place of what was written. It
knows no setting.
"""

from __future__ import annotations

import calendar
import ipaddress
import math
import re
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, StrictInt, StrictStr, ValidationInfo

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_BITS = {"k": 1_000, "M": 1_000_000, "G": 1_000_000_000}


def _quantity(value: object, units: Mapping[str, float], example: str, *, bare: str | None) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"expected a number with its unit, such as {example}")
    if isinstance(value, int | float):
        if bare is None and value != 0:
            raise ValueError(f"{value} of what? Write the unit ({', '.join(units)}), such as {example}")
        number, factor = float(value), 1.0
    else:
        match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?([A-Za-z]{1,4})", value, flags=re.ASCII)
        if match is None or match[2] not in units:
            raise ValueError(
                f"expected a number with its unit ({', '.join(units)}), such as {example}, not {shown(value)}"
            )
        number, factor = float(match[1]), units[match[2]]
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"expected a positive number, not {shown(value)}")
    return number * factor


def _seconds(value: object) -> float:
    return _quantity(value, _SECONDS, "30s or 5m", bare=None)


def _size(value: object) -> int:
    return round(_quantity(value, _BYTES, "1MiB", bare="bytes"))


def _bitrate(value: object) -> int:
    return round(_quantity(value, _BITS, "128k or 3M", bare="bits per second"))


def shown(value: object) -> str:
    """What the operator wrote, bounded and on one line."""
    text = (
        {True: "true", False: "false", None: "nothing"}[value]
        if value is None or value is True or value is False
        else repr(value)
    )
    return text if len(text) <= 60 else f"{text[:57]}…"


def _word(pattern: str, meaning: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if re.fullmatch(pattern, value, flags=re.ASCII) is None:
            raise ValueError(f"expected {meaning}")  # without the value: it may be a secret in the wrong place
        return value

    return check


def _resolved(value: Path, info: ValidationInfo) -> Path:
    """Relative to the folder of the file, so that a configuration means the same wherever the server is started."""
    if not value.name or "\0" in value.name:
        raise ValueError("expected the name of a file")
    return Path((info.context or {}).get("folder", "")) / value


def _ip_address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError(f"{shown(value)} is not an IP address such as 10.0.0.5 or fd00::5") from None


def _ip_network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError:
        raise ValueError(f"{shown(value)} is not an address or a network such as 10.0.0.5 or 10.0.0.0/8") from None


def _origin(value: str) -> str:
    # RFC 6454 §6.2: scheme "://" host [ ":" port ]; browsers send it in lower case, without a default port.
    parts = urllib.parse.urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.netloc or value != f"{parts.scheme}://{parts.netloc}":
        raise ValueError(f"{shown(value)} is not an origin such as https://portal.example.vn (no path, no final slash)")
    return value.lower()


def _moment(value: object) -> float:
    """RFC 3339, with its zone: whoever writes a time in Vietnam means another than the machine's UTC."""
    problem = ValueError(f"{shown(value)} is not a time such as 2026-12-31T17:00:00+07:00")
    pattern = r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:Z|([+-])(\d\d):(\d\d))"
    match = re.fullmatch(pattern, value, flags=re.ASCII) if isinstance(value, str) else None
    if match is None:
        raise problem
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    ahead = 0 if match[7] is None else (int(match[8]) * 60 + int(match[9])) * (1 if match[7] == "+" else -1)
    if not (year >= 1970 and 1 <= month <= 12 and hour < 24 and minute < 60 and second < 60 and abs(ahead) < 24 * 60):
        raise problem
    if not 1 <= day <= calendar.monthrange(year, month)[1]:
        raise problem
    return float(calendar.timegm((year, month, day, hour, minute, second)) - 60 * ahead)


def _webhook_url(value: str) -> str:
    # The names of people are in what is sent: never in the clear over a network.
    problem = ValueError(f"{shown(value)} is not an address such as https://portal.example.vn/hook (http: on loopback)")
    try:
        parts = urllib.parse.urlsplit(value)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise problem from None
    clear = parts.scheme == "http" and host in ("localhost", "127.0.0.1", "::1")
    plain = value.isascii() and value.isprintable() and " " not in value and len(value) <= 2048
    if not plain or not host or not (clear or parts.scheme == "https") or parts.fragment or "@" in parts.netloc:
        raise problem
    return value


def _host(value: str) -> str:
    # A name of DNS (RFC 1123 §2.1), or an address: what may stand in a URI of TURN (RFC 7065 §3.1).
    labels = value.lower().rstrip(".").split(".")
    if all(re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", label, flags=re.ASCII) for label in labels):
        return ".".join(labels)
    return _ip_address(value)


Moment = Annotated[float, BeforeValidator(_moment)]
Seconds = Annotated[float, BeforeValidator(_seconds)]
Size = Annotated[int, BeforeValidator(_size)]
Bitrate = Annotated[int, BeforeValidator(_bitrate)]
Port = Annotated[StrictInt, Field(ge=0, le=65535)]
IpAddress = Annotated[StrictStr, AfterValidator(_ip_address)]
Host = Annotated[StrictStr, Field(max_length=253), AfterValidator(_host)]
IpNetwork = Annotated[StrictStr, AfterValidator(_ip_network)]
Origin = Annotated[StrictStr, AfterValidator(_origin)]
WebhookUrl = Annotated[StrictStr, AfterValidator(_webhook_url)]
RoleName = Annotated[
    StrictStr,
    AfterValidator(_word(r"[a-z][a-z0-9-]{0,31}", "a name of lower-case letters, digits and hyphens, at most 32")),
]
KeyId = Annotated[StrictStr, AfterValidator(_word(r"[A-Za-z0-9_-]{1,64}", "1 to 64 letters, digits, _ or -"))]
Variable = Annotated[
    StrictStr, AfterValidator(_word(r"[A-Za-z_][A-Za-z0-9_]{0,127}", "the name of an environment variable"))
]
FilePath = Annotated[Path, AfterValidator(_resolved)]
