"""What an auditor asks for: each control, what it is set to here, and the command that shows it. A pure function of the
configuration; it claims no certificate, and says what is not there as well as what is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from d4e_sfu.config import Config


class Row(NamedTuple):
    control: str
    setting: str
    proof: str


_HEAD = {
    "en": ("# Evidence", "Controls of this server as it is configured. No certificate of conformity is claimed.", "| control | setting | how to see it |"),
    "vi": ("# Bằng chứng", "Các biện pháp kiểm soát theo cấu hình hiện tại. Không tuyên bố chứng nhận hợp chuẩn nào.", "| biện pháp | thiết lập | cách kiểm chứng |"),
}  # fmt: skip


def table(config: Config, *, file: str, language: str) -> str:
    title, about, columns = _HEAD[language]
    rows = "\n".join(
        f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows_of(config, file, language)
    )
    return f"{title}\n\n{about}\n\n{columns}\n|---|---|---|\n{rows}\n"


def rows_of(config: Config, file: str, language: str) -> Iterator[Row]:
    vi = language == "vi"
    for english, vietnamese, setting, proof in _rows(config, file):
        yield Row(vietnamese if vi else english, setting[1] if vi else setting[0], f"`{proof}`")


def _rows(config: Config, file: str) -> Iterator[tuple[str, str, tuple[str, str], str]]:
    keys = ", ".join(key.id for key in config.keys) or "-"
    yield (
        "Who comes in has a token that a known key has signed",
        "Người vào phải có thẻ do khóa đã khai ký",
        (f"keys: {keys}", f"khóa: {keys}"),
        f"d4e-sfu check {file}",
    )
    moderators = ", ".join(name for name, role in config.roles.items() if role.moderate) or "-"
    yield (
        "Least privilege: a right is the token's grant and the role's",
        "Đặc quyền tối thiểu: quyền phải có trong cả thẻ và vai trò",
        (
            f"{len(config.roles)} roles, may moderate: {moderators}",
            f"{len(config.roles)} vai trò, được điều hành: {moderators}",
        ),
        f"d4e-sfu links --config {file} --room test",
    )
    plain = [
        f"{each.address}:{each.port}"
        for each in config.http.listeners
        if not each.tls and not each.address.startswith(("127.", "::1"))
    ]
    yield (
        "Encryption on the way: TLS 1.2 or newer, SRTP for every media packet",
        "Mã hóa trên đường truyền: TLS 1.2 trở lên, SRTP cho mọi gói âm thanh, hình ảnh",
        ("every listener but loopback is TLS", "mọi cổng ngoài loopback dùng TLS")
        if not plain
        else (f"NOT on {', '.join(plain)}", f"KHÔNG có ở {', '.join(plain)}"),
        f"d4e-sfu doctor --config {file}",
    )
    yield (
        "End-to-end encryption",
        "Mã hóa đầu cuối",
        ("none: the server can read what it forwards", "không có: máy chủ đọc được nội dung chuyển tiếp"),
        "docs/en/security.md",
    )
    kept = f"{config.audit.keep / 86400:.0f}"
    yield (
        "Log of joins, refusals and privileged acts that shows every change",
        "Nhật ký vào phòng, từ chối và thao tác đặc quyền, phát hiện được mọi sửa đổi",
        (
            f"in {config.audit.folder}, kept {kept} days after the month",
            f"tại {config.audit.folder}, giữ {kept} ngày sau khi hết tháng",
        )
        if config.audit.folder
        else ("NONE: audit.folder is not set", "KHÔNG có: chưa đặt audit.folder"),
        f"journalctl -u d4e-sfu | d4e-sfu audit verify --config {file} --checkpoints -",
    )
    yield (
        "Isolation of the service: no network of its own, no right to gain others",
        "Cô lập dịch vụ: không có mạng riêng, không nâng quyền được",
        ("systemd/d4e-sfu.service", "systemd/d4e-sfu.service"),
        "systemd-analyze security d4e-sfu.service",
    )
    yield (
        "Firewall: what is not needed is dropped",
        "Tường lửa: chặn mọi thứ không cần",
        ("table inet d4e_sfu", "bảng inet d4e_sfu"),
        "nft list table inet d4e_sfu",
    )
    loopback = config.admin.address.startswith(("127.", "::1"))
    yield (
        "Administration is out of reach from outside",
        "Cổng quản trị không mở ra ngoài",
        (
            f"admin on {config.admin.address}" + ("" if loopback else ": NOT loopback"),
            f"quản trị ở {config.admin.address}" + ("" if loopback else ": KHÔNG phải loopback"),
        ),
        f"ss -ltn sport = :{config.admin.port}",
    )
    rate = config.rates.address
    yield (
        "Who asks too often is refused",
        "Yêu cầu quá dày bị từ chối",
        (
            f"{rate.per_second:g} a second and {rate.burst} at once from an address",
            f"{rate.per_second:g} mỗi giây và {rate.burst} một lúc từ một địa chỉ",
        ),
        f"curl -s {config.admin.address}:{config.admin.port}/metrics",
    )
    yield (
        "Clock is synchronised",
        "Đồng hồ được đồng bộ",
        ("host_ntp_servers", "host_ntp_servers"),
        "chronyc tracking",
    )
    yield (
        "Backup every day, restored as a test once a year",
        "Sao lưu hằng ngày, diễn tập khôi phục mỗi năm",
        ("/var/backups/d4e-sfu", "/var/backups/d4e-sfu"),
        "systemctl list-timers d4e-sfu-backup.timer",
    )
    yield (
        "Software comes from a signed bundle, every library pinned by its hash",
        "Phần mềm từ gói có chữ ký, mọi thư viện ghim theo mã băm",
        ("SHA256SUMS.sig, signer.pub", "SHA256SUMS.sig, signer.pub"),
        "./d4e verify",
    )
    yield (
        "Recording",
        "Ghi hình",
        ("none: nothing of a call is stored", "không có: không lưu nội dung cuộc gọi"),
        "docs/en/security.md",
    )
