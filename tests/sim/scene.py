"""What the scenes of this folder have in common: seeds, cameras, links."""

from __future__ import annotations

import pytest

from tests.lab.network import Conditions
from tests.lab.virtual import Camera, Voice

# A failure names its seed: `pytest tests/sim -k 'that_test and 3'` is the same run again.
SEEDS = [*range(1, 6), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(6, 21))]

FPS = 15
FRAME = 1 / FPS  # s
DELAY = 0.02  # s, one way between a client and the server
ROUND_TRIP = 2 * DELAY
ROUTER_TICK = 0.01  # s; what the router does by the clock is late by this at most

# Keyframes come when they are asked for, as browsers send them; every second picture is droppable.
CAMERA = Camera(encodings=(60_000, 150_000, 400_000), more={"fps": FPS, "temporal_layers": 2})
SMALL = Camera(encodings=(150_000,), more={"fps": FPS})
VOICE = Voice(bitrate=24_000)

GOOD = Conditions(delay=DELAY)
LOSSY = Conditions(delay=DELAY, loss=0.05)
DEAD = Conditions(loss=1.0)
