"""Small files of weights, whole and broken, and the folders around them."""

import json
from pathlib import Path
from typing import Any

TENSOR: dict[str, Any] = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


def safetensors(header: Any, data: bytes = bytes(24)) -> bytes:
    """Return a file with this header, sound or not."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def zeros(shapes: dict[str, tuple[int, ...]], *, dtype: str = "F32") -> bytes:
    """Return a sound file of zeros."""
    size = {"F32": 4, "F16": 2, "BF16": 2, "I8": 1}[dtype]
    header, at = {}, 0
    for name, shape in shapes.items():
        count = size
        for number in shape:
            count *= number
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + count]}
        at += count
    return safetensors(header, bytes(at))


def a_checkpoint(folder: Path, *, shards: int = 1) -> Path:
    """Write a folder as transformers saves it; the weights are zeros."""
    folder.mkdir(parents=True)
    config = {
        "model_type": "llama",
        "max_position_embeddings": 512,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "hidden_size": 32,
        "vocab_size": 100,
        "eos_token_id": 2,
        "bos_token_id": 1,
        "auto_map": {"AutoModel": "modeling.Mine"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    special = {"id": 2, "content": "<|im_end|>", "special": True}
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": [special]}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    (folder / "modeling.py").write_text("raise SystemExit")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02")
    if shards == 1:
        (folder / "model.safetensors").write_bytes(zeros({"a": (4, 8), "b": (2,)}, dtype="BF16"))
        return folder
    index = {}
    for number in range(1, shards + 1):
        name = f"model-{number:05}-of-{shards:05}.safetensors"
        (folder / name).write_bytes(zeros({f"layer.{number}": (4, 8)}, dtype="BF16"))
        index[f"layer.{number}"] = name
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return folder


def field(number: int, content: bytes) -> bytes:
    """Return a protobuf field that has a length."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def an_onnx(*, location: str | None = None, offset: int = 0, length: int = 16) -> bytes:
    """Return an ONNX model of one tensor, within or beside the file, and one node."""
    if location is None:
        tensor = b"\x08\x04" + field(9, bytes(16))
    else:
        entries = {"location": location, "offset": str(offset), "length": str(length)}
        packed = [
            field(1, key.encode()) + field(2, value.encode()) for key, value in entries.items()
        ]
        tensor = b"\x08\x04" + b"".join(field(13, entry) for entry in packed) + b"\x70\x01"
    node = field(1, b"x") + field(4, b"Constant") + field(5, field(1, b"value") + field(5, tensor))
    return b"\x08\x0a" + field(7, field(1, node) + field(5, tensor) + field(2, b"graph"))


def an_onnx_folder(folder: Path, **beside: Any) -> Path:
    """Write a folder as onnxruntime-genai's model builder does."""
    folder.mkdir(parents=True)
    decoder = {
        "session_options": {"custom_ops_library": "/elsewhere/evil.so", "provider_options": []},
        "filename": "model.onnx",
        "head_size": 8,
        "hidden_size": 32,
        "inputs": {"input_ids": "input_ids"},
        "outputs": {"logits": "logits"},
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
    }
    model = {
        "type": "llama",
        "context_length": 512,
        "vocab_size": 100,
        "eos_token_id": [2, 3],
        "bos_token_id": 1,
        "decoder": decoder,
    }
    config = {"model": model, "search": {"max_length": 512}}
    (folder / "genai_config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": []}))
    (folder / "model.onnx").write_bytes(an_onnx(**{"location": "model.onnx.data", **beside}))
    (folder / "model.onnx.data").write_bytes(bytes(16))
    return folder


def an_adapter(folder: Path, **changes: Any) -> Path:
    """Write a LoRA of rank 4 for `a_checkpoint`, as PEFT saves it."""
    folder.mkdir(parents=True)
    config = {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj", "v_proj"],
        "base_model_name_or_path": "somewhere/base",
        **changes,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes(zeros(adapter_shapes()))
    return folder


def adapter_shapes(layers: int = 2, rank: int = 4) -> dict[str, tuple[int, ...]]:
    """Return the shapes in a LoRA for `a_checkpoint`."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(layers):
        for module, outputs in (("q_proj", 32), ("v_proj", 16)):
            name = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            shapes[f"{name}.lora_A.weight"] = (rank, 32)
            shapes[f"{name}.lora_B.weight"] = (outputs, rank)
    return shapes
