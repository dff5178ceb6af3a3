"""Every drill there is, in the order in which they are run."""

from typing import Final

from forebay.drill.overload import OVERLOAD
from forebay.drill.stage import Drill

DRILLS: Final[tuple[Drill, ...]] = (OVERLOAD,)


def named(names: list[str]) -> list[Drill]:
    """Return the drills of these names, or all; raise KeyError for a name that none has."""
    known = {drill.name: drill for drill in DRILLS}
    return [known[name] for name in names] if names else list(DRILLS)
