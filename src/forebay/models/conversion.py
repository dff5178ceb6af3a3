"""GGUF -> int8 OpenVINO IR, in a process of its own: `python -m forebay.models.conversion`.

A separate process, because the libraries are large and native: the server that starts after
the preparation does not carry their memory, and a crash inside them becomes a message.  It
writes one JSON object a line to stdout: how far it is, then the model's facts or the error.
"""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from forebay.engine.manifest import CHAT_TEMPLATE, TOKENIZER
from forebay.models import gguf, int8
from forebay.models.stages import PreparationError, Progress, Stage, Unit
from forebay.models.tokenizer_json import write_tokenizer

ARCHITECTURES: Final = ("llama", "qwen2", "qwen3")
"""Those whose graph OpenVINO GenAI builds from a GGUF."""

_SPACE_MARGIN_BYTES: Final = 64 << 20
_PEAK_BYTES_PER_WEIGHT: Final = 5  # F16 GGUF, F16 graph, int8 graph
_GRAPH: Final = "openvino_model.xml"


class Facts(msgspec.Struct, frozen=True, kw_only=True, tag="facts"):
    """What the manifest says of a model, as far as its weights and text rules tell."""

    context_tokens_max: int
    layers: int
    kv_heads: int
    head_size: int
    vocabulary_size: int
    eos_token_ids: tuple[int, ...]
    bos_token_id: int | None
    add_bos: bool
    special_tokens: dict[str, int]


class Moved(msgspec.Struct, frozen=True, kw_only=True, tag="moved"):
    """A stage has come further."""

    progress: Progress


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The model cannot be prepared."""

    message: str


Line = Facts | Moved | Failed
Emit = Callable[[Line], None]


def convert(source: Path, work: Path, emit: Emit) -> Facts:
    """Prepare the GGUF `source` into `work`/out; `work` is empty and ours."""
    header = gguf.read_header(source)
    architecture = header.text("general.architecture")
    if architecture not in ARCHITECTURES:
        raise PreparationError(
            f"The GGUF's architecture is {architecture[:32]!r}; supported are "
            f"{', '.join(ARCHITECTURES)}. Serve an OpenVINO IR of this model instead."
        )
    _require_space(header, work)
    out, middle = work / "out", work / "f16"
    out.mkdir()
    middle.mkdir()
    special = write_tokenizer(header, out / TOKENIZER)
    facts = _facts(header, special)
    if template := header.metadata.get("tokenizer.chat_template"):
        (out / CHAT_TEMPLATE).write_text(str(template), encoding="utf-8")
    model = middle / "model.gguf"
    gguf.write_f16(source, header, model, report=lambda done: emit(Moved(progress=done)))
    _build_graph(middle, emit)
    int8.compress(middle / _GRAPH, out / _GRAPH, _told(emit, Stage.COMPRESS, Unit.TENSORS))
    for path in middle.glob("openvino_*tokenizer.*"):
        shutil.move(path, out / path.name)
    shutil.rmtree(middle)
    return facts


def _told(emit: Emit, stage: Stage, unit: Unit) -> Callable[[int, int], None]:
    def tell(done: int, total: int) -> None:
        emit(Moved(progress=Progress(stage=stage, done=done, total=total, unit=unit)))

    return tell


def _require_space(header: gguf.GgufHeader, work: Path) -> None:
    weights = sum(tensor.elements for tensor in header.tensors)
    needed = weights * _PEAK_BYTES_PER_WEIGHT + _SPACE_MARGIN_BYTES
    free = shutil.disk_usage(work).free
    if free < needed:
        raise PreparationError(
            f"Preparing this model takes {needed / 1e6:,.0f} MB for a while and "
            f"{free / 1e6:,.0f} MB is free in the cache folder. Free some, or set another folder."
        )


def _build_graph(folder: Path, emit: Emit) -> None:
    """Have OpenVINO GenAI read the F16 GGUF; it saves graph and tokenizer beside it."""
    import openvino_genai  # noqa: PLC0415 - heavy

    tell = _told(emit, Stage.READ, Unit.STEPS)
    tell(0, 1)
    openvino_genai.LLMPipeline(str(folder / "model.gguf"), "CPU", enable_save_ov_model=True)
    (folder / "model.gguf").unlink()
    if not (folder / _GRAPH).is_file():
        raise PreparationError(
            "OpenVINO GenAI read the model but saved no graph. Check that the installed "
            "openvino-genai is the version that `pip install forebay[openvino]` asks for."
        )
    tell(1, 1)


def _facts(header: gguf.GgufHeader, special: dict[str, int]) -> Facts:
    prefix = header.text("general.architecture")
    heads = header.integer(f"{prefix}.attention.head_count")
    width = header.integer(f"{prefix}.embedding_length")
    if heads < 1:
        raise PreparationError(
            "The GGUF says that the model has no attention heads. Fetch it anew."
        )
    head_size = header.metadata.get(f"{prefix}.attention.key_length", width // heads)
    bos = header.metadata.get("tokenizer.ggml.bos_token_id")
    ends = {header.integer("tokenizer.ggml.eos_token_id")}
    # Chat models of this family end a turn with one token and a document with another.
    ends |= {special[text] for text in ("<|im_end|>", "<|endoftext|>") if text in special}
    return Facts(
        context_tokens_max=header.integer(f"{prefix}.context_length"),
        layers=header.integer(f"{prefix}.block_count"),
        kv_heads=header.integer(f"{prefix}.attention.head_count_kv"),
        head_size=int(str(head_size)),
        vocabulary_size=len(header.items("tokenizer.ggml.tokens")),
        eos_token_ids=tuple(sorted(ends)),
        bos_token_id=bos if isinstance(bos, int) else None,
        add_bos=header.metadata.get("tokenizer.ggml.add_bos_token") is True,
        special_tokens=special,
    )


def main() -> int:
    """Convert what the command line names: SOURCE.gguf WORK."""
    # Libraries write to stdout as they please; the lines of ours go to a descriptor of their own.
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def emit(line: Line) -> None:
        lines.write(msgspec.json.encode(line) + b"\n")

    try:
        emit(convert(Path(sys.argv[1]), Path(sys.argv[2]), emit))
    except PreparationError as error:
        emit(Failed(message=str(error)))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
