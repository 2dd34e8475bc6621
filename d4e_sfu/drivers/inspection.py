"""What an operator is shown of the inside: the core's view, and beside it the engine's and the associations'.

Ids and counts; never a key, a token or a name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from d4e_sfu.core.sfu import Sfu
    from d4e_sfu.drivers.associations import Associations
    from d4e_sfu.drivers.engine import EngineDriver


@dataclass(frozen=True, slots=True)
class Inspection:
    sfu: Sfu
    engines: Sequence[EngineDriver]
    associations: Mapping[EngineDriver, Associations]
    connections: Callable[[], int]
    """Of signalling."""

    def whole(self) -> Mapping[str, object]:
        return {
            **self.sfu.debug_state(),
            "signalling_connections": self.connections(),
            "tasks": len(asyncio.all_tasks()),
            "workers": [
                {
                    "name": each.name,
                    "candidates": [f"{address}:{port}" for address, port, *_ in each.candidates],
                    "deaths": each.deaths,
                    "busy": each.busy,
                    "associations": self.associations[each].debug_state(),
                    "snapshot": each.snapshot(),
                }
                for each in self.engines
            ],
        }

    async def room(self, name: str) -> Mapping[str, object] | None:
        """The core's view of a room, and beside it the engine's and the associations' views of the same things."""
        state = self.sfu.debug_room(name)
        if state is None:
            return None
        driver = next(each for each in self.engines if each is self.sfu.rooms[name].worker.engine)
        engine = await driver.debug_state()
        people = state["participants"]
        ids = {
            "transports": {each for person in people for each in (person["transport"], person["uplink"]) if each},
            "publications": {each["id"] for person in people for each in person["publications"]},
            "subscriptions": {each["id"] for person in people for each in person["subscriptions"]},
        }
        return {
            **state,
            "worker": driver.name,
            "engine": {
                kind: [each for each in engine.get(kind, []) if each.get("id") in wanted]
                for kind, wanted in ids.items()
            },
            "associations": {
                str(transport): self.associations[driver].debug_state(transport)
                for transport in sorted(ids["transports"])
            },
        }
