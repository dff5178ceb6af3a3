"""How requests are said to upstreams, and where those are."""

import json
from typing import Any

import pytest

from forebay.core.errors import Invalid, Overloaded
from forebay.core.request import Chat, JsonObject, JsonSchema, Message, Role, Text, TokenIds
from forebay.engine.protocol import CannotLoad, Feature
from forebay.engines.upstream_config import UpstreamConfig, addresses_of
from forebay.engines.upstream_dialect import DIALECTS, Speaker, adjusted, beginning_of
from forebay.engines.upstream_fault import Fault, Reason
from forebay.engines.upstream_models import learned
from forebay.engines.upstream_refusals import refusal
from tests.support.upstreams import wish


def body(program: str, **how: Any) -> dict[str, Any]:
    prompt = how.pop("prompt", None)
    stream = how.pop("stream", False)
    request = wish(prompt=prompt, stream=stream, **how)
    found: dict[str, Any] = json.loads(Speaker(DIALECTS[program], "m").body(request))
    return found


def test_off_is_said_where_a_server_may_have_a_default_of_its_own() -> None:
    found = body("llama-server")
    assert (found["top_k"], found["min_p"], found["temperature"]) == (-1, 0.0, 1.0)


def test_what_a_program_does_not_know_is_not_sent_to_it() -> None:
    assert body("openai", tokens_max=5) == {
        "model": "m",
        "temperature": 1.0,
        "top_p": 1.0,
        "messages": [{"role": "user", "content": "one two"}],
        "max_completion_tokens": 5,
    }


