"""Models on offer, as files, variables and flags name them."""

from pathlib import Path

import pytest

from forebay.settings import ConfigurationError, OfferConfig, Settings, Sources, load
from forebay.settings.loading import Effective

FILE = """\
models:
  chat:
    source: smollm2-135m-instruct
    engine: scripted
    aliases: [gpt-4o-mini, default]
    versions:
      polite: file:/adapters/polite
      rude: file:/adapters/rude
  llama-3.1-8b:
    source: hf:org/repo
    preload: false
"""


def loaded(folder: Path, text: str = "", *assignments: str, **environ: str) -> Settings:
    file = folder / "forebay.yaml"
    file.write_text(text)
    return load(Sources(file=file, environ=environ, assignments=assignments)).settings


def problems(folder: Path, text: str, *assignments: str) -> list[str]:
    with pytest.raises(ConfigurationError) as wrong:
        loaded(folder, text, *assignments)
    return [each.text for each in wrong.value.problems]


def test_each_section_under_models_is_a_model_of_that_name(tmp_path: Path) -> None:
    models = loaded(tmp_path, FILE).models
    assert list(models) == ["chat", "llama-3.1-8b"]
    assert models["chat"].source == "smollm2-135m-instruct"
    assert not models["llama-3.1-8b"].preload


def test_aliases_may_be_a_list_and_versions_a_section(tmp_path: Path) -> None:
    chat = loaded(tmp_path, FILE).models["chat"]
    assert chat.other_names == ("gpt-4o-mini", "default")
    assert chat.adapters == {"polite": "file:/adapters/polite", "rude": "file:/adapters/rude"}


def test_what_is_said_anew_as_a_whole_leaves_nothing_of_what_was_said_before(
    tmp_path: Path,
) -> None:
    again = ("models.chat.versions=kind=file:/k", "models.chat.versions.rude=file:/r")
    assert "polite" not in loaded(tmp_path, FILE, *again).models["chat"].adapters


@pytest.mark.parametrize("text", ["aliases: [1.10]", "source: 1.10"])
def test_a_name_that_yaml_reads_as_a_number_is_refused(tmp_path: Path, text: str) -> None:
    (told,) = problems(tmp_path, f"models:\n  a:\n    {text}\n")
    assert told.startswith(f"models.a.{text.partition(':')[0]} must be text")


def test_an_assignment_adds_a_model_or_changes_one(tmp_path: Path) -> None:
    models = loaded(tmp_path, FILE, "models.chat.workers=2", "models.b.source=hf:a/b").models
    assert models["chat"].workers == 2
    assert models["b"] == OfferConfig(source="hf:a/b")


def test_variables_do_too(tmp_path: Path) -> None:
    models = loaded(tmp_path, "", FOREBAY_MODELS__CHAT__ALIASES="x, y").models
    assert models["chat"].other_names == ("x", "y")


def test_an_empty_section_is_the_model_of_that_name(tmp_path: Path) -> None:
    assert loaded(tmp_path, "models:\n  smollm2-135m-instruct:\n").models == {
        "smollm2-135m-instruct": OfferConfig()
    }


def test_a_model_of_an_empty_section_may_have_dots_in_its_name(tmp_path: Path) -> None:
    assert loaded(tmp_path, "models:\n  smollm2.v1.0:\n").models == {"smollm2.v1.0": OfferConfig()}


def test_without_models_there_is_none_on_offer(tmp_path: Path) -> None:
    assert loaded(tmp_path, "models:\n").models == {}


def test_an_unknown_key_names_the_one_that_was_meant(tmp_path: Path) -> None:
    (text,) = problems(tmp_path, "models:\n  chat:\n    sorce: hf:a/b\n")
    assert "Did you mean models.chat.source?" in text


def test_two_models_cannot_share_a_name(tmp_path: Path) -> None:
    (text,) = problems(tmp_path, "models:\n  a:\n    aliases: b\n  b:\n    source: hf:a/b\n")
    assert "the name b is already the model a's" in text


def test_a_name_that_would_read_as_a_version_is_refused(tmp_path: Path) -> None:
    (text,) = problems(tmp_path, "", "models.a.aliases=b:c")
    assert "'b:c' is no name of a model" in text


@pytest.mark.parametrize("text", ["models: [a, b]\n", "models: a\n"])
def test_models_that_are_no_sections_are_told_how_to_write_them(tmp_path: Path, text: str) -> None:
    (told,) = problems(tmp_path, text)
    assert told.endswith("as in models.NAME.source.")


def test_a_name_may_hold_dots(tmp_path: Path) -> None:
    models = loaded(
        tmp_path, "models: {Llama-3.2-1B.v1.0.1: {options: {decode_s: 1}, engine: scripted}}"
    )
    assert models.models["Llama-3.2-1B.v1.0.1"].engine_options == {"decode_s": 1}


