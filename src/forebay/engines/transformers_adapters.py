"""LoRA adapters over a model in torch, many in one batch: PEFT's own layers, chosen per token.

PEFT lets each item of a batch name its adapter.  A step's items are tokens (see
`transformers_attention`), so sequences with different adapters read together.  An adapter file
is compared with the model before anything is laid over it: PEFT itself would replace layers
first and fail after, or take what fits by name alone.
"""

import itertools
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from forebay.engine.protocol import CannotLoad
from forebay.engines.folder_json import read_json
from forebay.engines.named_adapters import NamedAdapters

_CONFIG: Final = "adapter_config.json"
_WEIGHTS: Final = "adapter_model.safetensors"
_PICKLE: Final = "adapter_model.bin"
_RANK_MAX: Final = 1_024
_NONE: Final = "__base__"
"""PEFT's word for no adapter."""
_KEY: Final = re.compile(r"base_model\.model\.([\w.]+)\.lora_([AB])\.weight")
_PLAIN_KEY: Final = re.compile(r"[\w.]{1,200}")

_UNUSUAL: Final[Mapping[str, Any]] = {
    "use_dora": False,
    "bias": "none",
    "lora_bias": False,
    "modules_to_save": None,
    "target_parameters": None,
    "trainable_token_indices": None,
    "alora_invocation_tokens": None,
}
"""Settings that PEFT cannot mix in one batch, or that change the model itself: as they must be."""


@dataclass(frozen=True, slots=True)
class AdapterLimits:
    """How much room adapters may take."""

    count_max: int
    file_bytes_max: int


class Adapters(NamedAdapters[str]):
    """The adapters over one model, each by a name within the model that is never used twice."""

    def __init__(self, model: Any, limits: AdapterLimits) -> None:  # noqa: ANN401 - the library's
        """Begin with none."""
        super().__init__(engine="transformers", count_max=limits.count_max)
        self._model = model
        self._limits = limits
        # All mutable state, beside the names'.
        self._numbers = itertools.count(1)
        self._hooked: set[Any] = set()
        self._tokens: Sequence[str] | None = None
        """The adapter of each token of the present pass; None: nobody has one."""

    def choose(self, tokens: Sequence[str]) -> None:
        """Say which adapter each token of the next pass has, by inner name; empty: none."""
        self._tokens = [name or _NONE for name in tokens] if any(tokens) else None

    def load(self, name: str, folder: Path) -> None:
        """Lay an adapter over the model; the one that had its name before is asked no more."""
        self._require_room(name)
        config = _read_config(folder)
        tensors = _read_tensors(folder, self._limits.file_bytes_max)
        ranks = _compare(folder, tensors, self._model)
        inner = f"adapter{next(self._numbers)}"
        self._inject(inner, config=config, ranks=ranks, tensors=tensors)
        self._give(name, inner)

    def _inject(
        self,
        inner: str,
        *,
        config: Mapping[str, Any],
        ranks: Mapping[str, int],
        tensors: Mapping[str, Any],
    ) -> None:
        import peft  # noqa: PLC0415 - heavy

        how = peft.LoraConfig(
            r=max(ranks.values()),
            rank_pattern=dict(ranks),
            lora_alpha=config.get("lora_alpha", 8),
            alpha_pattern=config.get("alpha_pattern") or {},
            use_rslora=bool(config.get("use_rslora")),
            fan_in_fan_out=bool(config.get("fan_in_fan_out")),
            target_modules=sorted(ranks),
            lora_dropout=0.0,
            init_lora_weights=False,
        )
        with warnings.catch_warnings():
            # It warns of several adapters over one model, which are wanted here.
            warnings.simplefilter("ignore")
            peft.inject_adapter_in_model(how, self._model, inner)
        result = peft.set_peft_model_state_dict(self._model, dict(tensors), inner)
        assert not result.unexpected_keys, "compared before"
        for module in self._model.modules():
            if isinstance(module, peft.tuners.lora.LoraLayer):
                # Nothing is laid over a token that names no adapter.
                module.set_adapter([])
                if module not in self._hooked:
                    self._hooked.add(module)
                    module.register_forward_pre_hook(self._name, with_kwargs=True)
        self._model.requires_grad_(requires_grad=False)
        self._model.eval()

    def _name(self, _module: Any, args: Any, kwargs: dict[str, Any]) -> Any:  # noqa: ANN401 - the library's
        """Tell a layer whose token is whose."""
        if self._tokens is None:
            return None
        return args, kwargs | {"adapter_names": self._tokens}

    def _drop(self, adapter: str) -> None:
        from peft.tuners.tuners_utils import delete_adapter  # noqa: PLC0415 - heavy

        delete_adapter(self._model, adapter, "lora_")
        getattr(self._model, "peft_config", {}).pop(adapter, None)


