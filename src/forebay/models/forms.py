"""Which form of a model can be made from which: one table, and what to say where none can.

A source holds its weights in a `Form` too.  What is not in the table is not made: there is no
way back from OpenVINO or ONNX, and llama.cpp's own converter makes the best GGUFs.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final

from forebay.engine import registry
from forebay.engine.manifest import Form
from forebay.models.stages import PreparationError

SOURCES: Final[Mapping[Form, tuple[Form, ...]]] = MappingProxyType(
    {
        Form.OPENVINO: (Form.OPENVINO, Form.GGUF),
        Form.GGUF: (Form.GGUF,),
        Form.SAFETENSORS: (Form.SAFETENSORS, Form.GGUF),
        Form.ONNX: (Form.ONNX, Form.SAFETENSORS, Form.GGUF),
    }
)
"""Form wanted -> forms of a source that it is made from, the best first."""

DESCRIBED: Final[Mapping[Form, str]] = MappingProxyType(
    {
        Form.OPENVINO: "an OpenVINO IR (openvino_model.xml)",
        Form.GGUF: "a GGUF",
        Form.SAFETENSORS: "safetensors (config.json and *.safetensors)",
        Form.ONNX: "ONNX for onnxruntime-genai (genai_config.json and model.onnx)",
    }
)

_MARKS: Final[Mapping[str, Form]] = MappingProxyType(
    {
        "openvino_model.xml": Form.OPENVINO,
        "genai_config.json": Form.ONNX,
        "model.safetensors": Form.SAFETENSORS,
        "model.safetensors.index.json": Form.SAFETENSORS,
    }
)


def held(names: Collection[str]) -> set[Form]:
    """Return the forms that a folder with files of these names holds; a GGUF is one by itself."""
    return {form for name, form in _MARKS.items() if name in names}


def choose(where: str, held: Collection[Form], wanted: Form) -> Form:
    """Return which of the forms that a source holds `wanted` is made from.

    Raises `PreparationError` that says which engines can load this source.
    """
    for form in SOURCES[wanted]:
        if form in held:
            return form
    if not held:
        raise PreparationError(
            f"{where} has no weights that are opened here: {_listed(SOURCES[wanted])}. Pickles "
            "(.bin, .pt, .ckpt) run code when they are read and never are. Name a repository or "
            "folder that has: many models have a twin whose name ends in -GGUF, or -ov."
        )
    raise PreparationError(
        f"{where} has {_listed(sorted(held))}, and {wanted} is made from {_listed(SOURCES[wanted])}"
        f". {_advice(held)}"
    )


def _advice(held: Collection[Form]) -> str:
    makeable = {wanted for wanted, sources in SOURCES.items() if set(sources) & set(held)}
    engines = [name for name in registry.names() if _form_of(name) in makeable]
    if not engines:
        return "No engine that is installed can load it; name another source of this model."
    return f"Choose an engine that can load it (--engine {' or '.join(engines)}), or name another."


def _form_of(engine: str) -> Form | None:
    try:
        return registry.find(engine).form
    except ImportError:  # its library is not installed, so it cannot be chosen either
        return None


def _listed(forms: Collection[Form]) -> str:
    return " or ".join(DESCRIBED[form] for form in forms)
