"""What is wrong with an installation, from facts that somebody else has gathered: the doctor's judgement.

It looks at nothing itself (`drivers/probes.py` does) and knows no clock, so each fault can be made up in a test. Each
check ends as good, bad or unknown, with a sentence and, where it is bad, with what to do, in both languages. What is not
known is not good: it is shown, and does not fail.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

MIN_MTU: Final = 1280
"""RFC 8200 §5: what IPv6 wants of any link; our packets are made for 1,200 bytes and their headers."""
MIN_FREE: Final = 1 << 30
MIN_BUFFER: Final = 4 << 20
"""Bytes that a media socket should hold: 20 ms of 1.6 Gbit/s, for when a worker is not scheduled."""
MAX_EXPOSURE: Final = 0.5
MAX_CLOCK_OFFSET: Final = 1.0


class State(StrEnum):
    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    state: State
    en: str
    vi: str


@dataclass(frozen=True, slots=True)
class Port:
    """One that the configuration names."""

    protocol: str
    """`tcp` or `udp`."""
    address: str
    port: int
    held_by: str | None
    """`d4e-sfu`, another program, "" when nobody, None when it cannot be told."""


@dataclass(frozen=True, slots=True)
class Loop:
    """Datagrams sent to a media address, and how many of them the engine has counted."""

    address: str
    port: int
    sent: int
    arrived: int


@dataclass(frozen=True, slots=True)
class Trouble:
    """Of a file, or of a certificate: already told in both languages, with what to do."""

    en: str
    vi: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that is judged. None, or nothing, is what could not be found out."""

    running: bool | None = None
    ports: Sequence[Port] = ()
    local: Sequence[str] = ()
    """Addresses of this machine."""
    listening: Sequence[str] = ()
    """Media addresses of the configuration; empty: all."""
    announced: Sequence[str] = ()
    """Addresses that clients are told."""
    host: str | None = None
    """The name by which browsers come."""
    resolved: Sequence[str] | None = None
    """What that name resolves to."""
    loops: Sequence[Loop] | None = None
    clock_synchronised: bool | None = None
    clock_offset: float | None = None
    certificate: Sequence[Trouble] | None = None
    chain: Sequence[Trouble] = ()
    expiry: Sequence[Trouble] = ()
    mtu: dict[str, int] = field(default_factory=dict)
    """Of each interface that has one of the media addresses."""
    buffer: int | None = None
    cpu_flags: frozenset[str] | None = None
    cores: int | None = None
    workers: int = 1
    free: dict[str, int] = field(default_factory=dict)
    """Bytes left where the server writes."""
    files: Sequence[Trouble] | None = None
    front: str | None = None
    """Who answers at the public name: `ours`, another certificate's name, "" when nobody; None when not asked."""
    trusted_proxies: int = 0
    exposure: float | None = None


def diagnose(facts: Facts) -> list[Finding]:
    """Every check, in the order in which to mend them."""
    return [
        *_addresses(facts),
        *_ports(facts),
        _dns(facts),
        _nat(facts),
        _proxy(facts),
        *_loop(facts),
        _clock(facts),
        _troubles("certificate", facts.certificate, "The key belongs to the certificate, which is for this name.", "Khóa khớp chứng thư, và chứng thư dành cho tên này."),
        _troubles("chain", None if facts.certificate is None else facts.chain, "The chain is whole and in order.", "Chuỗi chứng thư đầy đủ và đúng thứ tự."),
        _troubles("expiry", None if facts.certificate is None else facts.expiry, "The certificate is valid for more than two weeks.", "Chứng thư còn hạn trên hai tuần."),
        *_mtu(facts),
        _buffer(facts),
        _cpu(facts),
        *_disk(facts),
        _troubles("permissions", facts.files, "Secrets can be read by the server, and not by everyone.", "Khóa bí mật đọc được bởi máy chủ và không mở cho mọi người."),
        _hardening(facts),
    ]  # fmt: skip


def _good(check: str, en: str, vi: str) -> Finding:
    return Finding(check, State.GOOD, en, vi)


def _bad(check: str, en: str, vi: str) -> Finding:
    return Finding(check, State.BAD, en, vi)


def _unknown(check: str, en: str, vi: str) -> Finding:
    return Finding(check, State.UNKNOWN, en, vi)


def _troubles(check: str, troubles: Sequence[Trouble] | None, en: str, vi: str) -> Finding:
    if troubles is None:
        return _unknown(
            check, "Not looked at: nothing to look at is configured.", "Chưa kiểm tra: cấu hình không có mục này."
        )
    if not troubles:
        return _good(check, en, vi)
    return _bad(check, " ".join(each.en for each in troubles), " ".join(each.vi for each in troubles))


