"""What the interpreter need not do for a server: two lists it keeps, and what they cost."""

import gc
import sys
from typing import Final

_YOUNG_MAX: Final = 10_000
"""Objects made and still held before the collector looks at them: some 100 requests."""


def leave_generators_alone() -> None:
    """Let the loop not keep a list of every generator, some six per request.

    It would close them at its end; ours are closed by whoever reads them, and one that is lost
    is still closed when it is collected.
    """
    sys.set_asyncgen_hooks(firstiter=None, finalizer=sys.get_asyncgen_hooks().finalizer)


def settle_garbage() -> None:
    """Let the collector come seldom, and pass over what lives as long as the process.

    Otherwise each full collection looks at some 200,000 objects that are never garbage, and
    every request that is being served waits for it.  And after each 700 objects that requests
    under way hold together the collector looked for cycles, of which they make hardly any: that
    was 6 us of a request's 180.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_MAX, *gc.get_threshold()[1:])
