"""A GGUF as llama.cpp loads it: the file itself, with its text rules beside it."""

from collections import Counter
from pathlib import Path
from typing import Final

from forebay.engine.manifest import CHAT_TEMPLATE, TOKENIZER
from forebay.models import gguf
from forebay.models.facts import Facts
from forebay.models.source_folder import give
from forebay.models.stages import PreparationError
from forebay.models.tokenizer_json import write_tokenizer

WEIGHTS: Final = "model.gguf"


def take(source: Path, target: Path, *, ours: bool) -> Facts:
    """Put a GGUF and its text rules into `target`; its header is sound, or it is refused."""
    header = gguf.read_header(source)
    facts = write_text(header, target)
    give(source.resolve(), target / WEIGHTS, ours=ours)
    return facts


def write_text(header: gguf.GgufHeader, target: Path) -> Facts:
    """Write tokenizer and chat template of a GGUF, and return its facts."""
    special = write_tokenizer(header, target / TOKENIZER)
    facts = _facts(header, special)
    if template := header.metadata.get("tokenizer.chat_template"):
        (target / CHAT_TEMPLATE).write_text(str(template), encoding="utf-8")
    return facts


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
        architecture=prefix[:32],
        precision=_precision(header),
        parameters=sum(tensor.elements for tensor in header.tensors),
        context_tokens_max=header.integer(f"{prefix}.context_length"),
        layers=header.integer(f"{prefix}.block_count"),
        width=width,
        kv_heads=header.integer(f"{prefix}.attention.head_count_kv"),
        head_size=int(str(head_size)),
        vocabulary_size=len(header.items("tokenizer.ggml.tokens")),
        eos_token_ids=tuple(sorted(ends)),
        bos_token_id=bos if isinstance(bos, int) else None,
        add_bos=header.metadata.get("tokenizer.ggml.add_bos_token") is True,
        special_tokens=special,
    )


def _precision(header: gguf.GgufHeader) -> str:
    """Return the name of the type that most of the weights have."""
    counts: Counter[int] = Counter()
    for tensor in header.tensors:
        counts[tensor.type] += tensor.elements
    if not counts:
        raise PreparationError("The GGUF holds no weights. Fetch it anew; some files are halves.")
    return gguf.type_name(counts.most_common(1)[0][0])
