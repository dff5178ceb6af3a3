"""An adapter is plain LoRA for this very base, or it is refused before an engine sees it."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from forebay.engine.manifest import Form, Manifest
from forebay.models.adapters import AdapterArtefact, open_adapter
from forebay.models.catalogue import resolve
from forebay.models.preparation import prepare
from forebay.models.stages import PreparationError
from tests.support.hub import serving
from tests.support.weights import a_checkpoint, adapter_shapes, an_adapter, zeros

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def base(tmp_path: Path) -> Manifest:
    source = a_checkpoint(tmp_path / "base")
    entry, cache = resolve(f"file:{source}"), tmp_path / "cache"
    return prepare(entry, form=Form.SAFETENSORS, cache=cache, progress=lambda _: None).manifest


def opened(folder: Path, base: Manifest) -> AdapterArtefact:
    return open_adapter(f"file:{folder}", base, cache=folder.parent / "cache")


def test_a_lora_is_taken_with_its_facts(tmp_path: Path, base: Manifest) -> None:
    found = opened(an_adapter(tmp_path / "mine"), base)
    assert (found.rank, found.base_name) == (4, "somewhere/base")
    assert len(found.sha256) == 64
    config = json.loads((found.path / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 4, 8)
    assert config["target_modules"] == [
        f"model.layers.{layer}.self_attn.{module}"
        for layer in (0, 1)
        for module in ("q_proj", "v_proj")
    ]


def test_the_second_time_the_source_is_not_needed_anew(tmp_path: Path, base: Manifest) -> None:
    folder = an_adapter(tmp_path / "mine")
    first = opened(folder, base)
    assert opened(folder, base) == first
    (folder / WEIGHTS).write_bytes(zeros(adapter_shapes(rank=2)))
    assert opened(folder, base).rank == 2


def test_what_libraries_would_run_or_match_is_left_out(tmp_path: Path, base: Manifest) -> None:
    folder = an_adapter(
        tmp_path / "mine",
        target_modules="(a+)+$",
        auto_mapping={"parent_library": "os", "base_model_class": "system"},
        rank_pattern={"(a+)+$": 8},
    )
    text = (opened(folder, base).path / "adapter_config.json").read_text()
    assert "a+" not in text
    assert "auto_mapping" not in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"peft_type": "IA3"}, "'IA3'; LORA alone"),
        ({"peft_type": None}, "LORA alone"),
        ({"r": "4"}, "no number 'r'"),
        ({"lora_alpha": None}, "no number 'lora_alpha'"),
        ({"alpha_pattern": {"(a+)+$": 8}}, "alpha_pattern"),
        ({"init_lora_weights": "pissa_niter_16"}, "changed the base"),
        ({"layer_replication": [[0, 4]]}, "changed the base"),
    ],
)
def test_a_configuration_that_is_not_plain_lora_is_refused(
    tmp_path: Path, base: Manifest, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(PreparationError, match=words):
        opened(an_adapter(tmp_path / "mine", **changes), base)


Q = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (adapter_shapes(layers=3), "has 2 layers"),
        ({f"{Q}.lora_A.weight": (4, 64), f"{Q}.lora_B.weight": (32, 4)}, "takes 64 numbers"),
        (
            {
                f"{Q}.lora_A.weight".replace("q_", "k_"): (4, 32),
                f"{Q}.lora_B.weight".replace("q_", "k_"): (32, 4),
            },
            "makes 32 numbers, the model 16",
        ),
        (
            {
                f"{Q}.lora_A.weight".replace("q_", "o_"): (4, 32),
                f"{Q}.lora_B.weight".replace("q_", "o_"): (64, 4),
            },
            "makes 64 numbers, not 32",
        ),
        ({f"{Q}.lora_A.weight": (4, 32)}, "no matching"),
        ({f"{Q}.lora_A.weight": (4, 32), f"{Q}.lora_B.weight": (32, 8)}, "no matching"),
        ({f"{Q}.lora_A.weight": (0, 32), f"{Q}.lora_B.weight": (32, 0)}, "rank 0"),
        ({f"{Q}.lora_A.weight": (2_000, 32), f"{Q}.lora_B.weight": (32, 2_000)}, "rank 2000"),
        ({f"{Q}.lora_magnitude_vector": (32,)}, "no DoRA"),
        ({"base_model.model.lm_head.weight": (4, 4)}, "no whole"),
        ({}, "changes 0 matrices"),
    ],
)
def test_weights_that_do_not_fit_are_refused_at_the_first_matrix(
    tmp_path: Path, base: Manifest, shapes: dict[str, tuple[int, ...]], words: str
) -> None:
    folder = an_adapter(tmp_path / "mine")
    (folder / WEIGHTS).write_bytes(zeros(shapes))
    with pytest.raises(PreparationError, match=words):
        opened(folder, base)


def test_whole_numbers_are_no_lora(tmp_path: Path, base: Manifest) -> None:
    folder = an_adapter(tmp_path / "mine")
    (folder / WEIGHTS).write_bytes(zeros(adapter_shapes(), dtype="I8"))
    with pytest.raises(PreparationError, match="I8"):
        opened(folder, base)


@pytest.mark.parametrize(
    ("named", "source", "refused"),
    [
        ("meta-llama/Llama-3.2-1B", "hf:org/smollm2-135m", True),
        ("HuggingFaceTB/SmolLM2-135M", "hf:org/smollm2-135m", False),
        ("HuggingFaceTB/SmolLM2-135M", "hf:bartowski/SmolLM2-135M-Instruct-GGUF", False),
        ("/home/me/base", "hf:org/smollm2-135m", False),
        ("meta-llama/Llama-3.2-1B", "file:/models/mine", False),
    ],
)
def test_another_bases_name_is_refused_where_both_are_names(
    tmp_path: Path, base: Manifest, named: str, source: str, *, refused: bool
) -> None:
    folder = an_adapter(tmp_path / "mine", base_model_name_or_path=named)
    renamed = msgspec.structs.replace(base, source=source, name="served")
    if refused:
        with pytest.raises(PreparationError, match="trained on 'meta-llama"):
            opened(folder, renamed)
    else:
        assert opened(folder, renamed).base_name == named


def test_a_pickle_is_refused_by_name(tmp_path: Path, base: Manifest) -> None:
    folder = an_adapter(tmp_path / "mine")
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")
    with pytest.raises(PreparationError, match=r"adapter_model\.bin"):
        opened(folder, base)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path, base: Manifest) -> None:
    folder = an_adapter(tmp_path / "mine")
    (folder / WEIGHTS).rename(tmp_path / "secret")
    (folder / WEIGHTS).symlink_to(tmp_path / "secret")
    with pytest.raises(PreparationError, match="leads out"):
        opened(folder, base)


def test_a_folder_that_is_not_there_is_said_so(tmp_path: Path, base: Manifest) -> None:
    with pytest.raises(PreparationError, match="There is no folder"):
        opened(tmp_path / "mine", base)


def test_an_adapter_that_was_touched_in_the_cache_is_refused(
    tmp_path: Path, base: Manifest
) -> None:
    folder = an_adapter(tmp_path / "mine")
    found = opened(folder, base)
    content = bytearray((found.path / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (found.path / WEIGHTS).write_bytes(content)
    with pytest.raises(PreparationError, match="changed after it was checked"):
        opened(folder, base)


def test_a_hub_is_asked_for_two_files_and_once(tmp_path: Path, base: Manifest) -> None:
    folder = an_adapter(tmp_path / "mine")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    with serving({**files, "adapter_model.bin": b"\x80", "train.py": b"x"}) as hub:
        first = open_adapter(
            "hf:org/repo", base, cache=tmp_path / "cache", hub_endpoint=hub.address
        )
    again = open_adapter("hf:org/repo", base, cache=tmp_path / "cache", hub_endpoint=hub.address)
    assert first == again
    assert first.rank == 4
    assert not any(path.endswith((".bin", ".py")) for path in hub.asked)
