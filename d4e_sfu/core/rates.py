"""How often each of many may do something: a token bucket for each name, and never more of them than a bound.

The names are whatever the caller tells apart (addresses, keys, people). A name that has not come for a while has its
whole burst again, so nothing is lost when the table forgets those that came longest ago.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from d4e_sfu.core.allowance import Allowance

if TYPE_CHECKING:
    from d4e_sfu.config import Rate

MAX_NAMES: Final = 16_384  # some 4 MiB


class Rates:
    """One table. All names in it have the same rate."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._allowances: OrderedDict[str, Allowance] = OrderedDict()  # who came longest ago first

    def __len__(self) -> int:
        return len(self._allowances)

    def take(self, name: str, *, now: float) -> float:
        """Once more. Returns 0, or for how many seconds it is too often."""
        allowance = self._allowances.get(name)
        if allowance is None:
            if len(self._allowances) >= MAX_NAMES:
                self._allowances.popitem(last=False)
            allowance = Allowance(rate=self._rate.per_second, burst=self._rate.burst, now=now)
            self._allowances[name] = allowance
        self._allowances.move_to_end(name)
        return 0.0 if allowance.take(now=now) else allowance.wait(now=now)
