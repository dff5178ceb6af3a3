"""The most tokens that a prompt may be, before anybody has counted them.

A tokenizer whose pieces are bytes (GPT, Llama 3, Qwen, ours) makes at most one token of each byte
of UTF-8.  One of sentence pieces makes one of each character, or of each of its bytes where it
does not know the character, and may put a space before a text: one more.  So a text is at most
its bytes and one.  What a template adds (roles, marks, its own first words, the preamble that it
puts before tools) is bounded by an allowance, and ids that a client sends count exactly.

It does not hold where a tokenizer first rewrites text into more of it (NFKC makes 18 letters of
one Arabic ligature), where a template repeats what it is given, or where an upstream adds words
of its own.  Then more is used than was taken, and what is too much is charged afterwards.
"""

from typing import Final, assert_never

from forebay.core.request import Chat, Prompt, Text, TokenIds
from forebay.core.tooling import Tooling

_TEMPLATE: Final = 128
"""A conversation's own: a date, a default system text, the cue to answer.  The longest among the
templates in our tests (Llama 3.1, Qwen 2.5, SmolLM2, Phi, Mistral) is Llama's, about 40."""
_MESSAGE: Final = 16
"""Marks and role of one turn; the same templates need up to 6."""
_TOOLS: Final = 512
"""The preamble that templates put before tools; Qwen's is about 150."""
_TOOL: Final = 64
"""Keys and braces around one tool or call."""
_INDENTED: Final = 4
"""How much longer a JSON text may get when a template lays it out in lines."""


def prompt_tokens_most(prompt: Prompt) -> int:
    """Return an upper bound of a prompt's tokens."""
    match prompt:
        case Chat():
            found = _TEMPLATE + _MESSAGE * len(prompt.messages)
            for message in prompt.messages:
                found += _bytes(message.content) + 1
            return found if prompt.tooling is None else found + _tooling(prompt.tooling)
        case Text():
            return _bytes(prompt.text) + 2
        case TokenIds():
            return len(prompt.ids) + 1
        case _:
            assert_never(prompt)


def _tooling(tooling: Tooling) -> int:
    found = _TOOLS
    for tool in tooling.tools:
        words = _bytes(tool.name) + _bytes(tool.description)
        found += _TOOL + words + _INDENTED * _bytes(tool.parameters)
    for turn in tooling.turns:
        found += _TOOL + _bytes(turn.answers) + _bytes(turn.name)
        for call in turn.calls:
            words = _bytes(call.id) + _bytes(call.name)
            found += _TOOL + words + _INDENTED * _bytes(call.arguments)
    return found


def _bytes(text: str) -> int:
    """Return how long a text is in UTF-8; told at once where it is plain ASCII."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
