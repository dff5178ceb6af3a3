"""Which form of a model can be made from which: one table, and what to say where none can.

A source holds its weights in a `Form` too.  What is not in the table is not made: there is no
way back from OpenVINO or ONNX, and llama.cpp's own converter makes the best GGUFs.
"""

from collections.abc import Collection, Mapping
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Final

from forebay.engine import registry
from forebay.engine.manifest import Form
from forebay.models.stages import PreparationError

SOURCES: Final[Mapping[Form, tuple[Form, ...]]] = MappingProxyType(
    {
        Form.OPENVINO: (Form.OPENVINO, Form.GGUF, Form.SAFETENSORS),
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

_PICKLE_SUFFIXES: Final = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
_SHOWN_MAX: Final = 8
_MARKS: Final[Mapping[str, Form]] = MappingProxyType(
    {
        "openvino_model.xml": Form.OPENVINO,
        "genai_config.json": Form.ONNX,
        "model.safetensors": Form.SAFETENSORS,
        "model.safetensors.index.json": Form.SAFETENSORS,
    }
)


def choose(where: str, names: Collection[str], wanted: Form) -> Form:
    """Return which of the forms that a source's files are in `wanted` is made from.

    Raises `PreparationError` that says which engines can load this source.
    """
    held = {form for name, form in _MARKS.items() if name in names}
    if any(name.endswith(".gguf") for name in names):
        held.add(Form.GGUF)
    for form in SOURCES[wanted]:
        if form in held:
            return form
    if not held:
        raise PreparationError(
            f"{where} has no weights that are opened here{_pickles(names)}. {wanted} is made from "
            f"{_listed(SOURCES[wanted])}. Name a repository or folder that has that: many models "
            "have a twin whose name ends in -GGUF, or -ov."
        )
    raise PreparationError(
        f"{where} has {_listed(sorted(held))}, and {wanted} is made from {_listed(SOURCES[wanted])}"
        f". {_advice(held)}"
    )


def one_gguf(where: str, names: Collection[str]) -> str:
    """Return the only GGUF among a source's files, or raise `PreparationError` with their names."""
    found = [name for name in sorted(names) if name.endswith(".gguf")]
    if len(found) == 1:
        return found[0]
    raise PreparationError(
        f"{where} has {len(found)} GGUF files, so one must be named. {offer(found)}"
    )


def offer(ggufs: Collection[str]) -> str:
    """Say how a GGUF is named, and which there are."""
    shown = ", ".join(name[:80] for name in list(ggufs)[:_SHOWN_MAX])
    return f"Name it (hf:ORG/REPO#FILE, file:/PATH); there are: {shown or 'none'}."


def _pickles(names: Collection[str]) -> str:
    found = [name for name in sorted(names) if PurePosixPath(name).suffix in _PICKLE_SUFFIXES]
    if not found:
        return ""
    shown = ", ".join(name[:80] for name in found[:_SHOWN_MAX])
    return f": {shown} are pickles, which run code when they are read and never are"


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