def _addresses(facts: Facts) -> Iterator[Finding]:
    wrong = [address for address in facts.listening if address not in facts.local]
    if facts.listening and not facts.local:
        yield _unknown(
            "address", "The addresses of this machine are not known.", "Không xác định được địa chỉ của máy."
        )
    elif wrong:
        has = ", ".join(facts.local)
        yield _bad(
            "address",
            f"media.addresses names {', '.join(wrong)}, which this machine does not have; it has {has}. Fix: name one of these under listen; what clients reach from outside goes under announce.",
            f"media.addresses có {', '.join(wrong)}, không phải địa chỉ của máy này; máy có {has}. Cách sửa: ghi một trong các địa chỉ này ở listen; địa chỉ nhìn từ ngoài ghi ở announce.",
        )
    else:
        yield _good("address", "Every media address is one of this machine.", "Mọi địa chỉ media đều thuộc máy này.")


def _ports(facts: Facts) -> Iterator[Finding]:
    others = [port for port in facts.ports if port.held_by not in (None, "", "d4e-sfu", "systemd")]
    idle = [port for port in facts.ports if port.held_by == ""]
    if others:
        list_ = ", ".join(f"{port.protocol}/{port.port} ({port.held_by})" for port in others)
        yield _bad(
            "port",
            f"Taken by other programs: {list_}. Fix: stop them (systemctl disable --now NAME), or choose other ports in http.listeners, admin.port or media.port.",
            f"Cổng bị chương trình khác chiếm: {list_}. Cách sửa: dừng chương trình đó (systemctl disable --now TÊN), hoặc chọn cổng khác ở http.listeners, admin.port, media.port.",
        )
    elif idle and facts.running:
        list_ = ", ".join(f"{port.protocol}/{port.port}" for port in idle)
        yield _bad(
            "port",
            f"The server runs, and nobody listens on {list_}. Fix: systemctl restart d4e-sfu.socket d4e-sfu.service; the configuration has changed since it was started.",
            f"Máy chủ đang chạy nhưng không nghe ở {list_}. Cách sửa: systemctl restart d4e-sfu.socket d4e-sfu.service; cấu hình đã đổi sau khi khởi động.",
        )
    elif any(port.held_by is None for port in facts.ports):
        yield _unknown(
            "port",
            "Who holds the ports is not known: run as root.",
            "Không xác định được ai giữ cổng: hãy chạy với quyền root.",
        )
    elif idle:
        yield _unknown(
            "port", "The ports are free, and the server does not run.", "Các cổng còn trống, máy chủ chưa chạy."
        )
    else:
        yield _good("port", "The server has all its ports.", "Máy chủ giữ đủ các cổng.")


def _dns(facts: Facts) -> Finding:
    if facts.host is None or facts.resolved is None:
        return _unknown(
            "dns",
            "By which name browsers come is not known: give --host NAME.",
            "Chưa biết tên miền cho trình duyệt: dùng --host TÊN.",
        )
    if facts.resolved:
        return _good(
            "dns", f"{facts.host} is {', '.join(facts.resolved)}.", f"{facts.host} là {', '.join(facts.resolved)}."
        )
    return _bad(
        "dns",
        f"{facts.host} does not resolve here. Fix: let the department's name server answer for it, or add it to /etc/hosts of the stations.",
        f"Không phân giải được {facts.host}. Cách sửa: khai tên này trên máy chủ DNS của đơn vị, hoặc thêm vào /etc/hosts của các máy trạm.",
    )


def _nat(facts: Facts) -> Finding:
    told = facts.announced or facts.local
    if not facts.resolved or not told:
        return _unknown(
            "nat",
            "Whether there is address translation is not known without the name.",
            "Chưa biết có NAT hay không khi chưa có tên miền.",
        )
    missing = [
        address for address in facts.resolved if address not in told and not ipaddress.ip_address(address).is_loopback
    ]
    if missing and facts.trusted_proxies == 0:
        return _bad(
            "nat",
            f"Browsers come by {', '.join(missing)}, and clients are told {', '.join(told)} for media: from outside there would be no voice. Fix: media.addresses: [{{listen: {(facts.listening or facts.local)[0]}, announce: [{missing[0]}, {(facts.listening or facts.local)[0]}]}}], and forward the UDP ports there.",
            f"Trình duyệt vào qua {', '.join(missing)}, nhưng địa chỉ media báo cho người dùng là {', '.join(told)}: từ ngoài sẽ không có tiếng. Cách sửa: media.addresses: [{{listen: {(facts.listening or facts.local)[0]}, announce: [{missing[0]}, {(facts.listening or facts.local)[0]}]}}], và chuyển tiếp các cổng UDP.",
        )
    return _good(
        "nat", "Clients are told addresses that they reach.", "Địa chỉ báo cho người dùng là địa chỉ họ tới được."
    )


