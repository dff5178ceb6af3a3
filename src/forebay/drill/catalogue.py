"""Every drill there is, in the order in which they are run."""

from typing import Final

from forebay.drill.alerts import ALERT_DRILL
from forebay.drill.cancels import CANCELS
from forebay.drill.gateway import GATEWAY
from forebay.drill.hostile import HOSTILE
from forebay.drill.neighbour import NEIGHBOUR
from forebay.drill.overload import OVERLOAD
from forebay.drill.peer import OVERLOAD_PEER
from forebay.drill.rolling import ROLLING_RESTART
from forebay.drill.shared_store import SHARED_STORE
from forebay.drill.single_flight import SINGLE_FLIGHT
from forebay.drill.stage import Drill
from forebay.drill.vanish import VANISH
from forebay.drill.worker import WORKER

DRILLS: Final[tuple[Drill, ...]] = (
    OVERLOAD,
    OVERLOAD_PEER,
    NEIGHBOUR,
    CANCELS,
    VANISH,
    WORKER,
    GATEWAY,
    SINGLE_FLIGHT,
    ROLLING_RESTART,
    SHARED_STORE,
    HOSTILE,
    ALERT_DRILL,
)


def named(names: list[str]) -> list[Drill]:
    """Return the drills of these names, or all; raise KeyError for a name that none has."""
    known = {drill.name: drill for drill in DRILLS}
    return [known[name] for name in names] if names else list(DRILLS)
