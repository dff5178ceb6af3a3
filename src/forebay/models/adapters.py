"""LoRA adapters: a folder with adapter_config.json and adapter_model.safetensors, checked.

The configuration is written anew from what was checked: libraries read parts of it as regular
expressions, and other parts as names to import.  The prepared folder is what PEFT loads.
"""

import hashlib
import math
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from forebay.engine.manifest import Manifest, file_sha256
from forebay.models import hub
from forebay.models.adapter_shapes import Pair, read_pairs, require_fit
from forebay.models.artefacts import held, stamp
from forebay.models.source_folder import SourceFolder, read_json
from forebay.models.sources import FileSource, HubSource, parse
from forebay.models.space import require_space
from forebay.models.stages import PreparationError, Progress

CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"
_FACTS: Final = "adapter.json"
_FORMAT: Final = 1
_KEY_CHARACTERS: Final = 16
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.]{1,200}")
_KIND: Final = f"a LoRA adapter as PEFT saves it: {CONFIG} and {WEIGHTS}"
_CHANGED_BASE: Final = ("pissa", "olora", "corda", "loftq")
"""Ways to begin training that change the base's own weights, which are not in the adapter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterArtefact:
    """A checked adapter: a folder that PEFT loads, and its facts."""

    path: Path
    sha256: str
    """Of its weights."""
    rank: int
    """The largest of its matrices' ranks."""
    base_name: str
    """What it says that it was trained on; empty where it says nothing."""


class _Facts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: int
    source: str
    base_name: str
    files: dict[str, str]


def open_adapter(
    source: str,
    base: Manifest,
    *,
    cache: Path,
    progress: Callable[[Progress], None] = lambda _: None,
    hub_endpoint: str | None = None,
) -> AdapterArtefact:
    """Return the adapter at `hf:ORG/REPO` or `file:/FOLDER`, taken into the cache if need be.

    Raises `PreparationError`: no adapter, another kind than LoRA, unsafe, or for another base.
    """
    try:
        place = _place(cache, source)
        if not place.exists():
            with held(cache / "locks" / place.name, progress):
                if not place.exists():
                    _prepare(source, place, progress=progress, hub_endpoint=hub_endpoint)
        return _open(place, base)
    except OSError as error:
        raise PreparationError(
            f"The adapter cannot be read or kept ({error.strerror or type(error).__name__}: "
            f"{error.filename}). Check the folder and the cache's room and rights."
        ) from error


def _place(cache: Path, source: str) -> Path:
    parsed = parse(source)
    if isinstance(parsed, FileSource) and not parsed.path.is_dir():
        raise PreparationError(f"There is no folder {parsed.path}. It must be {_KIND}.")
    text = msgspec.json.encode([str(_FORMAT), source, *stamp(parsed)])
    return cache / "adapters" / hashlib.sha256(text).hexdigest()[:_KEY_CHARACTERS]


def _open(place: Path, base: Manifest) -> AdapterArtefact:
    facts = read_json(place / _FACTS, _Facts)
    changed = [name for name, digest in facts.files.items() if file_sha256(place / name) != digest]
    if changed:
        raise PreparationError(
            f"{place / changed[0]} was changed after it was checked. Remove the folder; the "
            "adapter is taken again when it is next asked for."
        )
    pairs = read_pairs(place / WEIGHTS)
    _require_name(facts.base_name, base)
    require_fit(pairs, base)
    return AdapterArtefact(
        path=place,
        sha256=facts.files[WEIGHTS],
        rank=max(pair.rank for pair in pairs),
        base_name=facts.base_name,
    )


