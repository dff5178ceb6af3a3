"""Which encoder writes an answer that is reopened by its name alone."""

from dataclasses import dataclass

from forebay.core.request import Begun, Usage
from forebay.gateway.encoding import Encoder, Frames, Gathered, Label
from forebay.gateway.responses_encoding import Plan, ResponsesEncoder
from forebay.gateway.tool_encoding import Calling, ToolChatEncoder


@dataclass(frozen=True, slots=True)
class Reopened:
    """Writes what `other` writes, until the answer says how it was begun."""

    other: Encoder

    def named(self, answer: Begun) -> Encoder:
        """Return what writes an answer in the dialect that its first request spoke."""
        calling = Calling.of(answer.shape)
        if calling is not None:
            return ToolChatEncoder(Label.of(answer), calling)
        plan = Plan.of(answer.shape)
        if plan is not None:
            return ResponsesEncoder(Label.of(answer), plan)
        return self.other.named(answer)

    def whole(self, choices: list[Gathered], usage: Usage) -> bytes:
        """Return the whole answer."""
        return self.other.whole(choices, usage)

    def frames(self) -> Frames:
        """Return what writes it as a stream."""
        return self.other.frames()
