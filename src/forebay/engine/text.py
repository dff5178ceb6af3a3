"""A real model's text rules: chat template, vocabulary, control tokens, detokenizing.

Used in the worker only.  `tokenizers` and Jinja are imported when a model is loaded.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from forebay.core.request import Message, Role, TokenId
from forebay.core.tooling import Tooling
from forebay.engine.control_tokens import ControlToken, ControlTokens, separator_for
from forebay.engine.detokenizing import (
    ByteDetokenizer,
    TokenBytes,
    WindowDetokenizer,
    is_byte_level,
)
from forebay.engine.manifest import ArtefactError, Manifest, read_manifest
from forebay.engine.protocol import Detokenizer, Feature, Refused
from forebay.engine.tool_rendering import can_call, tool_shapes
from forebay.engine.vocabulary import Vocabulary, read_template, read_vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Library

    from forebay.engine.chat_template import ChatTemplate


class ModelTokenizer:
    """The `Tokenizer` of a prepared model.  Mutable state: the library's parsing flag."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        template: "ChatTemplate | None",
        manifest: Manifest,
    ) -> None:
        """Put the parts together; `load` is the usual way."""
        self._library = vocabulary.library
        self._template = template
        self._tokens_max = manifest.context_tokens_max
        self._controls, self._strict = _controls(vocabulary)
        self._control_ids = self._controls.ids
        self._hidden = self._strict.ids
        self._bytes = TokenBytes(self._library, self._hidden)
        self._by_bytes = is_byte_level(self._library)
        self._prefix = _text_prefix(self._library, manifest)
        self._variables = {
            "add_generation_prompt": True,
            "bos_token": self._literal(manifest.bos_token_id),
            "eos_token": self._literal(next(iter(manifest.eos_token_ids), None)),
            "tools": None,
            "documents": None,
        }

    @classmethod
    def load(cls, folder: Path) -> "ModelTokenizer":
        """Read the text rules of a prepared model; raise ArtefactError if they cannot be used.

        Prompts far longer than the model's context are refused after a part has been encoded.
        """
        from forebay.engine.chat_template import ChatTemplate, TemplateFault  # noqa: PLC0415 - heavy

        source = read_template(folder)
        try:
            template = None if source is None else ChatTemplate(source)
        except TemplateFault as error:
            raise ArtefactError(
                f"The model's chat template cannot be used: {error}. Mend or remove the file "
                "chat_template.jinja in the source and prepare the model again."
            ) from error
        return cls(read_vocabulary(folder, source or ""), template, read_manifest(folder))

    @property
    def chats(self) -> bool:
        """Whether the model has a chat template."""
        return self._template is not None

    @property
    def features(self) -> frozenset[Feature]:
        """What the model's text rules add to what an engine can do."""
        if self._template is None:
            return frozenset()
        tools = {Feature.TOOLS} if can_call(self._template.source) else set()
        return frozenset({Feature.CHAT} | tools)

    def chat(self, messages: Sequence[Message], tooling: Tooling | None = None) -> list[TokenId]:
        """Render a conversation and encode it; control tokens in contents arrive as text.

        Where no content holds a control token, the ids are those of the library for the same
        text.  Raises Refused for what the template does not accept.
        """
        if self._template is None:
            raise Refused(
                "messages: this model has no chat template. Use /v1/completions.", param="messages"
            )
        marked, separator = self._rendered(self._template, messages, tooling)
        clean = marked.replace(separator, "")
        self._refuse_too_long(clean, "messages")
        pieces = _pieces(self._controls, marked, separator)
        if pieces == _pieces(self._controls, clean, separator):
            ids = self._encode(clean, "messages")
            wanted = [piece.id for piece in pieces if isinstance(piece, ControlToken)]
            if [id for id in ids if id in self._control_ids] == wanted:
                return ids
        return self._encode_pieces(pieces)

    def encode(self, text: str) -> list[TokenId]:
        """Encode plain text; control tokens in it arrive as text."""
        self._refuse_too_long(text, "prompt")
        return self._prefix + self._encode_as_text(text, "prompt")

    def detokenizer(self) -> Detokenizer:
        """Return a fresh detokenizer for one sequence; special tokens make no text."""
        if self._by_bytes:
            return ByteDetokenizer(self._bytes)
        return WindowDetokenizer(self._library, self._hidden)

    def token_bytes(self, token_id: TokenId) -> bytes:
        """Return the bytes that one token adds to the text; none for a special token."""
        return self._bytes[token_id]

    def _rendered(
        self, template: "ChatTemplate", messages: Sequence[Message], tooling: Tooling | None
    ) -> tuple[str, str]:
        """Return the prompt with separators inside what may not become control tokens."""
        shapes = None if tooling is None else tool_shapes(tooling, template.source)
        contents = [message.content for message in messages]
        if shapes is not None:
            contents += shapes.texts()
        separator = separator_for(contents)
        if separator is None or any(map(self._controls.unbreakable, contents)):
            raise Refused(
                "messages: a content holds characters that are reserved. "
                "Remove Unicode noncharacters (U+FDD0 to U+FDEF) and single control tokens.",
                param="messages",
            )
        marked = [
            Message(role=message.role, content=self._marked(message, separator))
            for message in messages
        ]
        if shapes is not None:
            shapes = shapes.marked(partial(self._controls.mark, separator=separator))
        return template.render(marked, self._variables, shapes), separator

    def _marked(self, message: Message, separator: str) -> str:
        # The model's own earlier turns may hold markup that the template has to read, such as
        # <think>; never a special token.
        own = message.role is Role.ASSISTANT
        controls = self._strict if own else self._controls
        return controls.mark(message.content, separator)

    def _literal(self, token_id: TokenId | None) -> str:
        literal = None if token_id is None else self._library.id_to_token(token_id)
        return literal or ""

    def _encode_pieces(self, pieces: Iterable[str | ControlToken]) -> list[TokenId]:
        ids: list[TokenId] = []
        for piece in pieces:
            if isinstance(piece, ControlToken):
                ids.append(piece.id)
            else:
                ids += self._encode_as_text(piece, "messages")
        return ids

    def _encode_as_text(self, text: str, param: str) -> list[TokenId]:
        """Encode with control tokens as text, whatever the vocabulary would make of them."""
        ids = self._encode(text, param, as_text=True)
        if self._control_ids.isdisjoint(ids):
            return ids
        broken = [self._encode(part, param, as_text=True) for part in self._controls.broken(text)]
        ids = [id for part in broken for id in part]
        if self._control_ids.isdisjoint(ids):
            return ids
        raise Refused(f"{param}: it holds text that only a control token can write.", param=param)

    def _encode(self, text: str, param: str, *, as_text: bool = False) -> list[TokenId]:
        library = self._library
        library.encode_special_tokens = as_text
        try:
            return library.encode(text, add_special_tokens=False).ids
        except (TypeError, UnicodeEncodeError) as error:  # the library says: not a str
            raise Refused(
                f"{param}: it holds half of a surrogate pair, which no text can.", param=param
            ) from error

    def _refuse_too_long(self, text: str, param: str) -> None:
        """Refuse what cannot fit before all of it is encoded: the loop stands still meanwhile."""
        part = 8 * self._tokens_max
        while part < len(text):
            # Cutting a word can change a few tokens at the cut; twice is beyond doubt.
            if len(self._encode(text[:part], param, as_text=True)) > 2 * self._tokens_max:
                raise Refused(
                    f"{param}: the prompt has more than {2 * self._tokens_max} tokens; the model "
                    f"takes {self._tokens_max}. Shorten it.",
                    param=param,
                )
            part *= 2


