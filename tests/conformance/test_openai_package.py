"""The official `openai` package as a client: it parses what we send, and maps our errors."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from forebay.core.errors import EngineError, Outcome
from forebay.core.request import (
    Delta,
    Finished,
    FinishReason,
    JsonSchema,
    Scheduled,
    TokenLogprob,
    Usage,
)
from forebay.serve.admission import AdmissionConfig
from forebay.serve.lifecycle import State
from tests.support.gateways import Stage, a_stage, hang, said
from tests.support.listening import listening

MESSAGES: Any = [{"role": "user", "content": "What is the capital of France?"}]


@asynccontextmanager
async def client_of(stage: Stage, *, strict: bool = True) -> AsyncIterator[AsyncOpenAI]:
    """Connect a client that does not try again and validates every answer strictly."""
    async with (
        listening(stage) as url,
        AsyncOpenAI(
            base_url=f"{url}/v1",
            api_key="none",
            max_retries=0,
            timeout=10,
            _strict_response_validation=strict,
        ) as client,
    ):
        yield client


async def test_a_whole_chat() -> None:
    async with client_of(a_stage(said("Par", "is"))) as client:
        answer = await client.chat.completions.create(model="m", messages=MESSAGES)
    assert answer.choices[0].message.content == "Paris"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 7
    assert answer._request_id == answer.id.removeprefix("chatcmpl-")


async def test_embeddings_which_the_package_asks_for_as_base64() -> None:
    vector = struct.pack("<3f", 0.5, -0.25, 1.0)
    stage = a_stage([Scheduled(4), Finished(Usage(4, 0), embedding=vector)])
    # Strictly, the package refuses its own base64: it checks for numbers before it decodes.
    async with client_of(stage, strict=False) as client:
        answer = await client.embeddings.create(model="m", input=["a town", "a city"])
        plain = await client.embeddings.create(model="m", input="a town", encoding_format="float")
        with pytest.raises(openai.BadRequestError) as refusal:
            await client.embeddings.create(model="m", input=["a", ""], dimensions=3)
    assert [(one.index, one.embedding) for one in answer.data] == [
        (0, [0.5, -0.25, 1.0]),
        (1, [0.5, -0.25, 1.0]),
    ]
    assert plain.data[0].embedding == [0.5, -0.25, 1.0]
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (8, 8)
    assert refusal.value.param == "dimensions"


async def test_a_streamed_chat_with_usage() -> None:
    async with client_of(a_stage(said("Par", "is"))) as client:
        stream = await client.chat.completions.create(
            model="m", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    texts = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(texts) == "Paris"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.finish_reason for chunk in chunks for c in chunk.choices][-1] == "stop"
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 2
    assert len({chunk.id for chunk in chunks}) == 1


async def test_the_packages_own_stream_helper_puts_an_answer_together() -> None:
    acts = [
        Scheduled(3),
        Delta("a", choice=0),
        Delta("x", choice=1),
        Delta("b", 1, 0, FinishReason.STOP),
        Delta("y", 1, 1, FinishReason.STOP),
        Finished(Usage(3, 4)),
    ]
    async with (
        client_of(a_stage(acts)) as client,
        client.chat.completions.stream(model="m", messages=MESSAGES, n=2) as stream,
    ):
        async for _ in stream:
            pass
        answer = await stream.get_final_completion()
    found = [(choice.message.content, choice.finish_reason) for choice in answer.choices]
    assert found == [("ab", "stop"), ("xy", "stop")]


async def test_log_probabilities() -> None:
    odds = (TokenLogprob("é", "é".encode(), -0.5),)
    acts = [Delta("é", 1, 0, FinishReason.STOP, odds), Finished(Usage(1, 1))]
    async with client_of(a_stage(acts)) as client:
        whole = await client.chat.completions.create(model="m", messages=MESSAGES, logprobs=True)
        stream = await client.chat.completions.create(
            model="m", messages=MESSAGES, logprobs=True, stream=True
        )
        chunks = [chunk async for chunk in stream]
    streamed = [choice.logprobs for chunk in chunks for choice in chunk.choices if choice.logprobs]
    for found in (whole.choices[0].logprobs, streamed[0]):
        assert found is not None
        assert found.content is not None
        assert (found.content[0].token, found.content[0].logprob) == ("é", -0.5)
        assert bytes(found.content[0].bytes or []).decode() == "é"


async def test_completions_whole_and_streamed() -> None:
    stage = a_stage(said("a", "b"))
    # Not strictly: the package's type has no null for a finish reason, OpenAI's streams do.
    async with client_of(stage, strict=False) as client:
        whole = await client.completions.create(model="m", prompt="x", stop=["q"], logprobs=0)
        stream = await client.completions.create(
            model="m", prompt=[1, 2], stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert whole.choices[0].text == "ab"
    assert stage.engine.asked[0].sampling.stop == ("q",)
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == "ab"
    assert chunks[-1].usage is not None
    assert chunks[-1].choices == []


async def test_extensions_travel_in_the_extra_body() -> None:
    stage = a_stage()
    async with client_of(stage) as client:
        await client.chat.completions.create(
            model="m",
            messages=MESSAGES,
            max_tokens=4,
            extra_body={"ignore_eos": True, "min_tokens": 4, "top_k": 3},
        )
    sampling = stage.engine.asked[0].sampling
    assert (sampling.ignore_eos, sampling.tokens_min, sampling.top_k) == (True, 4, 3)


async def test_a_json_schema_from_the_packages_parse_helper() -> None:
    stage = a_stage(said('{"city": "Paris"}'))
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    }
    async with client_of(stage) as client:
        answer = await client.chat.completions.create(
            model="m",
            messages=MESSAGES,
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "place", "schema": schema, "strict": True},
            },
        )
    assert answer.choices[0].message.content == '{"city": "Paris"}'
    grammar = stage.engine.asked[0].sampling.grammar
    assert isinstance(grammar, JsonSchema)
    assert '"city"' in grammar.schema


async def test_models() -> None:
    async with client_of(a_stage()) as client:
        names = [model.id async for model in client.models.list()]
        model = await client.models.retrieve("m")
        with pytest.raises(openai.NotFoundError) as missing:
            await client.models.retrieve("other")
    assert names == ["m"]
    assert model.owned_by == "forebay"
    assert missing.value.code == "model_not_found"


async def test_a_bad_parameter_is_a_bad_request_error() -> None:
    async with client_of(a_stage()) as client:
        with pytest.raises(openai.BadRequestError) as refusal:
            await client.chat.completions.create(model="m", messages=MESSAGES, temperature=9)
    assert refusal.value.param == "temperature"
    assert refusal.value.code == "invalid_request"
    assert refusal.value.type == "invalid_request_error"
    assert refusal.value.request_id


async def test_an_unknown_model_is_a_not_found_error() -> None:
    async with client_of(a_stage()) as client:
        with pytest.raises(openai.NotFoundError) as refusal:
            await client.chat.completions.create(model="gpt-9", messages=MESSAGES)
    assert refusal.value.code == "model_not_found"


async def test_draining_is_an_api_status_error_with_advice() -> None:
    async with client_of(a_stage(state=State.DRAINING)) as client:
        with pytest.raises(openai.APIStatusError) as refusal:
            await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    assert refusal.value.status_code == 503
    assert refusal.value.code == "draining"
    assert refusal.value.response.headers["retry-after"] == "2"


async def test_an_error_in_mid_stream_is_raised_by_the_package() -> None:
    acts = [Delta("a"), EngineError("The engine was lost.")]
    async with client_of(a_stage(acts)) as client:
        stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError, match=r"The engine was lost\."):
            async for _ in stream:
                pass


async def test_the_package_tries_again_after_an_overload() -> None:
    stage = a_stage([hang], admission=AdmissionConfig(running_max=1, waiting_max=0, wait_s_max=0.1))
    async with client_of(stage) as client:
        first = asyncio.create_task(
            client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        )
        while not stage.engine.held:
            await asyncio.sleep(0.001)
        stage.engine.acts = said("done")
        retrying = client.with_options(max_retries=3)
        second = asyncio.create_task(retrying.chat.completions.create(model="m", messages=MESSAGES))
        while not stage.records:
            await asyncio.sleep(0.001)
        first.cancel()
        answer = await second
    assert answer.choices[0].message.content == "done"
    assert stage.records[0].outcome is Outcome.OVERLOADED


async def test_a_client_that_breaks_off_frees_the_engine() -> None:
    stage = a_stage([Scheduled(1), Delta("a"), hang])
    async with client_of(stage) as client:
        stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        async for _ in stream:
            break
        await stream.close()
        async with asyncio.timeout(2):
            while stage.engine.held or not stage.records:
                await asyncio.sleep(0.001)
    assert stage.record.outcome is Outcome.CANCELLED


async def test_the_synchronous_client() -> None:
    def converse(url: str) -> tuple[str | None, str]:
        with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            whole = client.chat.completions.create(model="m", messages=MESSAGES)
            stream = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
            with stream:
                texts = [choice.delta.content or "" for chunk in stream for choice in chunk.choices]
        return whole.choices[0].message.content, "".join(texts)

    async with listening(a_stage(said("Par", "is"))) as url:
        assert await asyncio.to_thread(converse, url) == ("Paris", "Paris")
