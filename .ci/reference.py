"""The reference of the settings, from the models: docs/en/configuration.md and docs/vi/configuration.md.

Nobody types a key, a default or a bound. Vietnamese sentences are in docs/vi/settings.yaml, each by its English one, so
that a sentence that has changed is not shown with an old translation; what has none is shown in English.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin

import yaml
from pydantic import BaseModel

from d4e_sfu.config import Config

TOP = Path(__file__).parent.parent
LANGUAGES = ("en", "vi")
HEAD = {
    "en": (
        "# Settings",
        "Written by `make reference` from the models (`d4e_sfu/settings/`). One YAML file; an example with every key at its\n"
        "default is [config/d4e-sfu.yaml](../../config/d4e-sfu.yaml). *live*: a reload applies it (`systemctl reload\n"
        "d4e-sfu`); *restart*: a reload names it and keeps the old value. Units are written out: `30s 5m 12h`, `64KiB 1MiB`,\n"
        "`128k 3M` (bits per second). Tiếng Việt: [../vi/configuration.md](../vi/configuration.md).",
        "| setting | default | bounds | changes | meaning |",
    ),
    "vi": (
        "# Các mục cấu hình",
        "Tạo bởi `make reference` từ mã nguồn (`d4e_sfu/settings/`). Một tệp YAML; ví dụ có đủ mọi mục với giá trị mặc định là\n"
        "[config/d4e-sfu.yaml](../../config/d4e-sfu.yaml). *ngay*: có hiệu lực khi nạp lại (`systemctl reload d4e-sfu`);\n"
        "*khởi động lại*: nạp lại chỉ nêu tên và giữ giá trị cũ. Ghi rõ đơn vị: `30s 5m 12h`, `64KiB 1MiB`, `128k 3M` (bit\n"
        "mỗi giây). English: [../en/configuration.md](../en/configuration.md).",
        "| mục | mặc định | giới hạn | thay đổi | ý nghĩa |",
    ),
}
CHANGES = {"en": {"live": "live", "restart": "restart"}, "vi": {"live": "ngay", "restart": "khởi động lại"}}


class Setting(NamedTuple):
    key: str
    default: str
    bounds: str
    reload: str
    meaning: str


def settings(model: type[BaseModel] = Config, within: str = "") -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        extra = field.json_schema_extra
        assert isinstance(extra, dict)
        inner = _model(field.annotation)
        default = "" if inner or field.is_required() else _shown(field.get_default(call_default_factory=True))
        yield Setting(
            f"{within}{name}", default, _bounds(field.metadata), str(extra["reload"]), field.description or ""
        )
        if inner:
            mark = {tuple: "[].", None: "."}.get(get_origin(field.annotation), ".NAME.")
            yield from settings(inner, f"{within}{name}{mark}")


def _model(annotation: Any) -> type[BaseModel] | None:
    """The settings that a setting consists of, or is a list or a table of."""
    found = [annotation]
    for each in found:
        if isinstance(each, type) and get_origin(each) is None and issubclass(each, BaseModel):
            return each
        found.extend(get_args(each))
    return None


def _shown(value: object) -> str:
    if isinstance(value, tuple | frozenset):
        items = sorted(value) if isinstance(value, frozenset) else value
        return f"`[{', '.join(str(each.value if isinstance(each, Enum) else each) for each in items)}]`"
    return f"`{ {None: 'null', True: 'true', False: 'false'}.get(value, value) if isinstance(value, bool | None) else value }`"


def _bounds(metadata: list[Any]) -> str:
    low = next((each.ge for each in metadata if getattr(each, "ge", None) is not None), None)
    high = next((each.le for each in metadata if getattr(each, "le", None) is not None), None)
    if low is None and high is None:
        return ""
    return f"{low if low is not None else ''} – {high if high is not None else ''}".strip()


def page(language: str) -> str:
    words = yaml.safe_load((TOP / "docs/vi/settings.yaml").read_text()) if language == "vi" else {}
    title, about, columns = HEAD[language]
    lines = [title, "", about, ""]
    part = None
    for setting in settings():
        first = setting.key.partition(".")[0].partition("[")[0]
        meaning = words.get(setting.meaning, setting.meaning).replace("|", "\\|")
        if first != part:
            part = first
            lines += ["", f"## {first}", "", meaning, "", columns, f"|{'---|' * 5}"] if setting.key == first else []
            if _has_parts(first):
                continue
        change = CHANGES[language][setting.reload]
        lines.append(f"| `{setting.key}` | {setting.default} | {setting.bounds} | {change} | {meaning} |")
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def _has_parts(name: str) -> bool:
    return _model(Config.model_fields[name].annotation) is not None


def main() -> None:
    for language in LANGUAGES:
        (TOP / f"docs/{language}/configuration.md").write_text(page(language))


if __name__ == "__main__":
    main()