def _pieces(controls: ControlTokens, text: str, separator: str) -> list[str | ControlToken]:
    cut = controls.split(text)
    cleaned = (p.replace(separator, "") if isinstance(p, str) else p for p in cut)
    return [piece for piece in cleaned if piece != ""]


def _controls(vocabulary: Vocabulary) -> tuple[ControlTokens, ControlTokens]:
    """Return what a person may not write, and the part that a model may not write either.

    Special tokens, and added tokens that the template uses for its structure; other added
    tokens (runs of spaces, HTML tags) are ordinary vocabulary.
    """
    added = vocabulary.library.get_added_tokens_decoder().items()
    found = [
        ControlToken(
            id=id,
            literal=token.content,
            lstrip=token.lstrip,
            rstrip=token.rstrip,
            single_word=token.single_word,
        )
        for id, token in added
        if token.special
    ]
    strict = [token for token in found if token.literal not in vocabulary.markup]
    return ControlTokens(found), ControlTokens(strict)


def _text_prefix(library: "Library", manifest: Manifest) -> list[TokenId]:
    """Return what plain text begins with: BOS, where the model's own rules add it."""
    if manifest.bos_token_id is None:
        return []
    bos = [manifest.bos_token_id]
    return bos if manifest.add_bos or library.encode("").ids[:1] == bos else []
