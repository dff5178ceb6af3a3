"""Files that others read (YAML), written so that people can read them too."""

from typing import Any, Final

import yaml

_COLUMNS: Final = 4_096
"""A query stands on one line, to be copied."""


def rendered(content: Any, *, about: str) -> str:  # noqa: ANN401 - a document holds what it holds
    """Return a YAML document, headed by what it is."""
    head = "".join(f"# {line}\n" for line in about.strip().splitlines())
    body = yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=_COLUMNS, allow_unicode=True)
    return f"{head}{body}"


class _Dumper(yaml.SafeDumper):
    """Says everything where it stands: no anchors, lists indented, lines of a text as lines."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401, ARG002 - the library's signature
        """Write the same thing twice rather than point at it."""
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - the library's signature
        """Indent lists, too."""
        super().increase_indent(flow, False)  # noqa: FBT003 - the library's signature


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
