"""`engine: auto`: the best engine for a model, by its source, what is installed, and machine."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from forebay.engine.registry import EngineKind, find
from forebay.models import forms
from forebay.models.sources import FileSource, HubSource, PypiSource, Source
from forebay.models.stages import PreparationError

ON_CPU: Final = ("openvino", "llamacpp", "onnx", "transformers")
"""The best first, as measured on a CPU (docs/engines.md)."""
ON_GPU: Final = ("vllm", "transformers", "llamacpp", "openvino", "onnx")
"""The best first where there is an NVIDIA GPU."""
_GPU: Final = Path("/dev/nvidiactl")


def has_gpu() -> bool:
    """Whether there is an NVIDIA GPU with its driver."""
    return _GPU.exists()


def choose(source: Source, *, gpu: bool, runnable: Callable[[str], bool]) -> str:
    """Return the name of the engine for a source; raises `PreparationError` with what to install.

    Of a repository that is not fetched yet nobody knows what it holds: the best that is installed
    is tried, and says what it needs where that is something else.
    """
    installed = [name for name in (ON_GPU if gpu else ON_CPU) if runnable(name)]
    if not installed:
        raise PreparationError(
            "No engine library is installed. Run `pip install 'forebay[openvino]'`, or try "
            "--engine scripted, which needs none."
        )
    names = _files_of(source)
    for name in installed:
        if names is None or _makeable(name, names):
            return name
    return installed[0]  # it says what it needs, and who could load this


def _files_of(source: Source) -> Collection[str] | None:
    """Return the names of the files that a source holds; None where nobody knows yet."""
    match source:
        case PypiSource(path=path):
            return {Path(path).name}
        case HubSource(path=path):
            return None if path is None else {Path(path).name}
        case FileSource(path=path) if path.is_dir():
            return {file.name for file in path.iterdir()}
        case FileSource(path=path):
            return {path.name}


def _makeable(engine: str, names: Collection[str]) -> bool:
    kind = find(engine)
    if not isinstance(kind, EngineKind) or kind.form is None:
        return False
    try:
        forms.choose("The source", names, kind.form)
    except PreparationError:
        return False
    return True
