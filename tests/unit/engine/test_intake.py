"""What an engine cannot hold is refused with the field and the numbers."""

from dataclasses import replace

import pytest

from forebay.core.request import Prompt, Sampling, Text, TokenIds
from forebay.engine.intake import Intake, Taking
from forebay.engine.protocol import Feature, Refused
from forebay.engine.wire import Submit, pack_prompt, pack_sampling
from tests.support.requests import a_chat
from tests.support.step_engines import PuppetStepEngine


def take(prompt: Prompt, *, kv_tokens_max: int = 0, seed: int = 5, **how: object) -> Taking:
    engine = PuppetStepEngine(context_tokens_max=100, kv_tokens_max=kv_tokens_max)
    sampling = pack_sampling(Sampling(**how))  # type: ignore[arg-type]  # real fields
    submit = Submit(1, pack_prompt(prompt), sampling, stream=True, time_left_s=1.0)
    return Intake(engine.info, engine.tokenizer).take(submit, seed)


def take_embedded(text: str, features: frozenset[Feature]) -> Taking:
    engine = PuppetStepEngine(context_tokens_max=100)
    sampling = pack_sampling(Sampling(embed=True, tokens_max=0))
    submit = Submit(1, pack_prompt(Text(text=text)), sampling, stream=False, time_left_s=1.0)
    return Intake(replace(engine.info, supports=features), engine.tokenizer).take(submit, 5)


def refusal(prompt: Prompt, **how: object) -> tuple[str | None, str]:
    with pytest.raises(Refused) as caught:
        take(prompt, **how)  # type: ignore[arg-type]  # as above
    return caught.value.param, caught.value.message


def test_no_limit_means_what_the_context_leaves() -> None:
    assert take(Text(text="x" * 30)).choices[0].tokens_max == 70


def test_no_limit_means_what_the_memory_leaves_if_that_is_less() -> None:
    assert take(Text(text="x" * 30), kv_tokens_max=64).choices[0].tokens_max == 34


def test_a_prompt_that_leaves_no_room_is_refused_by_its_field() -> None:
    param, message = refusal(Text(text="x" * 100))
    assert param == "prompt"
    assert "100" in message
    assert refusal(a_chat("x" * 200))[0] == "messages"


def test_a_prompt_that_leaves_room_for_one_token_is_taken() -> None:
    assert take(Text(text="x" * 99)).choices[0].tokens_max == 1


def test_a_limit_that_does_not_fit_is_refused_with_the_numbers() -> None:
    param, message = refusal(Text(text="x" * 30), tokens_max=71)
    assert param == "max_tokens"
    assert all(number in message for number in ("71", "30", "100", "70"))
    assert take(Text(text="x" * 30), tokens_max=70).choices[0].tokens_max == 70


def test_what_the_memory_cannot_hold_is_refused_too() -> None:
    param, message = refusal(Text(text="x" * 30), tokens_max=60, kv_tokens_max=64)
    assert param == "max_tokens"
    assert "64" in message


def test_more_min_tokens_than_can_be_made_are_refused() -> None:
    assert refusal(Text(text="x"), tokens_min=5, tokens_max=4)[0] == "min_tokens"


def test_an_empty_prompt_is_refused() -> None:
    assert refusal(Text(text=""))[0] == "prompt"


@pytest.mark.parametrize("ids", [(0, 256), (-1,)])
def test_ids_out_of_range_are_refused(ids: tuple[int, ...]) -> None:
    param, message = refusal(TokenIds(ids=ids))
    assert param == "prompt"
    assert "255" in message


def test_ids_in_range_are_taken_as_they_are() -> None:
    assert tuple(take(TokenIds(ids=(0, 255))).prompt_token_ids) == (0, 255)


def test_an_input_may_fill_the_whole_context_where_the_engine_embeds() -> None:
    taking = take_embedded("x" * 100, frozenset(Feature))
    assert len(taking.prompt_token_ids) == 100
    assert (taking.choices[0].embed, taking.choices[0].tokens_max) == (True, 0)


@pytest.mark.parametrize(
    ("text", "features", "param", "found"),
    [
        ("x" * 101, frozenset(Feature), "input", "101 tokens"),
        ("", frozenset(Feature), "input", "no tokens"),
        ("x", frozenset(), "model", "no embeddings"),
    ],
)
def test_what_becomes_no_vector_is_refused(
    text: str, features: frozenset[Feature], param: str, found: str
) -> None:
    with pytest.raises(Refused) as caught:
        take_embedded(text, features)
    assert caught.value.param == param
    assert found in caught.value.message


def test_what_the_template_refuses_is_refused() -> None:
    assert refusal(a_chat("BAD"))[0] == "messages"


def test_each_choice_has_the_next_seed() -> None:
    taking = take(Text(text="x"), choices=3, seed=10)
    assert [choice.seed for choice in taking.choices] == [10, 11, 12]


@pytest.mark.parametrize("seed", [-(2**63), -1, 2**63 - 1])
def test_seeds_stay_within_63_bits(seed: int) -> None:
    chosen = [choice.seed for choice in _seeded(seed).choices]
    assert all(each is not None and 0 <= each < 2**63 for each in chosen)
    assert len(set(chosen)) == 2


def _seeded(seed: int) -> Taking:
    engine = PuppetStepEngine()
    sampling = pack_sampling(Sampling(seed=seed, choices=2))
    submit = Submit(1, pack_prompt(Text(text="x")), sampling, stream=True, time_left_s=1.0)
    return Intake(engine.info, engine.tokenizer).take(submit, 0)


def test_the_seed_of_the_request_comes_before_ours() -> None:
    assert _seeded(3).choices[0].seed == 3
