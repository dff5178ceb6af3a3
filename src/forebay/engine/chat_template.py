"""A model's chat template: conversation in, prompt text out; untrusted, so bounded.

Imported when a model is loaded, so that no other process pays for Jinja.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from jinja2 import TemplateError

from forebay.core.request import Message, Role
from forebay.engine.protocol import Refused
from forebay.engine.template_meter import TooMuch
from forebay.engine.template_sandbox import MeteredEnvironment
from forebay.engine.tool_rendering import ToolShapes

_FAULTS: Final = (
    *(TemplateError, ArithmeticError, AttributeError, LookupError, MemoryError),
    *(RuntimeError, TypeError, ValueError),
)
"""What a template can raise: its own errors and those of the operators it applies."""


class TemplateFault(ValueError):
    """The template cannot be used at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateLimits:
    """What a template may use.

    Real ones stay below a hundredth of it, so these are no knobs: whoever needs more is hostile.
    """

    source_chars_max: int = 262_144
    """The longest that we have met has 20,000 characters."""
    work_max: int = 200_000
    """Units of work for one prompt: about 0.2 s."""
    work_per_message_max: int = 5_000
    extra_chars_max: int = 65_536
    """Characters of a prompt, beyond four times those of its messages."""


class ChatTemplate:
    """One compiled template."""

    def __init__(self, source: str, limits: TemplateLimits | None = None) -> None:
        """Compile; raise `TemplateFault` for what does not."""
        self._limits = limits or TemplateLimits()
        if len(source) > self._limits.source_chars_max:
            raise TemplateFault(
                f"the chat template has {len(source)} characters; "
                f"at most {self._limits.source_chars_max} are read"
            )
        self._environment = MeteredEnvironment()
        try:
            self._template = self._environment.from_string(source)
        except (*_FAULTS, SyntaxError, TooMuch) as error:
            raise TemplateFault("the chat template is not a template that Jinja accepts") from error
        # Most templates do not know the newer name; they would print it, or refuse.
        self._developer = Role.DEVELOPER if Role.DEVELOPER in source else Role.SYSTEM
        self.source = source

    def render(
        self,
        messages: Sequence[Message],
        variables: dict[str, Any],
        shapes: ToolShapes | None = None,
    ) -> str:
        """Return the prompt's text; raise `Refused` where the template does not make one."""
        chars = sum(len(message.content) for message in messages)
        turns: list[dict[str, Any]]
        turns = [{"role": self._role(message), "content": message.content} for message in messages]
        parts = len(turns)
        if shapes is not None:
            chars += sum(map(len, shapes.texts()))
            parts += shapes.parts
            variables = variables | {"tools": shapes.tools}
            for index, said in shapes.turns.items():
                turns[index].update(said)
        size = 4 * chars + self._limits.extra_chars_max
        work = self._limits.work_max + self._limits.work_per_message_max * parts
        self._environment.meter.allow(work=work + chars // 64, size=size)
        try:
            return self._join(size, {"messages": turns, **variables})
        except TooMuch as error:
            raise Refused(
                "messages: the model's chat template did more work than one prompt is allowed. "
                "Send fewer or shorter messages, or serve a model whose template does less.",
                param="messages",
            ) from error
        except _FAULTS as error:
            raise Refused(
                "messages: the model's chat template does not accept this conversation. "
                "Usual causes: a role that the model does not know, or turns that do not "
                "alternate between user and assistant.",
                param="messages",
            ) from error

    def _join(self, size: int, variables: dict[str, Any]) -> str:
        chunks, length = [], 0
        for chunk in self._template.generate(variables):
            length += len(chunk)
            if length > size:
                raise TooMuch("too long a prompt")
            chunks.append(chunk)
        return "".join(chunks)

    def _role(self, message: Message) -> str:
        return str(self._developer if message.role is Role.DEVELOPER else message.role)
