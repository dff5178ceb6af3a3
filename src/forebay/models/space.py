"""Room on a disk, asked for before it is taken."""

import shutil
from pathlib import Path

from forebay.models.stages import PreparationError


def require_space(folder: Path, needed_bytes: int) -> None:
    """Raise `PreparationError` with both numbers if the disk has not that much room."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise PreparationError(
            f"Preparing this model takes {needed_bytes / 1e6:,.0f} MB and "
            f"{free / 1e6:,.0f} MB is free in {folder}. Free some, or set another cache folder."
        )
