"""Names and numbers made by the core: sids for clients, ids for the engine, SSRCs, ICE credentials.

All chance comes from one passed generator, so a run with a seed repeats itself. In production that generator is
`random.SystemRandom`: ICE passwords are secrets (RFC 8445 §5.3).
"""

from __future__ import annotations

import itertools
import random
from typing import Final

from d4e_sfu.core.boundary import PublicationId, SubscriptionId, TransportId

_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

# RFC 8445 §5.3: at least 24 bits in a ufrag and 128 bits in a password. A letter carries 5.95 bits.
_UFRAG: Final = 8
_PASSWORD: Final = 24
# As long as the sids that clients know; 71 bits.
_SID: Final = 12


class Ids:
    """One for the process: the engine's ids never repeat."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._numbers = itertools.count(1)

    def sid(self, prefix: str) -> str:
        """`RM_…`, `PA_…`, `TR_…`: clients refuse other prefixes."""
        return prefix + self._letters(_SID)

    def transport(self) -> TransportId:
        return TransportId(next(self._numbers))

    def publication(self) -> PublicationId:
        return PublicationId(next(self._numbers))

    def subscription(self) -> SubscriptionId:
        return SubscriptionId(next(self._numbers))

    def credentials(self) -> tuple[str, str]:
        """ICE ufrag and password."""
        return self._letters(_UFRAG), self._letters(_PASSWORD)

    def ssrc(self, taken: set[int]) -> int:
        """RFC 3550 §8.1: random, and unique among the streams of one transport. Adds it to those taken.

        It stays taken: a client may remember a stream that has ended.
        """
        while True:
            ssrc = self._chance.randrange(1, 1 << 32)
            if ssrc not in taken:
                taken.add(ssrc)
                return ssrc

    def _letters(self, count: int) -> str:
        return "".join(self._chance.choices(_LETTERS, k=count))
