"""A model from safetensors into torch: fitted into memory first, and never code of others.

What transformers would do silently is refused: weights that are missing and made up, code that
comes with a model, pickled weights, a download.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from forebay.engine.manifest import Manifest
from forebay.engine.protocol import CannotLoad
from forebay.engines.kv_memory import KvPlan, KvShape, KvWish, plan_kv
from forebay.engines.machine import read_machine
from forebay.engines.transformers_precision import (
    Numbers,
    Precision,
    TransformersConfig,
    settle,
)

_LIBRARY_BYTES: Final = 900 << 20
"""torch, transformers and a step's activations.  After loading 538 MB of weights 1,640 MB were in
RAM, what was touched of the KV memory included."""
_GPU_SHARE: Final = 0.9
"""Of a GPU's free memory after the model, what the KV memory takes unasked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model that is ready to compute."""

    model: Any
    """The library's."""
    numbers: Numbers
    shape: KvShape
    plan: KvPlan


def load(config: TransformersConfig, manifest: Manifest, folder: Path) -> Loaded:
    """Load a verified folder; raises CannotLoad with the fix, before memory is taken in vain."""
    import torch  # noqa: PLC0415 - heavy

    machine = read_machine()
    numbers = settle(config, machine)
    shape = KvShape.of(manifest, element_bytes=numbers.compute.itemsize)
    on_cpu = numbers.on_cpu
    free = machine.memory_bytes if on_cpu else torch.cuda.mem_get_info(numbers.device)[0]
    wish = KvWish(
        bytes_wanted=config.kv_cache_bytes,
        bytes_max=config.kv_cache_auto_bytes_max if on_cpu else free,
        share_max=config.kv_cache_auto_share_max if on_cpu else _GPU_SHARE,
        # Twice: a row that moves is there twice, and half of one may be unused.
        tokens_useful=2 * config.sequences_running_max * manifest.context_tokens_max,
        knob="transformers.kv_cache_bytes",
    )
    weights = int(manifest.parameters * numbers.weight_bytes)
    plan = plan_kv(shape, wish, free_bytes=free, reserved_bytes=weights + _LIBRARY_BYTES)
    torch.set_num_threads(config.threads or machine.processors)
    return Loaded(model=_model(folder, numbers), numbers=numbers, shape=shape, plan=plan)


def _model(folder: Path, numbers: Numbers) -> Any:  # noqa: ANN401 - the library's
    import transformers  # noqa: PLC0415 - heavy
    from safetensors import SafetensorError  # noqa: PLC0415 - heavy

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        model, report = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=numbers.compute,
            device_map={"": numbers.device},
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            # What the others must agree with; `BatchedModel.prove` changes over.
            attn_implementation="eager",
            output_loading_info=True,
            **_quantization(numbers),
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise CannotLoad(
            f"{folder} cannot be loaded: {type(error).__name__}, {str(error)[:500]}. It must be "
            "config.json and safetensors of an architecture that transformers itself knows."
        ) from error
    if lacking := sorted(map(str, report["missing_keys"])):
        raise CannotLoad(
            f"{folder} lacks {len(lacking)} tensors that its config.json asks for, first "
            f"{lacking[0]!r}. It is another model's, or not whole: run `forebay pull MODEL` again."
        )
    model.eval()
    model.requires_grad_(requires_grad=False)
    return model


def _quantization(numbers: Numbers) -> dict[str, Any]:
    """Return how the library is to quantize while it loads."""
    import transformers  # noqa: PLC0415 - heavy

    if numbers.precision is Precision.INT8:
        return {"quantization_config": transformers.BitsAndBytesConfig(load_in_8bit=True)}
    if numbers.precision is Precision.INT4:
        how = transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=numbers.compute,
        )
        return {"quantization_config": how}
    return {}
