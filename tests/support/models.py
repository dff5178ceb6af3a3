"""The default model where tests find it, and small models made for them."""

import json
from pathlib import Path

from forebay.engine.manifest import Form
from forebay.models.artefacts import Artefact
from forebay.models.catalogue import resolve
from forebay.models.preparation import prepare
from forebay.settings import ModelConfig

WIDTH, HEADS, LAYERS, CONTEXT = 64, 2, 2, 256
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def artefact_of(name: str, form: Form = Form.OPENVINO) -> Artefact:
    """Return a model that `forebay pull` has prepared, or prepare it."""
    cache = ModelConfig().folder()
    return prepare(resolve(name), form=form, cache=cache, progress=lambda _: None)


def a_gguf(
    path: Path,
    *,
    architecture: str = "llama",
    pre: str = "smollm",
    template: str = "{% for message in messages %}{{ message['content'] }}{% endfor %}",
) -> Path:
    """Write a whole, tiny, random language model; it speaks nonsense in bytes."""
    import numpy as np  # noqa: PLC0415 - heavy
    from gguf import GGUFWriter  # noqa: PLC0415 - heavy
    from tokenizers import pre_tokenizers  # noqa: PLC0415 - heavy

    tokens = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), "he", "ll"]
    writer = GGUFWriter(path, arch=architecture)
    writer.add_context_length(CONTEXT)
    writer.add_block_count(LAYERS)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(2 * WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(1)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)))
    writer.add_token_merges(["h e", "l l"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(template)
    rng = np.random.default_rng(7)
    shapes = {"token_embd.weight": (len(tokens), WIDTH), "output_norm.weight": (WIDTH,)}
    for layer in range(LAYERS):
        block = {
            "attn_norm": (WIDTH,),
            "attn_q": (WIDTH, WIDTH),
            "attn_k": (WIDTH // HEADS, WIDTH),
            "attn_v": (WIDTH // HEADS, WIDTH),
            "attn_output": (WIDTH, WIDTH),
            "ffn_norm": (WIDTH,),
            "ffn_gate": (2 * WIDTH, WIDTH),
            "ffn_up": (2 * WIDTH, WIDTH),
            "ffn_down": (WIDTH, 2 * WIDTH),
        }
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in block.items()}
    for name, shape in shapes.items():
        writer.add_tensor(name, rng.normal(0.0, 0.1, shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def an_ir_folder(folder: Path) -> Path:
    """Write a folder with the files of an OpenVINO IR; what is in them is not looked at."""
    folder.mkdir(parents=True)
    for name in ("model", "tokenizer", "detokenizer"):
        (folder / f"openvino_{name}.xml").write_text(f"<{name}/>")
        (folder / f"openvino_{name}.bin").write_bytes(name.encode() * 100)
    tokenizer = {"added_tokens": [{"id": 2, "content": "<|im_end|>", "special": True}]}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    config = {
        "max_position_embeddings": 2_048,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "hidden_size": 512,
        "vocab_size": 1_000,
        "eos_token_id": 2,
        "bos_token_id": 1,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    return folder