def _prepare(
    source: str,
    place: Path,
    *,
    progress: Callable[[Progress], None],
    hub_endpoint: str | None,
) -> None:
    work = place.parent / f"{place.name}.work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        match parse(source):
            case FileSource(path=path):
                folder = SourceFolder(path, ours=False)
            case HubSource() as repository:
                names = (CONFIG, WEIGHTS)
                listing = hub.list_named(repository, endpoint=hub_endpoint, names=names)
                fetched = work / "fetched"
                fetched.mkdir()
                require_space(fetched, listing.size_bytes)
                hub.fetch(listing, endpoint=hub_endpoint, folder=fetched, report=progress)
                folder = SourceFolder(fetched, ours=True)
            case _:
                raise PreparationError("An adapter comes from hf:ORG/REPO or file:/FOLDER.")
        out = work / "out"
        out.mkdir()
        _take(folder, out, source)
        out.rename(place)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _take(folder: SourceFolder, out: Path, source: str) -> None:
    folder.require(CONFIG, kind=_KIND)
    if not folder.holds(WEIGHTS):
        raise PreparationError(
            f"The folder has no {WEIGHTS}. A pickle (adapter_model.bin) runs code when it is read "
            "and never is: save the adapter again with save_pretrained(safe_serialization=True)."
        )
    pairs = read_pairs(folder.file(WEIGHTS))
    config = folder.json(CONFIG)
    content = msgspec.json.encode(_config(config, pairs))
    (out / CONFIG).write_bytes(msgspec.json.format(content) + b"\n")
    folder.take(WEIGHTS, out / WEIGHTS)
    named = config.get("base_model_name_or_path")
    facts = _Facts(
        format=_FORMAT,
        source=source,
        base_name=named[:200] if isinstance(named, str) else "",
        files={name: file_sha256(out / name) for name in (CONFIG, WEIGHTS)},
    )
    (out / _FACTS).write_bytes(msgspec.json.encode(facts))


def _config(config: Mapping[str, Any], pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return what PEFT needs to know, or raise `PreparationError`."""
    kind = config.get("peft_type")
    if kind != "LORA":
        raise PreparationError(f"{CONFIG} says peft_type {str(kind)[:32]!r}; LORA alone is loaded.")
    begun = str(config.get("init_lora_weights", "")).lower()
    if begun.startswith(_CHANGED_BASE) or config.get("layer_replication"):
        raise PreparationError(
            f"{CONFIG} says that training changed the base model itself (init_lora_weights "
            f"{begun[:32]!r}, or layer_replication). Convert it to plain LoRA with PEFT."
        )
    rank, alpha = _number(config, "r"), _number(config, "lora_alpha")
    ranks = {pair.module: pair.rank for pair in pairs if pair.rank != rank}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "inference_mode": True,
        "r": max(1, int(rank)),
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": config.get("fan_in_fan_out") is True,
        "use_rslora": config.get("use_rslora") is True,
        "target_modules": sorted({pair.module for pair in pairs}),
        "rank_pattern": ranks,
        "alpha_pattern": _pattern(config.get("alpha_pattern")),
        "base_model_name_or_path": None,
    }


def _pattern(found: object) -> dict[str, float]:
    """Return scales by module; the keys are regular expressions to PEFT, so they must be plain."""
    if not found:
        return {}
    if not isinstance(found, dict) or not all(
        _PLAIN.fullmatch(str(key)) and _is_number(value) for key, value in found.items()
    ):
        raise PreparationError(f"{CONFIG} has an alpha_pattern that is no list of modules.")
    return {str(key): value for key, value in found.items()}


def _number(config: Mapping[str, Any], key: str) -> float:
    value: float | None = config.get(key)
    if value is None or not _is_number(value):
        raise PreparationError(f"{CONFIG} has no number {key!r}. Fetch the adapter again.")
    return value


def _is_number(value: Any) -> bool:  # noqa: ANN401 - JSON that nobody checked
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return plain and math.isfinite(value)


def _require_name(named: str, base: Manifest) -> None:
    """Refuse another base's name, where both names are of a hub; a folder's says nothing."""
    if named.count("/") != 1 or named.startswith(("/", ".", "~")):
        return
    if not base.source.startswith(("hf:", "pypi:")):
        return
    theirs = _letters(named.partition("/")[2])
    ours = {_letters(base.name), _letters(base.source.partition(":")[2])}
    if not any(theirs in name or name in theirs for name in ours):
        raise PreparationError(
            f"The adapter was trained on {named[:96]!r}, and this model is {base.name} "
            f"({base.source[:96]}). Serve it on its own base."
        )


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
