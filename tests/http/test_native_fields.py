"""What `/generate` and its kin take: each field honoured, refused by name, or warned of."""

from typing import Any

import pytest

from forebay.core.request import Chat, Role, Route, Text
from forebay.engine.protocol import Feature
from forebay.gateway.config import GatewayConfig
from forebay.gateway.native_parameters import NATIVE
from tests.support.gateways import a_stage
from tests.support.native import EVERY, SINGLE, post


@pytest.mark.parametrize("path", EVERY)
async def test_a_prompt_is_a_users_turn_unless_it_is_raw(path: str) -> None:
    stage = a_stage()
    await post(stage, path)
    await post(stage, path, raw=True)
    turn, text = (request.prompt for request in stage.engine.asked)
    assert isinstance(turn, Chat)
    assert [(m.role, m.content) for m in turn.messages] == [(Role.USER, "hello")]
    assert text == Text(text="hello")


@pytest.mark.parametrize(
    ("given", "knob", "lacking", "raw"),
    [
        (None, "raw", None, True),
        (False, "raw", None, False),
        (None, "chat", Feature.CHAT, True),
        (None, "raw", Feature.TEXT, False),
    ],
)
async def test_what_a_prompt_is_depends_on_the_client_then_the_knob_then_the_model(
    given: bool | None, knob: str, lacking: Feature | None, raw: bool
) -> None:
    stage = a_stage(
        supports=frozenset(Feature) - {lacking}, config=GatewayConfig(generate_prompts=knob)
    )
    await post(stage, "/generate", raw=given)
    assert isinstance(stage.engine.asked[0].prompt, Text) is raw


@pytest.mark.parametrize(
    ("raw", "lacking"), [(True, Feature.TEXT), (False, Feature.CHAT)], ids=["raw", "chat"]
)
async def test_what_a_model_cannot_take_is_refused_by_name(raw: bool, lacking: Feature) -> None:
    stage = a_stage(supports=frozenset(Feature) - {lacking})
    answer = await post(stage, "/generate", raw=raw)
    assert (answer.status, answer.json["param"]) == (400, "raw")


@pytest.mark.parametrize("name", ["max_new_tokens", "max_tokens"])
@pytest.mark.parametrize("path", EVERY)
async def test_tokens_have_two_names_everywhere(path: str, name: str) -> None:
    stage = a_stage()
    await post(stage, path, **{name: 17})
    assert stage.engine.asked[0].sampling.tokens_max == 17


@pytest.mark.parametrize(("least", "tokens"), [(None, 99), (120, 120)])
async def test_without_a_number_the_configured_tokens_are_made(
    least: int | None, tokens: int
) -> None:
    stage = a_stage(config=GatewayConfig(generate_tokens=99))
    await post(stage, "/generate", min_tokens=least)
    assert stage.engine.asked[0].sampling.tokens_max == tokens


async def test_the_configured_tokens_are_no_more_than_the_context() -> None:
    stage = a_stage(config=GatewayConfig(generate_tokens=5_000))
    await post(stage, "/generate")
    assert stage.engine.asked[0].sampling.tokens_max == 1_000


async def test_do_sample_false_is_greedy_and_names_what_it_switches_off() -> None:
    stage = a_stage()
    answer = await post(
        stage, "/generate", do_sample=False, temperature=0.7, top_p=0.9, top_k=0, seed=4
    )
    sampling = stage.engine.asked[0].sampling
    assert (sampling.temperature, sampling.top_p) == (0.0, 1.0)
    assert answer.headers["x-forebay-warning"] == "temperature, top_p"
    assert stage.engine.asked[0].repeatable


async def test_do_sample_true_samples_also_where_a_model_is_greedy_by_default() -> None:
    stage = a_stage()
    await post(stage, "/generate", do_sample=True)
    await post(stage, "/generate", do_sample=True, temperature=0.7, top_p=0.9)
    first, second = (request.sampling for request in stage.engine.asked)
    assert first.temperature == 1.0
    assert (second.temperature, second.top_p) == (0.7, 0.9)


