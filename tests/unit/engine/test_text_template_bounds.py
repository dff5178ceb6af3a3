"""A hostile chat template ends soon, and reaches nothing."""

from typing import Final

import pytest

from forebay.core.request import Message, Role
from forebay.engine.chat_template import ChatTemplate, TemplateFault, TemplateLimits
from forebay.engine.protocol import Refused

LOOP: Final = "{% for i in range(99999) %}"
END: Final = "{% endfor %}"
DOUBLE: Final = "{% set ns = namespace(x='ab') %}{% for i in range(60) %}"

TOO_MUCH: Final = {
    "nested loops": LOOP * 4 + END * 4,
    "loops over a text": "{% set a = 'ab' * 200 %}" + "{% for c in a %}" * 4 + END * 4,
    "empty loops in a condition": LOOP * 3 + "{% if i == 5 %}{% endif %}" + END * 3,
    "constant text": LOOP + "x" * 10_000 + END,
    "captured constant text": "{% set a %}" + LOOP * 2 + "y" * 1000 + END * 2 + "{% endset %}",
    "a doubled text": DOUBLE + "{% set ns.x = ns.x ~ ns.x %}" + END,
    "an added text": DOUBLE + "{% set ns.x = ns.x + ns.x %}" + END,
    "a captured doubling": DOUBLE + "{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}"
    "{% set ns.x = y %}" + END,
    "a doubled list": DOUBLE + "{% set ns.x = [ns.x, ns.x] %}" + END + "{{ ns.x }}",
    "a doubled dict": DOUBLE + "{% set ns.x = {'a': ns.x, 'b': ns.x} %}" + END + "{{ ns.x }}",
    "a doubled tuple": DOUBLE + "{% set ns.x = (ns.x, ns.x) %}" + END + "{{ ns.x|tojson }}",
    "doubled dicts by call": DOUBLE + "{% set ns.x = dict(a=ns.x, b=ns.x) %}" + END,
    "a repeated text": "{{ 'a' * 9999999999 }}",
    "a repeated list": "{{ ([1] * 9999999999)|length }}",
    "a repeated variable": "{% set n = 9999999999 %}{{ messages[0].content * n }}",
    "a power": "{{ 9 ** 9 ** 9 }}",
    "a squared number": "{% set ns = namespace(x=9) %}{% for i in range(60) %}"
    "{% set ns.x = ns.x * ns.x %}" + END,
    "a wide format": "{{ '%999999999d' % 1 }}",
    "a starred format": "{{ '%*d' % (999999999, 1) }}",
    "a wide str.format": "{{ '{:999999999}'.format(1) }}",
    "a nested str.format": "{{ '{:{}}'.format(1, 999999999) }}",
    "a wide indent": "{{ 'a\nb'|indent(999999999) }}",
    "a wide json": "{{ [1]|tojson(indent=999999999) }}",
    "replaced nothing": "{% set a = 'ab' * 9000 %}{{ a.replace('', a) }}",
    "a replacing filter": "{% set a = 'ab' * 9000 %}{{ a|replace('a', a) }}",
    "joined by a long text": "{% set a = 'ab' * 9000 %}{{ a.join(range(9999)|list) }}",
    "a joining filter": "{% set a = 'ab' * 9000 %}{{ range(9999)|join(a) }}",
    "a macro that calls itself twice": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}"
    "{% endif %}{% endmacro %}{{ f(60) }}",
    "filters on long ranges": LOOP + "{{ range(99999)|select|max }}" + END,
    "lists of long ranges": LOOP + "{% if range(99999)|list %}{% endif %}" + END,
    "searches in a long text": "{% set a = 'ab' * 30000 %}" + LOOP + "{% if 'ba' in a %}"
    "{% if a.count('abc') %}{% endif %}{% if a == a ~ 'b' %}{% endif %}{% endif %}" + END,
    "slices of a long text": "{% set a = 'ab' * 30000 %}" + LOOP + "{% if a[1:] %}{% endif %}"
    "{{ a[::-1][:0] }}" + END,
}
NOT_OFFERED: Final = {
    "python": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals of a function": "{{ raise_exception.__globals__['sys'] }}",
    "the environment": "{{ self.__init__.__globals__ }}",
    "python by format": "{{ '{0.__class__.__mro__}'.format(1).upper() and 1 / 0 }}",
    "a change of the messages": "{{ messages.append(1) }}",
    "another file": "{% include '/etc/passwd' %}",
    "a parent": "{% extends 'x' %}",
    "padding": "{{ 'a'.ljust(9) }}",
    "bytes of a number": "{{ (1).to_bytes(9, 'big') }}",
    "lorem ipsum": "{{ lipsum(n=100000) }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "an error of Python's": "{{ 1 / 0 }}",
    "a type error": "{{ 1 + 'a' }}",
    "undefined": "{{ nothing.at.all }}",
}
NOT_COMPILED: Final = {
    "a recursive loop": "{% for x in range(9) recursive %}{{ loop(range(9)) }}{% endfor %}",
    "an unknown filter": "{{ 'a'|center(999999999) }}",
    "python by attr": "{{ ''|attr('__class__') }}",
    "a folded constant": "{{ 'a'|wordwrap(1) }}",
    "deep nesting": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "deep blocks": "{% for a in b %}" * 200 + "{% endfor %}" * 200,
    "no syntax": "{% endfor %}",
}


