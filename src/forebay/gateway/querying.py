"""The query of a path: few names, each known, each once."""

from collections.abc import Collection, Mapping
from urllib.parse import parse_qsl

from forebay.core.errors import Invalid

_FIELDS_MAX = 32
_DIGITS_MAX = 12


def query_of(raw: bytes, names: Collection[str]) -> Mapping[str, str]:
    """Read a query whose fields may be `names`; raises Invalid that names the field."""
    try:
        fields = parse_qsl(
            raw.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(raw),
            errors="strict",
            max_num_fields=_FIELDS_MAX,
        )
    except ValueError:
        raise Invalid("The query cannot be read; write it as ?name=value&name=value.") from None
    found: dict[str, str] = {}
    for name, text in fields:
        if name not in names:
            allowed = ", ".join(sorted(names)) or "none"
            raise Invalid(
                f"{name[:60]}: not known here; this route takes {allowed}.", param=name[:60]
            )
        if name in found:
            raise Invalid(f"{name}: it stands twice; send it once.", param=name)
        found[name] = text
    return found


def whole(query: Mapping[str, str], name: str, *, default: int, most: int) -> int:
    """Return a whole number from 1 to `most`; raises Invalid that names the field."""
    text = query.get(name)
    if text is None:
        return default
    if not (
        text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX and 1 <= int(text) <= most
    ):
        raise Invalid(f"{name}: expected a whole number from 1 to {most}.", param=name)
    return int(text)