def _proxy(facts: Facts) -> Finding:
    if facts.front is None:
        return _unknown(
            "proxy", "Who answers at the public name was not asked.", "Chưa kiểm tra ai trả lời ở tên miền công khai."
        )
    if facts.front == "":
        return _bad(
            "proxy",
            f"Nobody answers at https://{facts.host}/. Fix: start the server, open TCP 443 to it, or correct the name.",
            f"Không có trả lời ở https://{facts.host}/. Cách sửa: khởi động máy chủ, mở TCP 443, hoặc sửa tên miền.",
        )
    if facts.front != "ours" and facts.trusted_proxies == 0:
        return _bad(
            "proxy",
            f"At https://{facts.host}/ another certificate is shown ({facts.front}): a reverse proxy, or a box that opens TLS. Fix: name it in http.trusted_proxies, or everyone comes from its one address; let it pass WebSockets; or lead it past this server.",
            f"Ở https://{facts.host}/ có chứng thư khác ({facts.front}): proxy ngược, hoặc thiết bị kiểm tra TLS. Cách sửa: khai trong http.trusted_proxies, nếu không mọi người mang cùng một địa chỉ; cho phép WebSocket; hoặc bỏ qua thiết bị đó cho máy chủ này.",
        )
    return _good(
        "proxy",
        "Browsers meet this server itself, or a proxy that it trusts.",
        "Trình duyệt gặp đúng máy chủ này, hoặc proxy được tin cậy.",
    )


def _loop(facts: Facts) -> Iterator[Finding]:
    if facts.loops is None:
        yield _unknown(
            "udp", "The media port was not tried: the server does not run.", "Chưa thử cổng media: máy chủ chưa chạy."
        )
        return
    lost = [loop for loop in facts.loops if loop.arrived < loop.sent]
    for loop in lost:
        yield _bad(
            "udp",
            f"Of {loop.sent} datagrams to {loop.address}:{loop.port} the engine saw {loop.arrived}. Fix: open this UDP port in the firewall (nft list ruleset), and look for a counter of drops (nstat -az UdpRcvbufErrors).",
            f"Trong {loop.sent} gói tới {loop.address}:{loop.port} máy chủ nhận {loop.arrived}. Cách sửa: mở cổng UDP này ở tường lửa (nft list ruleset), và xem bộ đếm gói bị bỏ (nstat -az UdpRcvbufErrors).",
        )
    if not lost:
        yield _good(
            "udp",
            "Datagrams to every media address arrive in the engine.",
            "Gói UDP tới mọi địa chỉ media đều tới nơi.",
        )


def _clock(facts: Facts) -> Finding:
    if facts.clock_offset is not None and abs(facts.clock_offset) > MAX_CLOCK_OFFSET:
        return _bad(
            "clock",
            f"The clock is off by {facts.clock_offset:+.1f} s: tokens and certificates would not be valid. Fix: name a time server (host_ntp_servers), or timedatectl set-time.",
            f"Đồng hồ lệch {facts.clock_offset:+.1f} giây: thẻ và chứng thư sẽ không hợp lệ. Cách sửa: khai máy chủ thời gian (host_ntp_servers), hoặc timedatectl set-time.",
        )
    if facts.clock_synchronised is False:
        return _bad(
            "clock",
            "The clock follows no time server. Fix: name one of your network in host_ntp_servers, then ./d4e install; chronyc sources shows whether it is reached.",
            "Đồng hồ không theo máy chủ thời gian nào. Cách sửa: khai máy chủ trong mạng ở host_ntp_servers, rồi ./d4e install; xem bằng chronyc sources.",
        )
    if facts.clock_synchronised is None:
        return _unknown(
            "clock", "Whether the clock follows a time server is not known.", "Chưa biết đồng hồ có đồng bộ hay không."
        )
    return _good("clock", "The clock follows a time server.", "Đồng hồ theo máy chủ thời gian.")


def _mtu(facts: Facts) -> Iterator[Finding]:
    if not facts.mtu:
        yield _unknown("mtu", "The MTU of the media interfaces is not known.", "Chưa biết MTU của card mạng media.")
        return
    small = {name: mtu for name, mtu in facts.mtu.items() if mtu < MIN_MTU}
    for name, mtu in small.items():
        yield _bad(
            "mtu",
            f"The MTU of {name} is {mtu}: media packets would be cut or lost. Fix: ip link set {name} mtu 1500, and in its permanent settings; in a tunnel at least {MIN_MTU}.",
            f"MTU của {name} là {mtu}: gói media sẽ bị cắt hoặc mất. Cách sửa: ip link set {name} mtu 1500, và sửa trong cấu hình lâu dài; trong đường hầm tối thiểu {MIN_MTU}.",
        )
    if not small:
        yield _good(
            "mtu",
            f"The interfaces carry {min(facts.mtu.values())} bytes.",
            f"Card mạng cho phép gói {min(facts.mtu.values())} byte.",
        )


