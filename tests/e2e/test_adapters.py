"""A checked adapter does in PEFT what it did before; by the real library."""

from pathlib import Path

import pytest

from forebay.engine.manifest import read_manifest
from forebay.models.adapters import open_adapter

torch = pytest.importorskip("torch", reason="needs forebay[transformers]")
peft = pytest.importorskip("peft", reason="needs forebay[transformers]")


def test_an_adapter_says_the_same_after_its_configuration_was_written_anew(tmp_path: Path) -> None:
    import transformers  # noqa: PLC0415 - heavy

    from tests.support.torch_models import a_llama, a_lora  # noqa: PLC0415 - heavy

    base = a_llama(tmp_path / "base")
    adapter = a_lora(tmp_path / "mine", base, seed=3, rank_pattern={"down_proj": 2})
    found = open_adapter(f"file:{adapter}", read_manifest(base), cache=tmp_path / "cache")
    assert found.rank == 4

    def logits(folder: Path | None) -> object:
        model = transformers.AutoModelForCausalLM.from_pretrained(base, use_safetensors=True)
        if folder is not None:
            model = peft.PeftModel.from_pretrained(model, folder)
        with torch.no_grad():
            return model(torch.tensor([[5, 6, 7, 8]])).logits

    assert torch.equal(logits(found.path), logits(adapter))
    assert not torch.equal(logits(found.path), logits(None))
