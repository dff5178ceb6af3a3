"""A typed call of `/v1/embeddings` -> one prompt per input, or an error that names the input."""

from collections.abc import Sequence
from typing import Final

from msgspec import structs

from forebay.core.errors import Invalid
from forebay.core.request import Prompt, Text, TokenIds
from forebay.engine.protocol import EngineInfo, Feature
from forebay.gateway.config import GatewayConfig
from forebay.gateway.embeddings_parameters import EMBEDDINGS
from forebay.gateway.embeddings_schemas import EmbeddingsCall
from forebay.gateway.parameters import Rows
from forebay.gateway.reading import shown

_ROWS: Final = Rows(EmbeddingsCall, EMBEDDINGS, frozenset(Feature))
_FORMATS: Final = ("float", "base64")


def check(call: EmbeddingsCall, info: EngineInfo) -> list[str]:
    """Return the names that have no effect; raises Invalid for what cannot be honoured."""
    if call.encoding_format not in {None, *_FORMATS}:
        found = shown(call.encoding_format or "")
        message = f"encoding_format: expected float or base64, found '{found}'."
        raise Invalid(message, param="encoding_format")
    if info.embedding_size and call.dimensions == info.embedding_size:
        call = structs.replace(call, dimensions=None)
    return _ROWS.judge(call)


class Inputs:
    """Reads the inputs of calls for one engine, within one configuration."""

    def __init__(self, config: GatewayConfig, info: EngineInfo) -> None:
        """Check against the bounds of `config` and the abilities in `info`."""
        self._config = config
        self._info = info

    def prompts(self, call: EmbeddingsCall) -> list[tuple[str, Prompt]]:
        """Return each input, with the name of where it stands; raises Invalid."""
        match call.input:
            case str() as text:
                return [("input", self._text(text, "input"))]
            case []:
                raise Invalid("input: empty; send at least one text.", param="input")
            case [int(), *_] as ids:
                return [("input", self._ids(ids, "input"))]
            case several:
                pass
        limit = self._config.embedding_inputs_max
        if len(several) > limit:
            message = f"input: {len(several)} inputs, at most {limit} are taken at once"
            raise Invalid(f"{message}; send several calls.", param="input", status=413)
        named = [(f"input[{index}]", one) for index, one in enumerate(several)]
        return [(where, self._prompt(one, where)) for where, one in named]

    def _prompt(self, one: str | int | list[int], where: str) -> Prompt:
        match one:
            case str():
                return self._text(one, where)
            case list():
                return self._ids(one, where)
        message = f"{where}: a token id among texts; send texts, or arrays of token ids."
        raise Invalid(message, param=where)

    def _text(self, text: str, where: str) -> Text:
        if not text:
            raise Invalid(f"{where}: empty; send a text.", param=where)
        size, limit = len(text.encode()), self._config.prompt_bytes_max
        if size > limit:
            message = f"{where}: {size} bytes of text, at most {limit} are taken."
            raise Invalid(message, param=where)
        return Text(text=text)

    def _ids(self, values: Sequence[str | int | list[int]], where: str) -> TokenIds:
        info = self._info
        if Feature.TOKEN_IDS not in info.supports:
            raise Invalid(f"{where}: this model takes no token ids; send a text.", param=where)
        ids = tuple(value for value in values if isinstance(value, int))
        if not ids or len(ids) != len(values):
            message = f"{where}: expected an array of token ids, and nothing else."
            raise Invalid(message, param=where)
        if len(ids) > info.context_tokens_max:
            found, limit = len(ids), info.context_tokens_max
            message = f"{where}: {found} token ids, the model's context holds {limit}."
            raise Invalid(message, param=where)
        size = info.vocabulary_size
        if min(ids) < 0 or (size and max(ids) >= size):
            bound = f"from 0 to {size - 1}" if size else "0 or more"
            raise Invalid(f"{where}: token ids are {bound}.", param=where)
        return TokenIds(ids=ids)
