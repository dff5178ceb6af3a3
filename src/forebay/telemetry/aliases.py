"""Other people's names for what is counted here, computed when somebody scrapes.

An alias has no counter of its own: its samples are those of a canonical family, with other
labels, added up where two of them become one.
"""

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.core import Metric as Family
from prometheus_client.samples import Sample

from forebay.telemetry.families import gauge
from forebay.telemetry.generation_catalogue import ALIASES_LEFT_OUT
from forebay.telemetry.metric import Kind

Labels = Mapping[str, str]
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""(end of the sample's name, its labels) -> its value."""


class AliasSet(enum.StrEnum):
    """Whose names they are: what `metrics.aliases` lists."""

    SOURCE = "source"
    VLLM = "vllm"


class Reading(enum.StrEnum):
    """How an alias is read from its canonical family."""

    SUM = "sum"
    """Samples whose labels become equal are added up."""
    SPEED = "speed"
    """A gauge: one over the mean of a histogram of durations; nothing before the first."""
    TOGETHER = "together"
    """As SUM, over every canonical name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """A foreign name, and the canonical one that it is read from."""

    name: str
    set: AliasSet
    kind: Kind
    of: tuple[str, ...]
    """Canonical names; the first that has samples is read, or all TOGETHER."""
    labels: Mapping[str, Callable[[Labels], str]] = field(default_factory=dict)
    """The alias's label -> what makes its value of the canonical labels."""
    only: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Canonical label -> those of its values that are counted; empty: all."""
    reading: Reading = Reading.SUM
    coarse: bool = False
    """Every other bucket: its labels make it as large as all others."""
    text_only: bool = False
    """OpenMetrics has no place for it: a counter there is named by what comes before `_total`,
    so this name is taken by the canonical one."""
    note: str = ""
    """Where it differs from what its name suggests."""

    @property
    def help(self) -> str:
        """What `# HELP` says: it is read by people who do not know the canonical name."""
        words = ["Another name of", _JOINED[self.reading].join(self.of)]
        if self.only:
            words += ["where", " and ".join(map(_condition, self.only, self.only.values()))]
        return " ".join(words) + ("." if not self.note else f". {self.note}")


_JOINED: Final = {
    Reading.SUM: " or ",
    Reading.SPEED: " or ",
    Reading.TOGETHER: " and ",
}
_COUNTER_END: Final = "_total"
_BUCKET_END: Final = "_bucket"
_UNTYPED: Final = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Aliases:
    """The rows that are served, and how large a page may get by them."""

    table: tuple[Alias, ...]
    series_max: int
    """Of the whole page: aliases that do not fit are left out."""

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.table)

    def page(
        self, families: Sequence[Family], *, details: Mapping[str, Family], open_metrics: bool
    ) -> Iterator[Family]:
        """Yield the families of a page, and their aliases, as far as it has room for them.

        A name is there with all its series or not at all, and those that stand first in the table
        come first: what autoscalers read is small.  `details`: by name, a family with more labels
        than the page shows.
        """
        yield from families
        known = {**{_page_name(family): family for family in families}, **details}
        left = self.series_max - 1 - sum(len(family.samples) for family in families)
        left_out = 0
        for alias in self.table:
            if open_metrics and alias.text_only:
                continue
            family = _family(alias, _sources(alias, known))
            if len(family.samples) > left:
                left_out += 1
                continue
            left -= len(family.samples)
            yield family
        untold = gauge(ALIASES_LEFT_OUT)
        untold.add_metric([], left_out)
        yield untold


NO_ALIASES: Final = Aliases(table=(), series_max=0)


def _condition(label: str, values: frozenset[str]) -> str:
    return f"{label}={'|'.join(sorted(values))}"


def _page_name(family: Family) -> str:
    return family.name + (_COUNTER_END if family.type == "counter" else "")


def _sources(alias: Alias, known: Mapping[str, Family]) -> list[Family]:
    found = [family for family in map(known.get, alias.of) if family is not None and family.samples]
    return found if alias.reading is Reading.TOGETHER else found[:1]


def _family(alias: Alias, sources: Sequence[Family]) -> Family:
    kind = _UNTYPED if alias.text_only else alias.kind.value
    name = alias.name.removesuffix(_COUNTER_END) if alias.kind is Kind.COUNTER else alias.name
    family = Family(name, alias.help, kind)
    found = _grouped(_summed(alias, sources))
    if alias.reading is Reading.SPEED:
        found = dict(_speeds(found))
    end_of_name = _COUNTER_END if kind == Kind.COUNTER else ""
    for (end, labels), value in found.items():
        family.samples.append(Sample(name + (end or end_of_name), dict(labels), value))
    return family


def _summed(alias: Alias, sources: Iterable[Family]) -> Series:
    """Add up what becomes one; buckets keep their order, which is that of their bounds."""
    found: Series = {}
    for source in sources:
        histogram = source.type == Kind.HISTOGRAM
        bounds = _bounds(source, coarse=alias.coarse) if histogram else {}
        name = len(source.name)
        # All buckets of a histogram have the same labels but one: theirs are made once.
        made: dict[tuple[str, ...], tuple[tuple[str, str], ...] | None] = {}
        for sample in source.samples:
            end = sample.name[name:] if histogram else ""
            known = tuple(sample.labels.values())
            if end == _BUCKET_END:
                known = known[:-1]  # the bound stands last
            try:
                labels = made[known]
            except KeyError:
                labels = made[known] = _relabelled(alias, sample.labels)
            if labels is None:
                continue
            if end == _BUCKET_END:
                bound = bounds.get(sample.labels["le"])
                if bound is None:
                    continue
                labels = (*labels, bound)
            key = (end, labels)
            found[key] = found.get(key, 0.0) + sample.value
    return found


def _relabelled(alias: Alias, labels: Labels) -> tuple[tuple[str, str], ...] | None:
    """Return the alias's labels; None: what has these is not counted."""
    if any(labels.get(label) not in values for label, values in alias.only.items()):
        return None
    return tuple((label, make(labels)) for label, make in alias.labels.items())


def _bounds(histogram: Family, *, coarse: bool) -> dict[str, tuple[str, str]]:
    """Return the bounds that are kept: buckets count upwards, so that any may be left out."""
    found = (sample.labels["le"] for sample in histogram.samples if "le" in sample.labels)
    bounds = list(dict.fromkeys(found))
    return {bound: ("le", bound) for bound in (bounds[::-1][::2] if coarse else bounds)}


def _grouped(found: Series) -> Series:
    """Put together what belongs to one set of labels: OpenMetrics demands it of a page."""
    groups: dict[tuple[tuple[str, str], ...], Series] = {}
    for (end, labels), value in found.items():
        group = tuple(pair for pair in labels if pair[0] != "le")
        groups.setdefault(group, {})[end, labels] = value
    return {key: value for group in groups.values() for key, value in group.items()}


def _speeds(found: Series) -> Iterator[tuple[tuple[str, tuple[tuple[str, str], ...]], float]]:
    for (end, labels), total_s in found.items():
        if end == "_sum" and total_s > 0:
            yield ("", labels), found["_count", labels] / total_s