@pytest.mark.parametrize(
    "versions", ["v1", "v1=", "=file:/x", "a/b=file:/x", "v=file:/x, v=file:/y"]
)
def test_versions_that_cannot_be_read_are_told_how_to_write_them(
    tmp_path: Path, versions: str
) -> None:
    (text,) = problems(tmp_path, "", f"models.a.versions={versions}")
    assert text.startswith("models.a.versions: ")


def test_an_engine_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    (text,) = problems(tmp_path, "", "models.a.engine=vlm")
    assert "models.a.engine: must be one of auto" in text
    assert "scripted" in text


ROUTE = """\
models:
  stable:
    engine: scripted
  newer:
    engine: scripted
    versions:
      v2: file:/adapters/v2
routes:
  chat:
    split: {stable: 90, "newer:v2": 10}
    candidate: newer
    shadow: stable
"""


def test_each_section_under_routes_is_a_name_that_leads_to_models(tmp_path: Path) -> None:
    route = loaded(tmp_path, ROUTE).routes["chat"]
    assert route.split == "stable=90, newer:v2=10"
    assert (route.candidate, route.shadow) == ("newer", "stable")


@pytest.mark.parametrize(
    ("steps", "found"), [("100", "100"), ("[1, 2.5, 100]", "1, 2.5, 100"), ('"1, 9"', "1, 9")]
)
def test_steps_may_be_written_as_numbers(tmp_path: Path, steps: str, found: str) -> None:
    routes = loaded(tmp_path, f"{ROUTE}    steps: {steps}\n").routes
    assert routes["chat"].steps == found


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("routes.chat.split=gone=1", "routes.chat.split: there is no model 'gone'"),
        ("routes.chat.candidate=gone", "routes.chat.candidate: there is no model 'gone'"),
        ("routes.chat.shadow=gone", "There is newer, newer:v2, stable."),
        ("routes.chat.candidate=stable", "routes.chat.candidate: it is compared with the split"),
        ("routes.chat.steps=9, 5", "routes.chat.steps: '9, 5' is no list of percentages"),
        ("routes.stable.split=newer=1", "routes.stable.split: 'stable' is a model's name"),
        ("routes.other.sticky=key", "routes.other.split: no model has a weight above 0"),
    ],
)
def test_a_route_that_leads_nowhere_stops_the_start(
    tmp_path: Path, assignment: str, words: str
) -> None:
    (text,) = problems(tmp_path, ROUTE, assignment)
    assert words in text


OPTIONS = """\
scripted:
  decode_s: 0.5
models:
  slow:
    engine: scripted
    options: {decode_s: 2.0, running_max: 3}
  usual:
    engine: scripted
"""


def test_a_model_may_set_its_engine_for_itself_alone(tmp_path: Path) -> None:
    settings = loaded(tmp_path, OPTIONS, "models.slow.options.prefill_s=1")
    slow = settings.engine_config("scripted", settings.models["slow"].engine_options)
    usual = settings.engine_config("scripted", settings.models["usual"].engine_options)
    assert (slow.decode_s, slow.running_max, slow.prefill_s) == (2.0, 3, 1.0)
    assert usual.decode_s == 0.5


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("models.slow.options.pace=1", "scripted has no setting pace; it has prefill_s"),
        ("models.slow.options.decode_s=-1", "models.slow.options: decode_s must be a number from"),
        ("models.slow.options.decode_s=x", "models.slow.options: decode_s must be a number from"),
        ("models.slow.options=[1]", "it is no JSON object"),
        ("models.slow.engine=", "the engine has to be named for options"),
    ],
)
def test_options_that_do_not_fit_stop_the_start(
    tmp_path: Path, assignment: str, words: str
) -> None:
    (text,) = problems(tmp_path, OPTIONS, assignment)
    assert words in text


@pytest.mark.parametrize(
    ("variable", "value", "key", "found"),
    [
        ("MODEL_NAME", "hf:a/b", "model.name", "hf:a/b"),
        ("DEFAULT_MODEL", "hf:a/b", "model.name", "hf:a/b"),
        ("CACHE_SIZE", "3", "residency.loaded_max", 3),
        ("MODEL_LOAD_IN_8BIT", "True", "transformers.precision", "int8"),
        ("MODEL_LOAD_IN_8BIT", "false", "transformers.precision", "auto"),
        ("MAX_BATCH_SIZE", "7", "llamacpp.sequences_running_max", 7),
    ],
)
def test_the_source_documents_variables_choose_models_too(
    variable: str, value: str, key: str, found: object
) -> None:
    effective = {each.setting.key: each.value for each in load_all(**{variable: value})}
    assert effective[key] == found


def load_all(**environ: str) -> tuple[Effective, ...]:
    return load(Sources(environ=environ)).effective