def rendered(source: str, *contents: str, limits: TemplateLimits | None = None) -> str:
    messages = [Message(role=Role.USER, content=text) for text in contents or ("Hi",)]
    return ChatTemplate(source, limits).render(messages, {"add_generation_prompt": True})


@pytest.mark.parametrize("source", TOO_MUCH.values(), ids=TOO_MUCH)
def test_a_template_that_does_too_much_is_stopped(source: str) -> None:
    with pytest.raises(Refused, match=r"^messages: .* did more work than") as caught:
        rendered(source)
    assert caught.value.param == "messages"


@pytest.mark.parametrize("source", NOT_OFFERED.values(), ids=NOT_OFFERED)
def test_a_template_cannot_reach_beyond_its_conversation(source: str) -> None:
    with pytest.raises(Refused, match=r"^messages: ") as caught:
        rendered(source)
    assert caught.value.param == "messages"


@pytest.mark.parametrize("source", NOT_COMPILED.values(), ids=NOT_COMPILED)
def test_a_template_that_cannot_be_bounded_is_not_loaded(source: str) -> None:
    with pytest.raises(TemplateFault):
        ChatTemplate(source)


def test_each_rendering_has_its_own_allowance() -> None:
    template = ChatTemplate("{% for i in range(500) %}{{ i }}{% endfor %}")
    messages = [Message(role=Role.USER, content="Hi")]
    first = template.render(messages, {})
    assert all(template.render(messages, {}) == first for _ in range(300))


def test_a_long_conversation_has_a_longer_allowance() -> None:
    source = "{% for m in messages %}{{ m.role ~ m.content }}{% endfor %}"
    assert len(rendered(source, *["x" * 1000] * 2000)) == 2000 * 1004


def test_what_a_rendering_may_use_is_bounded_by_its_messages() -> None:
    limits = TemplateLimits(extra_chars_max=10)
    assert rendered("{{ messages[0].content * 3 }}", "abcde", limits=limits)
    with pytest.raises(Refused):
        rendered("{{ messages[0].content * 7 }}", "abcde", limits=limits)


def test_today_can_be_named() -> None:
    assert rendered("{{ strftime_now('%Y') }}").isdigit()


def test_a_namespace_does_not_print_what_it_holds() -> None:
    source = "{% set ns = namespace(x=0) %}{% set ns.x = [ns] %}{{ ns }}"
    assert rendered(source) == "namespace()"
