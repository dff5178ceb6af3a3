"""From one form of weights to another, in a process of its own.

`python -m forebay.models.conversion FROM TO SOURCE WORK ours|theirs`.  A separate process,
because the libraries are large and native: the server that starts after the preparation does
not carry their memory, and a crash inside them becomes a message.  It writes one JSON object a
line to stdout: how far it is, then the model's facts or the error.
"""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, assert_never

import msgspec

from forebay.engine.manifest import TOKENIZER, Form
from forebay.models import dequantised, gguf, gguf_folder, gguf_writing, int8, onnx_conversion
from forebay.models.checkpoint_folder import check, shard_names
from forebay.models.facts import Facts
from forebay.models.precisions import OFFERED, Precision
from forebay.models.source_folder import SourceFolder
from forebay.models.space import require_space
from forebay.models.stages import PreparationError, Progress, Stage, Unit

_SPACE_MARGIN_BYTES: Final = 64 << 20
_PEAK_BYTES_PER_WEIGHT: Final = 5  # OpenVINO: F16 GGUF, F16 graph, int8 graph
_GRAPH: Final = "openvino_model.xml"


class Moved(msgspec.Struct, frozen=True, kw_only=True, tag="moved"):
    """A stage has come further."""

    progress: Progress


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The model cannot be prepared."""

    message: str


Line = Facts | Moved | Failed
Emit = Callable[[Line], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """What is to be made of what."""

    source: Path
    held: Form
    """The form of the source."""
    form: Form
    """The form that is made."""
    precision: str = ""
    """What it is made in; empty: the form's default."""
    work: Path
    """A folder that is ours; what is made goes to its `out`."""
    ours: bool
    """Whether the source lies in the cache, where nobody else changes it."""
    emit: Emit

    @property
    def out(self) -> Path:
        """Where the prepared files go."""
        return self.work / "out"

    def teller(self, stage: Stage, unit: Unit = Unit.TENSORS) -> Callable[[int, int], None]:
        """Return what is told (done, of how many)."""

        def tell(done: int, total: int) -> None:
            self.emit(Moved(progress=Progress(stage=stage, done=done, total=total, unit=unit)))

        return tell


def convert(making: Making) -> Facts:
    """Make a prepared model of `making.source`, or raise `PreparationError`."""
    making.out.mkdir()
    match making.form:
        case Form.GGUF:
            return gguf_folder.take(making.source, making.out, ours=making.ours)
        case Form.OPENVINO:
            return _to_openvino(making)
        case Form.SAFETENSORS:
            return _to_safetensors(making, making.out)
        case Form.ONNX:
            return _to_onnx(making)
        case _:
            assert_never(making.form)


def _to_onnx(making: Making) -> Facts:
    folder = SourceFolder(making.source, ours=making.ours)
    if making.held is Form.GGUF:
        middle = making.work / "safetensors"
        middle.mkdir()
        _to_safetensors(making, middle)
        folder = SourceFolder(middle, ours=True)
    tell = making.teller(Stage.READ, Unit.STEPS)
    precision = Precision(making.precision or OFFERED[Form.ONNX][0])
    facts = onnx_conversion.convert(folder, making.out, precision=precision, tell=tell)
    if making.held is Form.GGUF:
        shutil.rmtree(folder.path)
    return facts


def _to_safetensors(making: Making, out: Path) -> Facts:
    header = gguf.read_header(making.source)
    require_space(making.work, dequantised.size_bytes(header) + _SPACE_MARGIN_BYTES)
    facts = gguf_folder.write_text(header, out)
    tell, total = making.teller(Stage.DEQUANTISE), len(header.tensors)
    dequantised.write(making.source, header, facts, target=out, tell=lambda done: tell(done, total))
    return msgspec.structs.replace(facts, precision=f"{facts.precision}, unpacked")


def _to_openvino(making: Making) -> Facts:
    middle = making.work / "f16"
    middle.mkdir()
    facts = _to_f16(making, middle / "model.gguf")
    out = making.out
    _build_graph(middle, making.teller(Stage.READ, Unit.STEPS))
    int8.compress(middle / _GRAPH, out / _GRAPH, making.teller(Stage.COMPRESS))
    for path in middle.glob("openvino_*tokenizer.*"):
        shutil.move(path, out / path.name)
    shutil.rmtree(middle)
    return msgspec.structs.replace(facts, precision="int8, one scale a row")


def _to_f16(making: Making, target: Path) -> Facts:
    """Write the GGUF that OpenVINO GenAI reads, and the text rules to where they stay."""

    def report(done: Progress) -> None:
        making.emit(Moved(progress=done))

    if making.held is Form.SAFETENSORS:
        folder = SourceFolder(making.source, ours=making.ours)
        _require_room(making, sum(t.elements for t in check(folder, shard_names(folder))))
        facts = gguf_writing.write(folder, target, report=report)
        folder.take(TOKENIZER, making.out / TOKENIZER)
        folder.take_template(making.out)
        return facts
    header = gguf.read_header(making.source)
    architecture = header.text("general.architecture")
    if architecture not in gguf_writing.ARCHITECTURES:
        raise PreparationError(
            f"The GGUF's architecture is {architecture[:32]!r}; supported are "
            f"{', '.join(gguf_writing.ARCHITECTURES)}. Serve an OpenVINO IR of this model instead."
        )
    _require_room(making, sum(tensor.elements for tensor in header.tensors))
    facts = gguf_folder.write_text(header, making.out)
    gguf.write_f16(making.source, header, target, report=report)
    return facts


def _require_room(making: Making, weights: int) -> None:
    require_space(making.work, weights * _PEAK_BYTES_PER_WEIGHT + _SPACE_MARGIN_BYTES)


def _build_graph(folder: Path, tell: Callable[[int, int], None]) -> None:
    """Have OpenVINO GenAI read the F16 GGUF; it saves graph and tokenizer beside it."""
    import openvino_genai  # noqa: PLC0415 - heavy

    tell(0, 1)
    openvino_genai.LLMPipeline(str(folder / "model.gguf"), "CPU", enable_save_ov_model=True)
    (folder / "model.gguf").unlink()
    if not (folder / _GRAPH).is_file():
        raise PreparationError(
            "OpenVINO GenAI read the model but saved no graph. Check that the installed "
            "openvino-genai is the version that `pip install forebay[openvino]` asks for."
        )
    tell(1, 1)


def main() -> int:
    """Convert what the command line names."""
    # Libraries write to stdout as they please; the lines of ours go to a descriptor of their own.
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def emit(line: Line) -> None:
        lines.write(msgspec.json.encode(line) + b"\n")

    held, form, precision, source, work, owner = sys.argv[1:]
    making = Making(
        source=Path(source),
        held=Form(held),
        form=Form(form),
        precision=precision,
        work=Path(work),
        ours=owner == "ours",
        emit=emit,
    )
    try:
        emit(convert(making))
    except PreparationError as error:
        emit(Failed(message=str(error)))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
