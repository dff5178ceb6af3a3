"""When a request's bytes arrived, if the event loop was busy with something else then.

The loop cannot know: it reads when it comes to reading.  While it turns as it should, what it reads
has just come, and nothing is asked.  When it has just stalled (`telemetry/loop_lag.py`), the
kernel is asked when it last took something from the client (`TCP_INFO`, on Linux).  Where it has no
word (Unix sockets, other systems), all of a stall that still goes on counts, though the bytes may
have come later in it.

The bound of the error: the kernel's clock turns in steps of 1 to 10 ms, so its word is exact to one
of them, or two where the machine lacks CPU.  A stall that no ring fell into is not noticed: up to
`STALL_S_MIN` + `PERIOD_S`, 25 ms, may be missing.
"""

import asyncio
import socket
import struct
import sys
from typing import Final

from forebay.core.clock import MONOTONIC, Clock
from forebay.telemetry.loop_lag import PERIOD_S, LoopLag

_SINCE_RECEIVED: Final = struct.Struct("I")
_SINCE_RECEIVED_AT: Final = 52
"""Where `tcpi_last_data_recv` stands in Linux's `struct tcp_info`: milliseconds."""


class Arrivals:
    """Says when what is being read arrived."""

    def __init__(self, lag: LoopLag | None = None, now: Clock = MONOTONIC) -> None:
        """Know of stalls by `lag`; without it, of none."""
        self._lag = lag
        self._now = now

    def of(self, transport: asyncio.BaseTransport) -> float:
        """Return when the newest bytes of a connection came that are being read now."""
        now, lag = self._now(), self._lag
        if lag is None or not (before_s := lag.before_s(now)):
            return now
        kernel_s = _since_received_s(transport)
        if kernel_s is None:
            return now - lag.overdue_s(now)
        return now - min(kernel_s, before_s + PERIOD_S)


def _since_received_s(transport: asyncio.BaseTransport) -> float | None:
    """Return how long ago the kernel took the latest bytes; None where it does not tell."""
    if sys.platform != "linux":
        return None
    given = transport.get_extra_info("socket")
    if given is None or given.family not in {socket.AF_INET, socket.AF_INET6}:
        return None
    size = _SINCE_RECEIVED_AT + _SINCE_RECEIVED.size
    try:
        info = given.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size)
    except OSError:
        return None
    if len(info) < size:
        return None
    return float(_SINCE_RECEIVED.unpack_from(info, _SINCE_RECEIVED_AT)[0]) / 1_000
