"""From a request to sequences: its prompt in tokens, checked against what the engine holds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, assert_never

from forebay.core.request import Sampling, TokenId
from forebay.engine.protocol import EngineInfo, Feature, Refused, Tokenizer
from forebay.engine.wire import (
    ChatPrompt,
    Submit,
    TextPrompt,
    TokensPrompt,
    WirePrompt,
    WireSampling,
    unpack_sampling,
)

SEED_MAX: Final = 2**63 - 1
"""Seeds are kept within 63 bits, as engines take them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taking:
    """A request that fits: its prompt, and how each of its choices is sampled."""

    prompt_token_ids: Sequence[TokenId]
    choices: Sequence[Sampling]


@dataclass(frozen=True, slots=True)
class Intake:
    """What an engine can take in.  Raises Refused, with numbers, for what it cannot."""

    info: EngineInfo
    tokenizer: Tokenizer

    def take(self, submit: Submit, seed: int) -> Taking:
        """Tokenize and check a request; `seed` is used if it brings none of its own."""
        sampling = submit.sampling
        token_ids = self._tokenize(submit.prompt)
        if sampling.embed:
            self._check_embedded(len(token_ids))
            alone = unpack_sampling(sampling, tokens_max=0, seed=0)
            return Taking(prompt_token_ids=token_ids, choices=[alone])
        tokens_max = self._tokens_max(len(token_ids), sampling, param_of(submit.prompt))
        first = seed if sampling.seed is None else sampling.seed
        choices = [
            unpack_sampling(sampling, tokens_max=tokens_max, seed=(first + index) & SEED_MAX)
            for index in range(sampling.choices)
        ]
        return Taking(prompt_token_ids=token_ids, choices=choices)

    def _tokenize(self, prompt: WirePrompt) -> Sequence[TokenId]:
        match prompt:
            case ChatPrompt(messages, tooling):
                chat = self.tokenizer.chat
                return chat(messages) if tooling is None else chat(messages, tooling)
            case TextPrompt(text):
                return self.tokenizer.encode(text)
            case TokensPrompt(ids):
                self._check_ids(ids)
                return ids
            case _:
                assert_never(prompt)

    def _check_ids(self, ids: Sequence[TokenId]) -> None:
        size = self.info.vocabulary_size
        if ids and (min(ids) < 0 or (size and max(ids) >= size)):
            allowed = f"from 0 to {size - 1}" if size else "0 or more"
            raise Refused(f"prompt: token ids are {allowed}.", param="prompt")

    def _check_embedded(self, tokens: int) -> None:
        """Refuse an input that becomes no vector."""
        if Feature.EMBEDDINGS not in self.info.supports:
            raise Refused(f"model: the engine {self.info.name} makes no embeddings.", param="model")
        limit, what = self._limit()
        if not tokens:
            raise Refused("input: it makes no tokens; say something.", param="input")
        if tokens > limit:
            message = f"input: it has {tokens} tokens; {what} holds {limit}: shorten or divide it."
            raise Refused(message, param="input")

    def _tokens_max(self, prompt_tokens: int, sampling: WireSampling, param: str) -> int:
        """Return how many tokens each choice may make."""
        limit, what = self._limit()
        left = limit - prompt_tokens
        if not prompt_tokens:
            raise Refused(f"{param}: it makes no tokens; say something.", param=param)
        if left < 1:
            found = f"{param}: the prompt has {prompt_tokens} tokens"
            room = "leave room for at least one more."
            raise Refused(f"{found}; {what} holds {limit}: shorten it, and {room}", param=param)
        asked = left if sampling.tokens_max is None else sampling.tokens_max
        if asked > left:
            found = f"max_tokens: {asked} are asked for, and the prompt has {prompt_tokens} tokens"
            raise Refused(f"{found}; {what} holds {limit}: at most {left}.", param="max_tokens")
        if sampling.tokens_min > asked:
            found = f"min_tokens: {sampling.tokens_min} are asked for"
            raise Refused(f"{found}; at most {asked} can be made.", param="min_tokens")
        return asked

    def _limit(self) -> tuple[int, str]:
        context, kv = self.info.context_tokens_max, self.info.kv_tokens_max
        if kv and kv < context:
            return kv, "the memory set aside for one sequence"
        return context, "the model's context"


def left_of(sampling: Sampling, tokens_made: int) -> Sampling:
    """Return how the rest of a choice is sampled, of which so many tokens are made."""
    assert sampling.tokens_max is not None, "an intake sets it"
    return replace(
        sampling,
        tokens_max=max(0, sampling.tokens_max - tokens_made),
        tokens_min=max(0, sampling.tokens_min - tokens_made),
    )


def param_of(prompt: WirePrompt) -> str:
    """Return the name of the field that a prompt came in."""
    return "messages" if isinstance(prompt, ChatPrompt) else "prompt"
