"""The program's first lines: a signal may come while the rest is still being read."""

import signal
import sys
from types import FrameType


def main() -> None:
    """Run the command line; ends the process with its status."""
    signal.signal(signal.SIGTERM, _leave)
    from forebay.cli.main import main as run  # noqa: PLC0415 - it takes a tenth of a second

    run()


def _leave(_number: int, _frame: FrameType | None) -> None:
    """End at once: a server that has not begun has stopped well, another command has not."""
    sys.exit(0 if sys.argv[1:2] == ["serve"] else 128 + signal.SIGTERM)


if __name__ == "__main__":
    main()
