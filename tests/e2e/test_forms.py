"""One model in several forms says the same; by the real libraries and the real model."""

import json
import shutil
from pathlib import Path
from typing import Any, assert_never

import pytest

from forebay.engine.manifest import CHAT_TEMPLATE, TOKENIZER, Form
from forebay.engine.protocol import Refused
from forebay.engine.text import ModelTokenizer
from forebay.models import gguf
from forebay.models.artefacts import Artefact
from forebay.models.catalogue import resolve
from forebay.models.preparation import prepare
from forebay.models.safetensors_file import read_tensors
from forebay.models.stages import PreparationError
from tests.support.models import CONTEXT, LAYERS, WIDTH, a_gguf, an_ir_folder, artefact_of
from tests.support.vocabularies import byte_level, turns
from tests.support.weights import a_checkpoint, an_onnx_folder

pytest.importorskip("gguf", reason="reading GGUF weights needs forebay[openvino] or [llamacpp]")


def prepared(source: Path, form: Form) -> Artefact:
    cache = source.parent / "cache"
    return prepare(resolve(f"file:{source}"), form=form, cache=cache, progress=lambda _: None)


def tensors(folder: Path) -> dict[str, Any]:
    """Return the numbers of a safetensors file as 32-bit floats."""
    import numpy as np  # noqa: PLC0415 - heavy

    path, found = folder / "model.safetensors", {}
    for tensor in read_tensors(path):
        kind = {"F32": np.float32, "F16": np.float16}[tensor.dtype]
        raw = np.fromfile(path, kind, tensor.elements, offset=tensor.begin)
        found[tensor.name] = raw.reshape(tensor.shape).astype(np.float32)
    return found


def test_a_gguf_is_taken_as_it_is_with_its_text_rules(tmp_path: Path) -> None:
    source = a_gguf(tmp_path / "m.gguf")
    artefact = prepared(source, Form.GGUF)
    assert set(artefact.manifest.files) == {"model.gguf", TOKENIZER, CHAT_TEMPLATE}
    weights = artefact.path / "model.gguf"
    assert weights.read_bytes() == source.read_bytes()
    assert weights.stat().st_ino != source.stat().st_ino  # a person may write to theirs
    manifest = artefact.manifest
    assert (manifest.form, manifest.architecture, manifest.precision) == ("gguf", "llama", "F32")
    assert (manifest.context_tokens_max, manifest.layers, manifest.width) == (
        *(CONTEXT, LAYERS, WIDTH),
    )
    assert manifest.weights_bytes == source.stat().st_size
    assert manifest.parameters == sum(t.elements for t in gguf.read_header(source).tensors)


