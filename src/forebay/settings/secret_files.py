"""Secrets by file: `KEY_file` (`FOREBAY_..._FILE`) names a file that holds the secret.

Orchestrators mount secrets as files, and what stands in no variable is in no process list.
"""

from collections.abc import Container, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from forebay.settings.sources import Assignment, Problem

SUFFIX: Final = "_file"
SECRET_BYTES_MAX: Final = 65_536


def from_files(
    assignments: list[Assignment], secrets: Container[str]
) -> Iterator[Assignment | Problem]:
    """Read the files that are named for one of `secrets`; pass everything else on."""
    for assignment in assignments:
        key = assignment.key.removesuffix(SUFFIX)
        if key == assignment.key or key not in secrets:
            yield assignment
            continue
        text = _text_of(assignment.value)
        if text is None:
            limit = f"a text file of 1 to {SECRET_BYTES_MAX} bytes that this user can read"
            yield Problem(set_by=assignment.set_by, text=f"{assignment.key} must name {limit}.")
        else:
            yield replace(assignment, key=key, value=text, text=True)


def _text_of(path: object) -> str | None:
    """Return what a file holds, without the line's end; None for what cannot be one."""
    if not isinstance(path, str) or not path:
        return None
    try:
        with Path(path).open("rb") as file:
            found = file.read(SECRET_BYTES_MAX + 1)
        text = found.decode().rstrip("\r\n")
    except (OSError, ValueError):
        return None
    return text if text and len(found) <= SECRET_BYTES_MAX else None