async def test_everything_that_is_honoured_reaches_the_engine() -> None:
    stage = a_stage()
    await post(
        stage,
        "/generate",
        min_tokens=2,
        temperature=0.5,
        top_p=0.4,
        top_k=3,
        min_p=0.1,
        seed=-7,
        stop=["a", "b"],
        presence_penalty=1.5,
        frequency_penalty=-2,
        ignore_eos=True,
    )
    sampling = stage.engine.asked[0].sampling
    assert (sampling.tokens_min, sampling.temperature, sampling.top_p) == (2, 0.5, 0.4)
    assert (sampling.top_k, sampling.min_p, sampling.seed) == (3, 0.1, -7)
    assert sampling.stop == ("a", "b")
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (1.5, -2.0)
    assert sampling.ignore_eos


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown": ({"max_length": 5}, "max_length", "no such parameter"),
    "misspelt": ({"max_new_token": 5}, "max_new_token", "Did you mean max_new_tokens?"),
    "OpenAI's": ({"n": 2}, "n", "no such parameter"),
    "prompt missing": ({"prompt": None}, "prompt", "send a text|expected a string"),
    "prompt empty": ({"prompt": ""}, "prompt", "empty"),
    "prompt no text": ({"prompt": 7}, "prompt", "expected a string"),
    "tokens differ": ({"max_new_tokens": 5, "max_tokens": 6}, "max_new_tokens", "differs"),
    "too many tokens": ({"max_new_tokens": 1_001}, "max_new_tokens", "context, 1000"),
    "too many by its other name": ({"max_tokens": 1_001}, "max_tokens", "context, 1000"),
    "no tokens": ({"max_tokens": 0}, "max_tokens", ">= 1"),
    "too few tokens": ({"max_tokens": 1, "min_tokens": 2}, "min_tokens", "more than max_tokens"),
    "temperature": ({"temperature": 3}, "temperature", "<= 2"),
    "contradiction": ({"do_sample": True, "temperature": 0}, "do_sample", "Send one"),
    "do_sample": ({"do_sample": 1}, "do_sample", "true or false"),
    "raw": ({"raw": "yes"}, "raw", "true or false"),
}


@pytest.mark.parametrize("path", SINGLE)
@pytest.mark.parametrize("row", REFUSED, ids=list(REFUSED))
async def test_what_cannot_be_honoured_is_refused_by_name(path: str, row: str) -> None:
    fields, param, words = REFUSED[row]
    stage = a_stage()
    answer = await post(stage, path, **fields)
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["param"] == param
    assert any(word in answer.json["detail"] for word in words.split("|"))
    assert stage.engine.asked == []
    assert stage.record.route is Route(path[1:])
    assert stage.ledger.imbalance == 0


@pytest.mark.parametrize("path", ["/generate", "/generate_batch", "/infer"])
async def test_a_stream_is_asked_for_by_its_path(path: str) -> None:
    answer = await post(a_stage(), path, stream=True)
    assert (answer.status, answer.json["param"]) == (400, "stream")
    assert "/generate_stream" in answer.json["detail"]
    assert (await post(a_stage(), path, stream=False)).status == 200


async def test_a_streaming_path_only_streams() -> None:
    answer = await post(a_stage(), "/generate_stream", stream=False)
    assert (answer.status, answer.json["param"]) == (400, "stream")
    assert (await post(a_stage(), "/generate_stream", stream=True)).status == 200


async def test_what_the_engine_cannot_do_is_refused_by_name() -> None:
    stage = a_stage(supports=frozenset(Feature) - {Feature.TOP_K})
    answer = await post(stage, "/generate", top_k=5)
    assert (answer.status, answer.json["param"]) == (400, "top_k")
    assert (await post(stage, "/generate", top_k=5, do_sample=False)).status == 200


@pytest.mark.parametrize("path", EVERY)
async def test_another_method_is_told_which_one(path: str) -> None:
    answer = await a_stage().get(path)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


async def test_capabilities_tell_what_these_paths_honour_and_their_bounds() -> None:
    stage = a_stage(
        supports=frozenset(Feature) - {Feature.TOP_K},
        config=GatewayConfig(batch_prompts_max=7, prompt_bytes_max=99),
    )
    endpoints = (await stage.get("/v1/capabilities")).json["models"]["m"]["endpoints"]
    assert set(NATIVE) < set(endpoints)
    assert endpoints["/generate"]["top_k"]["verdict"] == "refused"
    assert endpoints["/generate"]["stream"]["verdict"] == "refused"
    assert endpoints["/generate_stream"]["stream"]["verdict"] == "honoured"
    assert endpoints["/infer"]["max_new_tokens"]["bounds"] == {"minimum": 1, "maximum": 1_000}
    assert endpoints["/infer"]["prompt"]["bounds"] == {"bytes_max": 99}
    found = endpoints["/generate_batch"]["prompts"]["bounds"]
    assert found == {"prompts_max": 7, "bytes_max": 99}


@pytest.mark.parametrize("path", NATIVE)
def test_every_field_has_its_row(path: str) -> None:
    call, table = NATIVE[path]
    assert sorted(row.name for row in table) == sorted(call.__struct_fields__)