def test_what_was_fetched_is_linked_not_copied(tmp_path: Path) -> None:
    from tests.support.hub import serving  # noqa: PLC0415 - for this test alone

    content = a_gguf(tmp_path / "m.gguf").read_bytes()
    with serving({"m.gguf": content}) as hub:
        artefact = prepare(
            resolve("hf:org/repo"),
            form=Form.GGUF,
            cache=tmp_path / "cache",
            progress=lambda _: None,
            hub_endpoint=hub.address,
        )
    assert (artefact.path / "model.gguf").stat().st_nlink == 2


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_a_gguf_is_unpacked_number_by_number(tmp_path: Path, architecture: str) -> None:
    import numpy as np  # noqa: PLC0415 - heavy

    source = a_gguf(tmp_path / "m.gguf", architecture=architecture)
    found = tensors(prepared(source, Form.SAFETENSORS).path)
    original = {
        tensor.name: values for tensor, values in gguf.dequantised(source, gguf.read_header(source))
    }
    assert len(found) == len(original) == 2 + 9 * LAYERS
    assert np.array_equal(found["model.norm.weight"], original["output_norm.weight"])
    down = original["blk.1.ffn_down.weight"]
    assert np.array_equal(found["model.layers.1.mlp.down_proj.weight"], down)
    ours = found["model.layers.0.self_attn.q_proj.weight"]
    theirs = original["blk.0.attn_q.weight"]
    # llama.cpp turns neighbouring rows of a head; transformers turns row i and row i + half.
    half = WIDTH // 2 // 2
    row = 1 if architecture == "qwen2" else 2
    assert np.array_equal(ours[1], theirs[row])
    assert np.array_equal(ours[half], theirs[half if architecture == "qwen2" else 1])


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_openvino_gets_the_same_numbers_from_safetensors_as_from_the_gguf(
    tmp_path: Path, architecture: str
) -> None:
    pytest.importorskip("openvino_genai", reason="needs forebay[openvino]")
    direct = prepared(a_gguf(tmp_path / "m.gguf", architecture=architecture), Form.OPENVINO)
    unpacked = prepared(tmp_path / "m.gguf", Form.SAFETENSORS)
    around = prepared(unpacked.path, Form.OPENVINO)
    weights = [(one.path / "openvino_model.bin").read_bytes() for one in (direct, around)]
    assert weights[0] == weights[1]
    assert around.manifest.precision == "int8, one scale a row"
    alike = ("architecture", "parameters", "layers", "width", "eos_token_ids", "special_tokens")
    for name in alike:
        assert getattr(around.manifest, name) == getattr(direct.manifest, name)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "mamba"}, "'mamba'; OpenVINO graphs are built of llama"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "stretched positions"),
        ({"rope_scaling": "yarn"}, "stretched positions"),
        ({"hidden_act": "gelu"}, "another activation"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised weights"),
        ({"num_attention_heads": 7, "head_dim": 32}, "7 heads cannot share"),
        ({"intermediate_size": None}, "does not describe a decoder"),
        ({"intermediate_size": 1 << 70}, "out of range"),
        ({"rms_norm_eps": 1e300}, "out of range"),
    ],
)
def test_openvino_is_not_built_of_what_it_would_compute_wrongly(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    unpacked = prepared(a_gguf(tmp_path / "m.gguf"), Form.SAFETENSORS)
    source = tmp_path / "changed"
    shutil.copytree(unpacked.path, source)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(PreparationError, match=words):
        prepared(source, Form.OPENVINO)


def test_a_gguf_that_would_be_unpacked_wrongly_is_refused(tmp_path: Path) -> None:
    source = a_gguf(tmp_path / "m.gguf")
    content = source.read_bytes()
    source.write_bytes(content.replace(b"blk.0.ffn_gate.weight", b"blk.0.ffn_gaze.weight"))
    with pytest.raises(PreparationError, match=r"'blk\.0\.ffn_gaze\.weight' that is not known"):
        prepared(source, Form.SAFETENSORS)


@pytest.mark.parametrize("form", [Form.GGUF, Form.SAFETENSORS])
def test_a_damaged_gguf_is_refused_in_every_form(tmp_path: Path, form: Form) -> None:
    source = a_gguf(tmp_path / "m.gguf")
    source.write_bytes(source.read_bytes()[:-1_000])
    with pytest.raises(PreparationError, match="beyond the file's end"):
        prepared(source, form)
    source.write_bytes(b"\x10" + bytes(200))
    with pytest.raises(PreparationError, match="begins with"):
        prepared(source, form)


ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}"


@pytest.mark.parametrize("form", list(Form))
def test_a_template_that_loops_is_stopped_in_every_form(tmp_path: Path, form: Form) -> None:
    source = tmp_path / "m"
    match form:
        case Form.GGUF:
            source = a_gguf(tmp_path / "m.gguf", template=ENDLESS)
        case Form.SAFETENSORS:
            a_checkpoint(source)
        case Form.ONNX:
            an_onnx_folder(source)
        case Form.OPENVINO:
            an_ir_folder(source)
        case _:
            assert_never(form)
    if source.is_dir():
        byte_level().save(str(source / TOKENIZER))
        (source / CHAT_TEMPLATE).write_text(ENDLESS)
    tokenizer = ModelTokenizer.load(prepared(source, form).path)
    with pytest.raises(Refused, match="more work than one prompt is allowed"):
        tokenizer.chat(turns("hello"))


@pytest.mark.model
@pytest.mark.slow
def test_the_default_model_says_in_transformers_what_its_gguf_says(default_model: str) -> None:
    torch = pytest.importorskip("torch", reason="needs forebay[transformers]")
    transformers = pytest.importorskip("transformers", reason="needs forebay[transformers]")
    plain, packed = (artefact_of(default_model, form) for form in (Form.SAFETENSORS, Form.GGUF))
    original = packed.path / "model.gguf"
    header = gguf.read_header(original)
    exact = {t.name: values for t, values in gguf.dequantised(original, header)}

    model = transformers.AutoModelForCausalLM.from_pretrained(plain.path, dtype=torch.float32)
    ids = torch.tensor([[1, 504, 3575, 282, 4649, 314]])
    with torch.no_grad():
        ours = model(ids).logits
        # The same network with the GGUF's own 32-bit numbers, through the library's own reader.
        reader = transformers.AutoModelForCausalLM.from_pretrained(
            packed.path, gguf_file="model.gguf", dtype=torch.float32
        )
        theirs = reader(ids).logits
    assert len(exact) == len(dict(model.named_parameters()))
    assert torch.equal(ours.argmax(-1), theirs.argmax(-1))
    assert float((ours - theirs).abs().max()) < 0.05  # rounding to 16 bits, in logits near 20
    assert json.loads((plain.path / "config.json").read_text())["tie_word_embeddings"] is True
