"""The page of every setting, read from the knobs."""

from collections.abc import Iterator, Mapping
from itertools import groupby

from forebay.settings.aliases import aliases_of
from forebay.settings.loading import sections, shown
from forebay.settings.offers import NAMED
from forebay.settings.sections import Setting, settings_of
from forebay.settings.sources import variable

_HEAD = """\
# Configuration

A setting comes from the strongest of: its default, `--config forebay.yaml`, the environment,
`--set key=value`, and flags of its own (`--port`). `forebay config` prints every effective value
and where it came from. An unknown key or a value out of bounds stops the start, names the place,
and says what would fit.

```yaml
# forebay.yaml
admission:
  wait_s_max: 2
```

is the same as `FOREBAY_ADMISSION__WAIT_S_MAX=2` and `--set admission.wait_s_max=2`.
`FOREBAY_CONFIG` may name the file.

Several models are served by a section each under `models`; without one, `model.name` is served:

```yaml
residency:
  loaded_max: 2
models:
  chat:
    source: smollm2-135m-instruct
    aliases: [gpt-4o-mini]
    versions:
      polite: file:/adapters/polite  # asked for as chat:polite
  coder:
    source: hf:org/repo
    preload: false  # loaded when it is asked for
```

A running server reads the file and its environment again on SIGHUP and on `POST /admin/reload`.
What is *live* below is applied at once; a change of anything else is refused by name, and takes a
restart. Where anything is wrong, nothing is changed.

Some settings have a second variable, an *alias*, that other servers use; the setting's own
variable is stronger. An alias that is set to nothing is not set. `MAX_BATCH_SIZE` sets the batch of
whichever engine runs. `ENABLE_BACKPRESSURE=false` lets requests wait however long that would take;
the queue stays bounded.
"""


NAMED_SECTIONS = {f"{head}.NAME": config for head, (config, _) in NAMED.items()}
"""Sections whose names a person chooses."""


def configuration_page() -> str:
    """Return the tables of all settings, a section each."""
    return "\n".join([_HEAD, *_tables(sections() | NAMED_SECTIONS)]).rstrip()


def _tables(classes: Mapping[str, type]) -> Iterator[str]:
    settings = settings_of(classes)
    for section, found in groupby(settings, lambda setting: setting.key.rpartition(".")[0]):
        yield f"## {section}"
        yield ""
        yield (classes[section].__doc__ or "").partition("\n")[0]
        yield ""
        yield "| Setting | Default | Allowed | What it does | Change | Variable |"
        yield "| --- | --- | --- | --- | --- | --- |"
        yield from map(_row, found)
        yield ""


def _row(setting: Setting) -> str:
    cells = (
        f"`{setting.key}`",
        f"`{shown(setting, setting.default)}`",
        setting.allowed,
        setting.knob.help,
        "live" if setting.knob.live else "restart",
        ", ".join(f"`{name}`" for name in (variable(setting.key), *aliases_of(setting.key))),
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
