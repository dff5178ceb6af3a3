"""A JSON file in a folder that an engine loads, read within bounds."""

from pathlib import Path
from typing import Final, TypeVar

import msgspec

T = TypeVar("T")

_BYTES_MAX: Final = 1 << 20
"""A hundred times what real ones have."""


def read_json(path: Path, kind: type[T]) -> T:
    """Return what a file holds; raises ValueError that names it and says what is wrong."""
    try:
        size = path.stat().st_size
        if size > _BYTES_MAX:
            raise ValueError(f"{path} has {size} bytes, more than any real one.")
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}).") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read ({str(error)[:100]}).") from error
