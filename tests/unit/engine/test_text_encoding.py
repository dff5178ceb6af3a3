"""Honest prompts are encoded exactly as the library encodes them."""

import functools
import tempfile
from pathlib import Path
from typing import Final

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from forebay.core.request import Message, Role
from forebay.engine.manifest import ArtefactError
from forebay.engine.protocol import Refused
from forebay.engine.text import ModelTokenizer
from tests.support.vocabularies import (
    CHATML,
    SPECIAL,
    byte_level,
    prepared,
    sentence_pieces,
    turns,
)

LLAMA2: Final = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'].strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' ~ message['content'] | trim ~ ' ' ~ eos_token }}{% endif %}{% endfor %}"
)
LLAMA3: Final = """\
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{%- set ns = namespace(count=0, names=[]) %}
{{- "<|im_start|>system\\n" + system_message + "<|im_end|>" }}
{% for message in messages %}
    {%- if message.content is string and message.role in ['user', 'assistant'] %}
        {%- set ns.count = ns.count + 1 %}
        {{- '<|im_start|>' ~ message['role'] ~ '\\n\\n' ~ message['content'] | trim }}
        {{- {'a': [message.role, 1.5, none]} | tojson }}
        {%- if not loop.last %}{{ '-' * 3 }}{% endif %}
        {%- if loop.index > 8 %}{% break %}{% endif %}
    {%- endif %}
{% endfor %}
{{ messages | map(attribute='role') | join(',') }} {{ ns.count }} {{ messages | length }}
{%- macro close(text) %}{{ text | upper | indent(2) }}{% endmacro %}
{%- generation %}{{ close('end') }}{% endgeneration %}
{%- if tools is defined and tools %}{{ tools }}{% endif %}
"""

TEXTS: Final = (
    "",
    " ",
    "  leading and trailing  ",
    "\n\n\nlines\r\n\ttabs\n",
    "3.14159 and 1,000,000",
    "日本語 ünïcödé Ελληνικά",
    "👨‍👩‍👧‍👦 🏳️‍🌈 👍🏽",
    "for i in range(10):\n    print(f'{i:>3}')  # <html>&amp;</html>",
    "{{ messages }} {% raw %} {# comment #}",
    "a\0b\x7f\x1b[0m\ufeff\u2028",
    "e\u0301 \u00e9 \u1e9b\u0323",
    "x" * 3000,
    "> quoted < and | piped |",
)


@functools.cache
def chatml() -> tuple[ModelTokenizer, Tokenizer]:
    library = byte_level()
    return prepared(Path(tempfile.mkdtemp()), library), library


