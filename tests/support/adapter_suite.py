"""What every step engine with LoRA adapters promises (`Adaptable`), over a small Llama."""

from abc import abstractmethod
from pathlib import Path
from typing import Any

import pytest

from forebay.engine.protocol import Adaptable, CannotLoad, Feature, Refused, SequenceId
from tests.support.answers import Answer, a_prompt, answers, greedy
from tests.support.torch_models import a_lora


def two_adapters(base: Path, where: Path) -> dict[str, Path]:
    """Write two that say other things."""
    layers = {"target_modules": ["o_proj", "gate_proj"], "r": 2, "use_rslora": True}
    return {
        "french:1": a_lora(where / "one", base, seed=1),
        "french:v1.2": a_lora(where / "two", base, seed=2, **layers),
    }


class AdapterSuite:
    """Derive a class named `Test…`, beside fixtures `folder`, `adapters` (two) and `engine`."""

    exact = True
    """Whether the same request is answered with the same bits, whatever was cached."""

    @abstractmethod
    def held(self, engine: Any) -> int:
        """Return what grows with each adapter that is in memory."""

    def said(self, answer: Answer) -> tuple[list[int], list[float]]:
        return answer.token_ids, answer.logprobs if self.exact else []

    def test_two_adapters_and_the_plain_model_answer_side_by_side(
        self, engine: Adaptable, folder: Path, adapters: dict[str, Path]
    ) -> None:
        assert Feature.ADAPTERS in engine.info.supports
        prompt = a_prompt(40)
        (alone,) = answers(engine, (prompt, greedy(24)))
        for name, path in adapters.items():
            engine.load_adapter(name, path)
        names = ["", *adapters]
        together = answers(engine, *((prompt, greedy(24, adapter=name)) for name in names * 2))
        said = [answer.token_ids for answer in together]
        assert said[:3] == said[3:]
        assert said[0] == alone.token_ids
        assert said[1] == merged(folder, adapters["french:1"], prompt, 24)
        assert said[2] == merged(folder, adapters["french:v1.2"], prompt, 24)
        assert len({tuple(tokens) for tokens in said}) == 3

    def test_an_unloaded_adapter_serves_who_has_it_and_nobody_else(
        self, engine: Adaptable, adapters: dict[str, Path]
    ) -> None:
        engine.load_adapter("a", adapters["french:1"])
        (whole,) = answers(engine, (a_prompt(20), greedy(12, adapter="a")))
        engine.submit(SequenceId(1), a_prompt(20), greedy(12, adapter="a"))
        made = [token for output in engine.step() for token in output.token_ids]
        held = self.held(engine)
        engine.unload_adapter("a")
        engine.unload_adapter("a")
        with pytest.raises(Refused, match="no such adapter"):
            engine.submit(SequenceId(2), a_prompt(20), greedy(12, adapter="a"))
        assert self.held(engine) == held
        while engine.stats().running:
            made += [token for output in engine.step() for token in output.token_ids]
        assert made == whole.token_ids
        assert self.held(engine) < held

    def test_a_name_can_be_loaded_again_with_other_weights(
        self, engine: Adaptable, adapters: dict[str, Path]
    ) -> None:
        first, second = adapters.values()
        # Longer than a KV block, so that a prefix cache would remember the first weights.
        asked = (a_prompt(300), greedy(12, adapter="a"))
        engine.load_adapter("a", first)
        (old,) = answers(engine, asked)
        held = self.held(engine)
        engine.load_adapter("a", second)
        (new,) = answers(engine, asked)
        assert new.token_ids != old.token_ids
        engine.load_adapter("a", first)
        (again,) = answers(engine, asked)
        assert again.token_ids == old.token_ids
        assert self.held(engine) == held

    def test_loading_beside_running_sequences_leaves_them_unharmed(
        self, engine: Adaptable, adapters: dict[str, Path]
    ) -> None:
        engine.load_adapter("a", adapters["french:1"])
        asked = [(a_prompt(20), greedy(20, adapter=name)) for name in ("", "a")]
        alone = [answer.token_ids for answer in answers(engine, *asked)]
        for id, (prompt, how) in enumerate(asked):
            engine.submit(SequenceId(id), prompt, how)
        made: dict[int, list[int]] = {0: [], 1: []}
        step = 0
        while engine.stats().running + engine.stats().waiting:
            for output in engine.step():
                made[output.id] += output.token_ids
            step += 1
            if step == 5:
                engine.load_adapter("b", adapters["french:v1.2"])
            if step == 10:
                engine.unload_adapter("b")
        assert list(made.values()) == alone

    def refuses(
        self, engine: Adaptable, bad: Path, words: str, *, adapters: dict[str, Path]
    ) -> None:
        """Fail unless an adapter is refused in these words and leaves no trace."""
        engine.load_adapter("good", adapters["french:1"])
        asked = [(a_prompt(20), greedy(8, adapter=name, logprobs=True)) for name in ("", "good")]
        before = [self.said(answer) for answer in answers(engine, *asked)]
        held = self.held(engine)
        with pytest.raises(CannotLoad, match=words):
            engine.load_adapter("bad", bad)
        assert self.held(engine) == held
        assert [self.said(answer) for answer in answers(engine, *asked)] == before


def merged(folder: Path, adapter: Path, prompt: list[int], tokens: int) -> list[int]:
    """Return what transformers says with an adapter's weights added to the model's."""
    import peft  # noqa: PLC0415 - heavy
    import torch  # noqa: PLC0415 - heavy
    import transformers  # noqa: PLC0415 - heavy

    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    model = peft.PeftModel.from_pretrained(model, adapter).merge_and_unload()
    model.generation_config.eos_token_id = None
    how = transformers.GenerationConfig(max_new_tokens=tokens, do_sample=False, pad_token_id=0)
    with torch.inference_mode():
        made = model.generate(torch.tensor([prompt]), generation_config=how)
    return [int(token) for token in made[0, len(prompt) :]]
