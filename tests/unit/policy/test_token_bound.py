import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.core.request import Chat, Message, Prompt, Role, Text, TokenIds
from forebay.core.tooling import Tool, ToolCall, Tooling, ToolTurn
from forebay.policy.token_bound import prompt_tokens_most


def a_chat(*texts: str, tooling: Tooling | None = None) -> Chat:
    messages = tuple(Message(role=Role.USER, content=text) for text in texts)
    return Chat(messages=messages, tooling=tooling)


@given(text=st.text(alphabet=st.characters(), max_size=200))
def test_a_text_is_never_more_tokens_than_it_has_bytes_and_a_few(text: str) -> None:
    size = len(text.encode("utf-8", "surrogatepass"))
    assert prompt_tokens_most(Text(text=text)) == size + 2
    assert size < prompt_tokens_most(a_chat(text)) <= size + 256


def test_ids_count_exactly_but_for_one_that_a_model_puts_before_them() -> None:
    assert prompt_tokens_most(TokenIds(ids=(5, 6, 7))) == 4


def test_each_message_adds_its_marks() -> None:
    one, two = prompt_tokens_most(a_chat("a")), prompt_tokens_most(a_chat("a", "a"))
    assert 6 < two - one < 32


TOOL = Tool(name="weather", description="tells the weather", parameters='{"type":"object"}')
BARE = Tool(name="weather", description="tells the weather")
CALL = ToolCall(id="call-1", name="weather", arguments='{"city":"Ulm"}')


@pytest.mark.parametrize(
    ("less", "more"),
    [
        (Tooling(), Tooling(tools=(TOOL,))),
        (Tooling(tools=(BARE,)), Tooling(tools=(TOOL,))),
        (Tooling(tools=(TOOL,)), Tooling(tools=(TOOL, TOOL))),
        (Tooling(), Tooling(turns=(ToolTurn(index=0, calls=(CALL,)),))),
        (Tooling(), Tooling(turns=(ToolTurn(index=0, answers="call-1", name="weather"),))),
    ],
)
def test_all_that_is_said_of_tools_counts(less: Tooling, more: Tooling) -> None:
    plain = prompt_tokens_most(a_chat("a"))
    assert plain < prompt_tokens_most(a_chat("a", tooling=less))
    bounds: list[int] = [
        prompt_tokens_most(prompt)
        for prompt in (a_chat("a", tooling=less), a_chat("a", tooling=more))
    ]
    assert bounds[1] - bounds[0] >= len("call-1weather")


def test_a_text_that_no_encoding_takes_is_bounded_too() -> None:
    prompt: Prompt = Text(text="\ud800" * 3)
    assert prompt_tokens_most(prompt) == 11
