"""Small folders of safetensors for the engine transformers, and LoRA adapters over them."""

from pathlib import Path
from typing import Any

from forebay.engine.manifest import FORMAT, Form, Manifest, file_sha256, write_manifest

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)


def a_llama(folder: Path, **changes: Any) -> Path:
    """Write a whole, tiny, random language model of the Llama family."""
    import transformers  # noqa: PLC0415 - heavy

    config = transformers.LlamaConfig(
        **{
            "vocab_size": len(SPECIAL) + 256,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 1_024,
            "bos_token_id": 1,
            "eos_token_id": 2,
        }
        | changes
    )
    return a_folder(folder, config)


def a_folder(folder: Path, config: Any) -> Path:
    """Write a random model of a configuration, and what a prepared folder holds beside it."""
    import torch  # noqa: PLC0415 - heavy
    import transformers  # noqa: PLC0415 - heavy

    torch.manual_seed(11)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                # Wide enough that tokens differ clearly in their odds.
                weight.normal_(0.0, 3.0 * weight.shape[-1] ** -0.5)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    a_tokenizer(folder / "tokenizer.json")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    count = sum(weight.numel() for weight in model.parameters())
    return finish(folder, config, parameters=count)


def a_tokenizer(path: Path) -> None:
    """Write a vocabulary of bytes."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers  # noqa: PLC0415 - heavy

    tokens = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer.save(str(path))


def finish(folder: Path, config: Any, *, parameters: int) -> Path:
    """Write the manifest of a folder that holds everything else."""
    files = sorted(path for path in folder.iterdir() if path.name != "manifest.json")
    heads = config.num_attention_heads
    manifest = Manifest(
        format=FORMAT,
        name="tiny",
        source="file:tiny",
        source_sha256="0" * 64,
        form=Form.SAFETENSORS,
        architecture=config.model_type,
        precision="float32",
        prepared_by="tests",
        parameters=parameters,
        weights_bytes=sum(path.stat().st_size for path in folder.glob("*.safetensors")),
        context_tokens_max=config.max_position_embeddings,
        width=config.hidden_size,
        layers=config.num_hidden_layers,
        kv_heads=getattr(config, "num_key_value_heads", heads),
        head_size=config.hidden_size // heads,
        vocabulary_size=config.vocab_size,
        eos_token_ids=(2,),
        bos_token_id=1,
        special_tokens={token: index for index, token in enumerate(SPECIAL)},
        files={path.name: file_sha256(path) for path in files},
    )
    write_manifest(folder, manifest)
    return folder


def a_lora(folder: Path, base: Path, *, seed: int, **settings: Any) -> Path:
    """Write a random adapter, strong enough to change what is said."""
    import peft  # noqa: PLC0415 - heavy
    import torch  # noqa: PLC0415 - heavy
    import transformers  # noqa: PLC0415 - heavy

    model = transformers.AutoModelForCausalLM.from_pretrained(base, use_safetensors=True)
    how = {"r": 4, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj", "down_proj"]} | settings
    wrapped = peft.get_peft_model(model, peft.LoraConfig(**how))
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if ".lora_" in name:
                weight.normal_(0.0, 0.3)
    wrapped.save_pretrained(folder)
    return folder