def test_every_wish_has_its_name() -> None:
    found = body(
        "vllm",
        stream=True,
        temperature=0.5,
        top_p=0.25,
        top_k=7,
        min_p=0.125,
        seed=-3,
        stop=("a", "b"),
        choices=2,
        presence_penalty=1.5,
        frequency_penalty=-1.5,
        logprobs=True,
        ignore_eos=True,
        tokens_min=2,
        tokens_max=9,
        grammar=JsonSchema(schema='{"type":"object"}'),
    )
    assert found == {
        "model": "m",
        "messages": [{"role": "user", "content": "one two"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "top_p": 0.25,
        "top_k": 7,
        "min_p": 0.125,
        "seed": -3,
        "stop": ["a", "b"],
        "n": 2,
        "presence_penalty": 1.5,
        "frequency_penalty": -1.5,
        "logprobs": True,
        "ignore_eos": True,
        "min_tokens": 2,
        "max_tokens": 9,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": {"type": "object"}},
        },
    }


def test_json_of_any_kind_is_asked_for_by_name() -> None:
    assert body("other", grammar=JsonObject())["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize(
    ("prompt", "said"), [(Text(text="x"), "x"), (TokenIds(ids=(1, 2)), [1, 2])]
)
def test_plain_prompts_go_as_they_are(prompt: Text | TokenIds, said: object) -> None:
    assert body("vllm", prompt=prompt)["prompt"] == said
    assert body("vllm", prompt=prompt, logprobs=True)["logprobs"] == 0


def test_features_are_added_and_taken_away_by_name() -> None:
    found = adjusted(frozenset({Feature.CHAT, Feature.SEED}), "+top_k, -seed")
    assert found == {Feature.CHAT, Feature.TOP_K}
    for wrong in ("top_k", "+nonsense", "-"):
        with pytest.raises(CannotLoad, match=r"upstream\.features"):
            adjusted(frozenset(), wrong)


@pytest.mark.parametrize("feature", [Feature.TOOLS, Feature.ADAPTERS])
def test_what_would_be_dropped_on_the_way_cannot_be_offered(feature: Feature) -> None:
    with pytest.raises(CannotLoad) as refusal:
        adjusted(frozenset(), f"+{feature}")
    assert f"'+{feature}' is never passed on" in str(refusal.value)
    assert f" {feature}" not in str(refusal.value).split("of:")[1]


def test_a_beginning_is_what_the_first_bytes_are() -> None:
    def chat(*texts: str) -> Chat:
        return Chat(messages=tuple(Message(role=Role.USER, content=text) for text in texts))

    assert beginning_of(chat("a" * 100, "b"), 50) == beginning_of(chat("a" * 100, "c"), 50)
    assert beginning_of(chat("a", "b"), 50) != beginning_of(chat("a", "c"), 50)
    assert beginning_of(chat("ab", "c"), 50) != beginning_of(chat("a", "bc"), 50)
    ids = beginning_of(TokenIds(ids=(1, 2, 3)), 8)
    assert ids == beginning_of(TokenIds(ids=(1, 2, 4)), 8)
    assert beginning_of(Text(text="x\ud800"), 50)


@pytest.mark.parametrize(
    ("urls", "name"),
    [
        ("http://10.0.0.7:8000/v1", "http://10.0.0.7:8000"),
        ("http://Host.example/", "http://host.example"),
        ("https://api.example.com/openai/v1/", "https://api.example.com/openai"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_an_address_is_read(urls: str, name: str) -> None:
    assert [found.name for found in addresses_of(UpstreamConfig(urls=urls))] == [name]


@pytest.mark.parametrize(
    "urls",
    [
        "",
        " , ",
        "10.0.0.7:8000",
        "ftp://x/",
        "http://",
        "http://x:99999",
        "http://x/?key=1",
        "http://x/#a",
        "http://user:pass@x/",
        "http://x/a b",
        "http://x\r\nhost: y/",
        "http://x,http://x/v1",
        ",".join(f"http://h{number}" for number in range(65)),
    ],
)
def test_what_is_no_address_is_refused_with_the_fix(urls: str) -> None:
    with pytest.raises(CannotLoad, match=r"upstream\.urls") as refusal:
        addresses_of(UpstreamConfig(urls=urls))
    assert "pass" not in str(refusal.value)


def test_a_key_that_no_header_takes_is_refused_and_not_shown() -> None:
    with pytest.raises(CannotLoad, match=r"upstream\.api_key") as refused:
        addresses_of(UpstreamConfig(urls="http://x", api_key="a\r\nhost: evil"))
    assert "evil" not in str(refused.value)


@pytest.mark.parametrize(
    ("listing", "program", "context"),
    [
        (b'{"data":[{"id":"m","owned_by":"vllm","max_model_len":4096}]}', "vllm", 4_096),
        (b'{"data":[{"id":"m","owned_by":"llamacpp","meta":{"n_ctx":512}}]}', "llama-server", 512),
        (b'{"data":[{"id":"m","owned_by":"library"}]}', "ollama", 10_000_000),
        (b'{"data":[{"id":"m","owned_by":"acme","max_model_len":-5}]}', "other", 10_000_000),
        (b'{"data":[{"id":"m"}]}', "other", 10_000_000),
    ],
)
def test_servers_say_which_program_they_are(listing: bytes, program: str, context: int) -> None:
    known = learned(UpstreamConfig(urls="http://x"), listing)
    assert (known.program, known.model, known.context_tokens_max) == (program, "m", context)
    assert known.info(upstreams=1).device == "remote"


def test_a_name_is_asked_for_where_several_are_served() -> None:
    listing = b'{"data":[{"id":"a"},{"id":"b"}]}'
    with pytest.raises(CannotLoad, match="they serve a, b"):
        learned(UpstreamConfig(urls="http://x"), listing)
    assert learned(UpstreamConfig(urls="http://x", model="b"), listing).model == "b"


def test_a_list_that_is_none_is_a_fault() -> None:
    with pytest.raises(Fault):
        learned(UpstreamConfig(urls="http://x"), b'{"data":3}')


def test_statuses_mean_what_they_mean_to_the_client() -> None:
    assert type(refusal(400, b"{}", "")) is Invalid
    limited = refusal(429, b"{}", "1e9")
    assert isinstance(limited, Overloaded)
    assert limited.retry_after_s == 3_600.0
    for status, reason in {
        401: Reason.KEY_REFUSED,
        404: Reason.NOT_FOUND,
        302: Reason.REDIRECT,
        500: Reason.FAILED,
        503: Reason.BUSY,
    }.items():
        found = refusal(status, b'{"error":{"message":"your prompt was: secret"}}', "nan")
        assert isinstance(found, Fault)
        assert found.reason is reason
        assert "secret" not in str(found)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b'{"error":{"message":"a"}}', "a"),
        (b'{"error":"b"}', "b"),
        (b'{"detail":"c"}', "c"),
        (b'{"message":"d"}', "d"),
        (b"e\x1b[2J", "e [2J"),
        (b"\xff", "\ufffd"),
        (b"", "The upstream refused the request without a reason."),
        (b'{"error":{"message":"' + b"x" * 9_999 + b'"}}', "x" * 500),
    ],
)
def test_a_refusal_is_told_in_the_upstreams_words_within_bounds(said: bytes, message: str) -> None:
    found = refusal(400, said, "")
    assert isinstance(found, Invalid)
    assert found.message == message
