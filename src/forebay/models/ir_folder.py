"""A folder with a finished OpenVINO IR: checked, copied, its facts read from its JSON files."""

from pathlib import Path
from typing import Final

from forebay.engine.manifest import TOKENIZER
from forebay.models.facts import Facts, of_config
from forebay.models.source_folder import SourceFolder
from forebay.models.stages import Progress, Report, Stage, Unit

_REQUIRED: Final = (
    *("openvino_model.xml", "openvino_model.bin", "config.json", TOKENIZER),
    *("openvino_tokenizer.xml", "openvino_tokenizer.bin"),
)
_OPTIONAL: Final = ("openvino_detokenizer.xml", "openvino_detokenizer.bin")
_KIND: Final = (
    "an OpenVINO IR with its tokenizer, as `optimum-cli export openvino` and openvino-tokenizers "
    "write them"
)


def take(source: SourceFolder, target: Path, report: Report) -> Facts:
    """Take what an engine needs from `source` into `target` and return the model's facts."""
    source.require(*_REQUIRED, kind=_KIND)
    names = [*_REQUIRED, *(name for name in _OPTIONAL if source.holds(name))]
    facts = of_config(source, precision="as exported", parameters=0)
    for done, name in enumerate(names, 1):
        if name != "config.json":
            source.take(name, target / name)
        total = len(names)
        report(Progress(stage=Stage.UNPACK, done=done, total=total, unit=Unit.STEPS))
    source.take_template(target)
    return facts
