"""What the network department has to open, as a form to hand over: every way in that the configuration makes, whence,
whither and why, in both languages. A pure function of the configuration; it knows nothing of the firewall that there is.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from d4e_sfu.config import Config

_HEAD = {
    "en": (
        "# Request to open a firewall",
        "For the video-conferencing server {host}. Everything that is not listed may stay closed.",
        "| direction | protocol | port | from | to | why |",
        "Replies belong to these connections. UDP without traffic must be kept for at least 30 seconds. Please do not open "
        "TLS on the way (no inspection), and let WebSockets pass.",
        "Asked for by: ____________________   Date: ____________   Granted by: ____________________",
    ),
    "vi": (
        "# Phiếu yêu cầu mở tường lửa",
        "Cho máy chủ họp trực tuyến {host}. Những gì không nêu dưới đây có thể đóng.",
        "| chiều | giao thức | cổng | từ | đến | lý do |",
        "Gói trả lời thuộc về các kết nối này. Phiên UDP không có lưu lượng cần giữ tối thiểu 30 giây. Đề nghị không giải mã "
        "TLS trên đường đi (không kiểm tra nội dung), và cho phép WebSocket.",
        "Người yêu cầu: ____________________   Ngày: ____________   Người duyệt: ____________________",
    ),
}
_WORDS = {
    "en": ("in", "stations and phones", "page and signalling (HTTPS, WebSocket)", "voice and pictures (SRTP)",
           "nobody from outside: health and metrics stay on {address}",
           "page, signalling, and voice and pictures where UDP is closed (HTTPS, WebSocket, TURN over TLS, ICE-TCP)",
           "from the certificate authority, where certificates come by ACME (d4e_sfu_tls_mode: acme); else nobody"),
    "vi": ("vào", "máy trạm và điện thoại", "trang web và báo hiệu (HTTPS, WebSocket)", "âm thanh và hình ảnh (SRTP)",
           "không mở ra ngoài: trạng thái và số liệu chỉ ở {address}",
           "trang web, báo hiệu, và âm thanh, hình ảnh khi UDP bị đóng (HTTPS, WebSocket, TURN qua TLS, ICE-TCP)",
           "từ tổ chức cấp chứng thư, nếu chứng thư cấp qua ACME (d4e_sfu_tls_mode: acme); nếu không thì không mở"),
}  # fmt: skip


def form(config: Config, *, host: str, language: str) -> str:
    title, about, columns, notes, signed = _HEAD[language]
    rows = "\n".join(f"| {' | '.join(row)} |" for row in _rows(config, host, language))
    rule = "|".join(["", *["---"] * 6, ""])
    closed = _WORDS[language][4].format(address=f"{config.admin.address}:{config.admin.port}")
    # How certificates come is Ansible's to know, not the configuration's.
    apart = f"- TCP {config.admin.port}: {closed}\n- TCP 80: {_WORDS[language][6]}"
    return f"{title}\n\n{about.format(host=host)}\n\n{columns}\n{rule}\n{rows}\n\n{notes}\n\n{apart}\n\n{signed}\n"


def _rows(config: Config, host: str, language: str) -> Iterator[tuple[str, ...]]:
    direction, people, page, media, _, both, _ = _WORDS[language]
    for listener in config.http.listeners:
        if not ipaddress.ip_address(listener.address).is_loopback:
            yield (
                direction,
                "TCP",
                str(listener.port),
                people,
                _to([listener.address], host),
                both if listener.is_front else page,
            )
    addresses = [each for address in config.media.addresses for each in address.announced]
    for worker in range(config.media.workers):
        yield direction, "UDP", str(config.media.port + worker), people, _to(addresses, host), media


def _to(addresses: list[str], host: str) -> str:
    named = [address for address in addresses if not ipaddress.ip_address(address).is_unspecified]
    return ", ".join(named) or host
