"""What every setting says of itself where it is defined: its meaning, and whether it can change while the server runs.

Bounds are pydantic's own; a model of settings refuses keys that it does not know.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Reload = Literal["live", "restart"]


def live(meaning: str, **bounds: Any) -> Any:
    """A setting that a reload applies: to whoever joins next, where its meaning does not say more."""
    return Field(description=meaning, json_schema_extra={"reload": "live"}, **bounds)


def restart(meaning: str, **bounds: Any) -> Any:
    """A setting that a reload names as changed, and keeps as it was."""
    return Field(description=meaning, json_schema_extra={"reload": "restart"}, **bounds)


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
