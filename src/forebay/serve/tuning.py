"""What the interpreter need not do for a server: two lists it keeps, and what they cost."""

import gc
import sys


def leave_generators_alone() -> None:
    """Let the loop not keep a list of every generator, some six per request.

    It would close them at its end; ours are closed by whoever reads them, and one that is lost
    is still closed when it is collected.
    """
    sys.set_asyncgen_hooks(firstiter=None, finalizer=sys.get_asyncgen_hooks().finalizer)


def settle_garbage() -> None:
    """Let the collector pass over what lives as long as the process.

    Otherwise each full collection looks at some 200,000 objects that are never garbage, and
    every request that is being served waits for it.
    """
    gc.collect()
    gc.freeze()