def _read_config(folder: Path) -> Mapping[str, Any]:
    """Read `adapter_config.json`, and refuse what is not a plain LoRA."""
    path = folder / _CONFIG
    try:
        config: Mapping[str, Any] = read_json(path, dict[str, Any])
    except ValueError as error:
        raise CannotLoad(f"{error} Save the adapter again with PEFT's save_pretrained.") from error
    if (found := config.get("peft_type")) != "LORA":
        raise CannotLoad(f"{path}: peft_type is {str(found)[:50]!r}; only LORA can be loaded.")
    for setting, plain in _UNUSUAL.items():
        if (config.get(setting) or plain) != plain:
            raise CannotLoad(
                f"{path}: {setting} is set, and adapters with it cannot share a batch. "
                "Train a plain LoRA."
            )
    alpha, patterns = config.get("lora_alpha", 8), config.get("alpha_pattern") or {}
    numbers = [alpha, *patterns.values()] if isinstance(patterns, dict) else [None]
    if not all(isinstance(one, int | float) for one in numbers):
        raise CannotLoad(f"{path}: lora_alpha and alpha_pattern must be numbers.")
    if not all(_PLAIN_KEY.fullmatch(key) for key in patterns):
        raise CannotLoad(f"{path}: alpha_pattern must name layers, not patterns of names.")
    return config


def _read_tensors(folder: Path, bytes_max: int) -> Mapping[str, Any]:
    import safetensors  # noqa: PLC0415 - heavy
    from safetensors.torch import load_file  # noqa: PLC0415 - heavy

    path = folder / _WEIGHTS
    if not path.is_file():
        pickled = (folder / _PICKLE).is_file()
        raise CannotLoad(
            f"{folder / _PICKLE} is a pickle, which runs code when it is read; it never is. Save "
            "the adapter with safe_serialization=True."
            if pickled
            else f"{folder} lacks {_WEIGHTS}. Save the adapter again with PEFT's save_pretrained."
        )
    if path.stat().st_size > bytes_max:
        raise CannotLoad(
            f"{path} has {path.stat().st_size} bytes; transformers.adapter_bytes_max is "
            f"{bytes_max}."
        )
    try:
        tensors: Mapping[str, Any] = load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise CannotLoad(
            f"{path} is not a whole safetensors file ({str(error)[:200]}). Copy it again."
        ) from error
    return tensors


def _compare(folder: Path, tensors: Mapping[str, Any], model: Any) -> dict[str, int]:  # noqa: ANN401 - the library's
    """Return the rank of each layer's part, or refuse an adapter that is not of this model."""
    shapes: dict[str, dict[str, Sequence[int]]] = {}
    for key, tensor in tensors.items():
        found = _KEY.fullmatch(key)
        if found is None:
            raise CannotLoad(f"{folder}: {key[:200]!r} is not a part of a LoRA on a linear layer.")
        shapes.setdefault(found[1], {})[found[2]] = tensor.shape
        if not bool(tensor.isfinite().all()):
            raise CannotLoad(f"{folder}: {key[:200]!r} holds numbers that are not finite.")
    if not shapes:
        raise CannotLoad(f"{folder / _WEIGHTS} holds no tensors.")
    layers = dict(model.named_modules())
    head = next(name for name, layer in layers.items() if layer is model.get_output_embeddings())
    ranks = {}
    for name, pair in shapes.items():
        layer = layers.get(name)
        if layer is None or name == head or not hasattr(layer, "weight"):
            raise CannotLoad(
                f"{folder}: this model has no linear layer {name[:200]!r} that takes an adapter. "
                "It was trained for another base."
            )
        takes, gives = _size(layer)
        rank = pair["A"][0] if pair.get("A") else 0
        if not 1 <= rank <= _RANK_MAX or pair != {"A": (rank, takes), "B": (gives, rank)}:
            sizes = {part: tuple(shape) for part, shape in pair.items()}
            raise CannotLoad(
                f"{folder}: {name[:200]!r} has parts of {sizes}, and the model's layer takes "
                f"{takes} and gives {gives}. It was trained for another base."
            )
        ranks[name] = rank
    return ranks


def _size(layer: Any) -> tuple[int, int]:  # noqa: ANN401 - the library's
    """Return how many numbers a linear layer takes and gives."""
    if hasattr(layer, "in_features"):
        return layer.in_features, layer.out_features
    return layer.nx, layer.nf  # GPT-2's own kind