def reference(template: str, messages: list[Message], **variables: str) -> str:
    """Render as Hugging Face's transformers does."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = lambda value: __import__("json").dumps(
        value, ensure_ascii=False
    )
    return environment.from_string(template).render(
        messages=[{"role": str(m.role), "content": m.content} for m in messages],
        add_generation_prompt=True,
        **variables,
    )


@pytest.mark.parametrize("text", TEXTS)
def test_a_conversation_is_encoded_as_the_library_encodes_it(text: str) -> None:
    tokenizer, library = chatml()
    messages = turns(text, "fine", text)
    assert tokenizer.chat(messages) == library.encode(reference(CHATML, messages)).ids


def is_honest(text: str) -> bool:
    """Whether it holds no control token: Hypothesis draws strings of our own source as well."""
    return not any(literal in text for literal in SPECIAL)


@given(st.lists(st.text(max_size=200).filter(is_honest), min_size=1, max_size=4))
@settings(max_examples=200, deadline=None)
def test_any_conversation_without_control_tokens_is_encoded_as_by_the_library(
    contents: list[str],
) -> None:
    tokenizer, library = chatml()
    messages = turns(*contents)
    assert tokenizer.chat(messages) == library.encode(reference(CHATML, messages)).ids


@pytest.mark.parametrize("text", TEXTS)
def test_a_plain_prompt_is_encoded_as_the_library_encodes_it(text: str) -> None:
    tokenizer, library = chatml()
    assert tokenizer.encode(text) == library.encode(text).ids


@pytest.mark.parametrize("text", TEXTS)
def test_a_vocabulary_with_a_normalizer_is_followed_too(text: str, tmp_path: Path) -> None:
    library = sentence_pieces()
    tokenizer = prepared(tmp_path, library, LLAMA2, bos="<s>", eos="</s>")
    messages = turns(text, text, text)
    rendered = reference(LLAMA2, messages, bos_token="<s>", eos_token="</s>")
    assert tokenizer.chat(messages) == library.encode(rendered).ids


@pytest.mark.parametrize("text", TEXTS)
def test_metering_changes_nothing_in_what_a_template_writes(text: str, tmp_path: Path) -> None:
    library = byte_level()
    tokenizer = prepared(tmp_path, library, LLAMA3, bos=SPECIAL[0])
    system = Message(role=Role.SYSTEM, content=text)
    messages = [system, *turns(text, text, "x", "y")]
    plain = LLAMA3.replace("{%- generation %}", "").replace("{% endgeneration %}", "")
    rendered = reference(plain, messages, bos_token=SPECIAL[0])
    assert tokenizer.chat(messages) == library.encode(rendered).ids


def test_bos_stands_before_plain_text_where_the_model_says_so(tmp_path: Path) -> None:
    library = byte_level()
    with_bos = prepared(tmp_path / "with", library, bos=SPECIAL[0])
    without = prepared(tmp_path / "without", library)
    assert with_bos.encode("Hi") == [0, *without.encode("Hi")]


def test_bos_stands_before_plain_text_where_the_post_processor_says_so(tmp_path: Path) -> None:
    library = byte_level()
    library.post_processor = TemplateProcessing(
        single=f"{SPECIAL[0]} $A", special_tokens=[(SPECIAL[0], 0)]
    )
    tokenizer = prepared(tmp_path, library, bos=SPECIAL[0])
    assert tokenizer.encode("Hi") == library.encode("Hi").ids
    assert tokenizer.chat(turns("Hi"))[0] == library.token_to_id("<|im_start|>")


def test_a_developer_is_a_system_to_a_template_that_does_not_know_the_name() -> None:
    tokenizer, _ = chatml()
    developer = Message(role=Role.DEVELOPER, content="Be brief.")
    system = Message(role=Role.SYSTEM, content="Be brief.")
    assert tokenizer.chat([developer]) == tokenizer.chat([system])


def test_a_conversation_that_the_template_rejects_is_refused_by_name(tmp_path: Path) -> None:
    tokenizer = prepared(tmp_path, sentence_pieces(), LLAMA2)
    with pytest.raises(Refused, match=r"^messages: .* does not accept") as caught:
        tokenizer.chat([Message(role=Role.ASSISTANT, content="I begin")])
    assert caught.value.param == "messages"
    assert "alternate between" in caught.value.message
    assert "roles must" not in caught.value.message, "the template's own words stay inside"


def test_a_model_without_a_template_refuses_conversations(tmp_path: Path) -> None:
    tokenizer = prepared(tmp_path, byte_level(), None)
    assert not tokenizer.chats
    assert chatml()[0].chats
    with pytest.raises(Refused, match="/v1/completions") as caught:
        tokenizer.chat(turns("Hi"))
    assert caught.value.param == "messages"


def test_a_prompt_far_beyond_the_context_is_refused_unread() -> None:
    tokenizer, _ = chatml()
    with pytest.raises(Refused, match="more than 4096 tokens") as caught:
        tokenizer.encode("word " * 1_000_000)
    assert caught.value.param == "prompt"
    with pytest.raises(Refused, match=r"^messages: the prompt has more than 4096 tokens"):
        tokenizer.chat(turns("word " * 1_000_000))


@pytest.mark.parametrize(
    ("file", "content", "fault"),
    [
        ("tokenizer.json", "", "tokenizer.json cannot be used"),
        ("tokenizer.json", '{"added_tokens": []}', "tokenizer.json cannot be used"),
        ("tokenizer.json", '{"added_tokens":' + "[" * 9999, "tokenizer.json cannot be used"),
        ("chat_template.jinja", "{% for %}", "chat template cannot be used"),
        ("chat_template.jinja", "{% if " + "(" * 99_999, "chat template cannot be used"),
        ("chat_template.jinja", "x" * 300_000, "300000 characters"),
        ("manifest.json", "{}", "manifest"),
    ],
)
def test_broken_files_stop_the_start_and_are_named(
    tmp_path: Path, *, file: str, content: str, fault: str
) -> None:
    prepared(tmp_path, byte_level())
    (tmp_path / file).write_text(content)
    with pytest.raises(ArtefactError, match=fault):
        ModelTokenizer.load(tmp_path)
