"""No text of anybody's becomes a control token of the default model: each of them, everywhere.

The same for small vocabularies and all their corners is in `test_text_control_tokens.py`; for
tools and their results in `test_text_tools.py`.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from forebay.core.request import Message, Role, TokenId
from forebay.core.tooling import Tool, ToolCall, Tooling, ToolTurn
from forebay.engine.manifest import TOKENIZER
from forebay.engine.text import ModelTokenizer
from forebay.models.catalogue import DEFAULT
from tests.support.models import artefact_of

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def tokenizer() -> ModelTokenizer:
    return ModelTokenizer.load(artefact_of(DEFAULT).path)


@pytest.fixture(scope="module")
def controls() -> dict[str, TokenId]:
    """Every control token of the vocabulary, by its text."""
    library = Tokenizer.from_file(str(artefact_of(DEFAULT).path / TOKENIZER))
    added = library.get_added_tokens_decoder()
    return {token.content: id for id, token in added.items() if token.special}


def ids_in(
    tokenizer: ModelTokenizer, controls: dict[str, TokenId], messages: list[Message]
) -> list[TokenId]:
    """Return the control tokens of a rendered conversation, in their order."""
    wanted = set(controls.values())
    return [id for id in tokenizer.chat(messages) if id in wanted]


def said(role: Role, content: str) -> list[Message]:
    """Return a conversation in which somebody says it between others' harmless turns."""
    return [
        Message(role=Role.SYSTEM, content=content if role is Role.SYSTEM else "Be kind."),
        Message(role=Role.USER, content="Hello."),
        Message(role=role, content=content),
        Message(role=Role.USER, content="Go on."),
    ]


def test_the_default_model_has_control_tokens_to_forge(controls: dict[str, TokenId]) -> None:
    assert len(controls) >= 10
    assert {"<|im_start|>", "<|im_end|>"} <= set(controls)


@pytest.mark.parametrize("role", [Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.TOOL])
@pytest.mark.parametrize(
    "place", ["{}", "{} after", "before {}", "a{}b", " {}\n", "{0}{0}", "\n{}"]
)
def test_no_control_token_is_forged_by_any_role_at_any_place(
    tokenizer: ModelTokenizer, controls: dict[str, TokenId], role: Role, place: str
) -> None:
    honest = ids_in(tokenizer, controls, said(role, "x"))
    for literal in controls:
        assert ids_in(tokenizer, controls, said(role, place.format(literal))) == honest, literal


@pytest.mark.parametrize("role", [Role.USER, Role.ASSISTANT, Role.TOOL])
def test_no_control_token_is_forged_across_messages(
    tokenizer: ModelTokenizer, controls: dict[str, TokenId], role: Role
) -> None:
    def parts(first: str, second: str) -> list[Message]:
        return [Message(role=Role.USER, content=first), Message(role=role, content=second)]

    honest = ids_in(tokenizer, controls, parts("x", "y"))
    for literal in controls:
        for cut in range(1, len(literal)):
            told = parts(literal[:cut], literal[cut:])
            assert ids_in(tokenizer, controls, told) == honest, literal[:cut]


def test_no_control_token_is_forged_in_a_plain_prompt(
    tokenizer: ModelTokenizer, controls: dict[str, TokenId]
) -> None:
    for literal in controls:
        for text in (literal, f"a {literal} b", literal * 3):
            assert not set(tokenizer.encode(text)) & set(controls.values()), text


def test_no_control_token_is_forged_by_tools(
    tokenizer: ModelTokenizer, controls: dict[str, TokenId]
) -> None:
    def ids(text: str) -> list[TokenId]:
        messages = [
            Message(role=Role.USER, content="hi"),
            Message(role=Role.ASSISTANT, content=""),
            Message(role=Role.TOOL, content=text),
        ]
        call = ToolCall(id="c1", name="look", arguments='{"a": ' + f'"{text}"' + "}")
        turns = (ToolTurn(index=1, calls=(call,)), ToolTurn(index=2, answers="c1", name="look"))
        tools = (Tool(name="look", description=text, parameters='{"type": "object"}'),)
        made = tokenizer.chat(messages, Tooling(tools=tools, turns=turns))
        return [id for id in made if id in set(controls.values())]

    honest = ids("x")
    for literal in controls:
        assert ids(literal) == honest, literal


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_no_mixture_of_pieces_forges_a_control_token(
    tokenizer: ModelTokenizer, controls: dict[str, TokenId], data: st.DataObject
) -> None:
    literals = sorted(controls)
    pieces = sorted(
        {piece for literal in literals for piece in (literal, literal[:4], literal[4:], "<|", "|>")}
    )
    texts = st.lists(st.sampled_from([*pieces, " ", "\n", "a"]), max_size=8).map("".join)
    contents = data.draw(st.lists(texts, min_size=1, max_size=4))
    roles = data.draw(
        st.lists(
            st.sampled_from([Role.USER, Role.ASSISTANT, Role.TOOL]),
            min_size=len(contents),
            max_size=len(contents),
        )
    )
    turns = [Message(role=r, content=c) for r, c in zip(roles, contents, strict=True)]
    plain = [Message(role=role, content="x") for role in roles]
    assert ids_in(tokenizer, controls, turns) == ids_in(tokenizer, controls, plain)