def _buffer(facts: Facts) -> Finding:
    if facts.buffer is None:
        return _unknown("buffer", "How much a media socket holds is not known.", "Chưa biết bộ đệm của cổng media.")
    if facts.buffer < MIN_BUFFER:
        return _bad(
            "buffer",
            f"A media socket holds {facts.buffer >> 10} KiB, {MIN_BUFFER >> 10} are wanted: bursts would be lost. Fix: let systemd bind the sockets (./d4e install does), or sysctl -w net.core.rmem_max={MIN_BUFFER}.",
            f"Bộ đệm cổng media là {facts.buffer >> 10} KiB, cần {MIN_BUFFER >> 10}: sẽ mất gói khi dồn dập. Cách sửa: để systemd mở cổng (./d4e install), hoặc sysctl -w net.core.rmem_max={MIN_BUFFER}.",
        )
    return _good(
        "buffer", f"A media socket holds {facts.buffer >> 10} KiB.", f"Bộ đệm cổng media là {facts.buffer >> 10} KiB."
    )


def _cpu(facts: Facts) -> Finding:
    if facts.cpu_flags is None or facts.cores is None:
        return _unknown("cpu", "What the processor can do is not known.", "Chưa biết khả năng của bộ xử lý.")
    missing = sorted({"aes", "pclmulqdq"} - facts.cpu_flags)
    if missing:
        return _bad(
            "cpu",
            f"The processor shows no {', '.join(missing)}: encryption would cost many times more. Fix: in a virtual machine set its processor type to host.",
            f"Bộ xử lý không có {', '.join(missing)}: mã hóa sẽ tốn gấp nhiều lần. Cách sửa: nếu là máy ảo, đặt kiểu bộ xử lý là host.",
        )
    if facts.workers > facts.cores:
        return _bad(
            "cpu",
            f"media.workers is {facts.workers}, there are {facts.cores} cores: they would wait for each other. Fix: at most one for each core.",
            f"media.workers là {facts.workers}, máy có {facts.cores} nhân: các luồng sẽ chờ nhau. Cách sửa: tối đa bằng số nhân.",
        )
    return _good("cpu", f"{facts.cores} cores, with AES.", f"{facts.cores} nhân, có AES.")


def _disk(facts: Facts) -> Iterator[Finding]:
    full = {path: free for path, free in facts.free.items() if free < MIN_FREE}
    for path, free in full.items():
        yield _bad(
            "disk",
            f"{free >> 20} MiB are free in {path}. Fix: remove old releases and backups, journalctl --vacuum-size=2G, or enlarge the disk.",
            f"{path} chỉ còn {free >> 20} MiB. Cách sửa: xóa phiên bản và bản sao lưu cũ, journalctl --vacuum-size=2G, hoặc tăng dung lượng.",
        )
    if not facts.free:
        yield _unknown("disk", "What is free on the disk is not known.", "Chưa biết dung lượng trống.")
    elif not full:
        yield _good(
            "disk",
            f"{min(facts.free.values()) >> 30} GiB are free.",
            f"Còn trống {min(facts.free.values()) >> 30} GiB.",
        )


def _hardening(facts: Facts) -> Finding:
    if facts.exposure is None:
        return _unknown(
            "hardening",
            "How the unit is hardened is not known: systemd-analyze is not there, or the unit.",
            "Chưa biết mức cô lập của dịch vụ: thiếu systemd-analyze hoặc dịch vụ.",
        )
    if facts.exposure > MAX_EXPOSURE:
        return _bad(
            "hardening",
            f"systemd-analyze security gives the unit {facts.exposure} of 10, at most {MAX_EXPOSURE} is right. Fix: look for drop-ins (systemctl cat d4e-sfu.service) and remove them, then ./d4e install.",
            f"systemd-analyze security cho dịch vụ {facts.exposure} trên 10, tối đa nên là {MAX_EXPOSURE}. Cách sửa: xem các tệp ghi đè (systemctl cat d4e-sfu.service) và bỏ đi, rồi ./d4e install.",
        )
    return _good(
        "hardening",
        f"The unit's exposure is {facts.exposure} of 10.",
        f"Mức phơi lộ của dịch vụ là {facts.exposure} trên 10.",
    )
