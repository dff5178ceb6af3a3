"""What `/generate` and its kin may ask, typed.  What happens to each field: `native_parameters.py`.

A field that is not here does not exist and is refused by name.
"""

from typing import Annotated

from msgspec import Meta, Raw, Struct

from forebay.gateway.schemas import (
    MinP,
    ModelName,
    Penalty,
    Seed,
    Temperature,
    Tokens,
    TokensMin,
    TopK,
    TopP,
)

Prompts = Annotated[list[Raw], Meta(extra_json_schema={"items": {"type": "string"}})]
"""Texts; each is read on its own, so that one that is none does not fail the others."""


class Generation(Struct, forbid_unknown_fields=True, kw_only=True):
    """How tokens are chosen and when they end: what all these routes have."""

    do_sample: bool | None = None
    frequency_penalty: Penalty | None = None
    ignore_eos: bool | None = None
    max_new_tokens: Tokens | None = None
    max_tokens: Tokens | None = None
    min_p: MinP | None = None
    min_tokens: TokensMin | None = None
    presence_penalty: Penalty | None = None
    raw: bool | None = None
    seed: Seed | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    temperature: Temperature | None = None
    top_k: TopK | None = None
    top_p: TopP | None = None


class GenerateCall(Generation, kw_only=True):
    """`POST /generate`: one prompt, or several."""

    model: ModelName | None = None
    prompt: str | None = None
    prompts: Prompts | None = None


class StreamCall(Generation, kw_only=True):
    """`POST /generate_stream`."""

    model: ModelName | None = None
    prompt: str


class BatchCall(Generation, kw_only=True):
    """`POST /generate_batch`."""

    model: ModelName | None = None
    prompts: Prompts


class InferCall(Generation, kw_only=True):
    """`POST /infer`."""

    adapter_version: ModelName | None = None
    base_model: ModelName | None = None
    prompt: str


NativeCall = GenerateCall | StreamCall | BatchCall | InferCall
