"""Totals of the usage ledger, summed by the database."""

from typing import Any, Final

from sqlalchemy import ColumnElement, func, literal_column, select

from forebay.accounts.database import Database
from forebay.accounts.schema import USAGE
from forebay.accounts.usage_report import By, Page, Question, Total, shown_bucket

_HOUR_S: Final = 3_600
_DAY_S: Final = 86_400
_NAMES: Final = {
    By.MODEL: USAGE.c.model,
    By.KEY: USAGE.c.key_id,
    By.USER: USAGE.c.user_name,
    By.TENANT: USAGE.c.tenant,
}


class UsageLedger:
    """Reads what was used."""

    def __init__(self, database: Database) -> None:
        """Read from `database`."""
        self._database = database

    def totals(self, question: Question) -> Page:
        """Return one page of totals; raises AccountsAway."""
        buckets = [self._bucket(each).label(f"by_{each.value}") for each in question.by]
        # By their labels: a bound value is another value each time it stands there.
        labels: list[ColumnElement[Any]] = [literal_column(each.name) for each in buckets]
        query = (
            select(
                *buckets,
                func.count().label("requests"),
                func.sum(USAGE.c.prompt_tokens).label("prompt_tokens"),
                func.sum(USAGE.c.completion_tokens).label("completion_tokens"),
                func.sum(USAGE.c.nanos).label("nanos"),
            )
            .where(USAGE.c.at >= question.since, USAGE.c.at < question.until)
            .group_by(*labels)
            .order_by(*labels)
            .limit(question.rows_max + 1)
            .offset(question.offset)
        )
        for column, name in (
            (USAGE.c.tenant, question.tenant),
            (USAGE.c.user_name, question.user),
            (USAGE.c.key_id, question.key),
        ):
            if name is not None:
                query = query.where(column == name)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        found = [
            Total(
                of=tuple(
                    shown_bucket(by, found) for by, found in zip(question.by, row, strict=False)
                ),
                requests=row.requests,
                prompt_tokens=int(row.prompt_tokens),
                completion_tokens=int(row.completion_tokens),
                nanos=int(row.nanos),
            )
            for row in rows
        ]
        more = len(found) > question.rows_max
        return Page(totals=tuple(found[: question.rows_max]), more=more)

    def _bucket(self, by: By) -> ColumnElement[Any]:
        match by:
            case By.HOUR:
                return USAGE.c.at - USAGE.c.at % _HOUR_S
            case By.DAY:
                return USAGE.c.at - USAGE.c.at % _DAY_S
            case By.MONTH if self._database.sqlite:
                return func.strftime("%Y-%m", USAGE.c.at, "unixepoch")
            case By.MONTH:
                utc = func.timezone("UTC", func.to_timestamp(USAGE.c.at))
                return func.to_char(utc, "YYYY-MM")
            case By.MODEL | By.KEY | By.USER | By.TENANT:
                return _NAMES[by]
