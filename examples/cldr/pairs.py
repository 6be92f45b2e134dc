"""Dates and numbers as CLDR writes them in English, German and Chinese: what `translate.py` learns from."""

import datetime as dt
import re
from typing import NamedTuple

MONEY, UNITS = ["EUR", "USD", "GBP", "CHF"], ["minutes", "hours", "days", "weeks"]
FIRST = dt.datetime.fromisoformat("1950-01-01")


class Pair(NamedTuple):
    """An English text and its translation."""

    group: str
    kind: str
    language: str
    source: str
    target: str


def written(to, a, b, n, sort):
    """How a locale writes the times `a` and `b`, and the number `n` of one of four sorts."""
    try:
        from babel import dates, numbers
    except ImportError as error:
        raise SystemExit("this example reads CLDR: pip install 'tinylm[examples]'") from error
    style = "short" if to == "zh" else "long"  # of large numbers: Chinese has no other in Babel
    ahead, unit, large = dt.timedelta(**{UNITS[sort]: n}), UNITS[sort][:-1], n * 10 ** (sort + 3)
    made = {
        ("dates", "in full"): dates.format_date(a, "full", to),
        ("dates", "long"): dates.format_date(a, "long", to),
        ("dates", "abbreviated"): dates.format_skeleton("yMMMEd", a, locale=to),
        ("dates", "in digits"): dates.format_skeleton("yMd", a, locale=to),
        ("dates", "short"): dates.format_date(a, "short", to),
        ("dates", "with time"): dates.format_datetime(a, locale=to),
        ("dates", "from, to"): dates.format_interval(a, b, "yMMMd", locale=to),
        ("numbers", "decimal"): numbers.format_decimal(n / 10**sort, locale=to),
        ("numbers", "percent"): numbers.format_percent(
            n / 10 ** (sort + 2), locale=to, decimal_quantization=False),
        ("numbers", "large"): numbers.format_compact_decimal(
            large, format_type=style, locale=to, fraction_digits=5),
        ("numbers", "money"): numbers.format_currency(n / 100, MONEY[sort], locale=to),
        ("numbers", "money, words"): numbers.format_currency(
            n / 100, MONEY[sort], locale=to, format_type="name"),
        ("numbers", "time ahead"): dates.format_timedelta(
            ahead, unit, 1e9, add_direction=True, locale=to),
    }  # fmt: skip
    return {key: re.sub(r"\s", " ", text) for key, text in made.items()}


def pairs(count, held_out, unseen, rng):
    """All forms, in both languages, of so many dates and numbers; all held out, or none."""
    made = []
    while count:
        day, n, sort = int(rng.integers(36000)), int(10 ** rng.uniform(0, 6)), int(rng.integers(4))
        days = [day, day + int(10 ** rng.uniform(0, 2.6))]
        if any(held_out[key] != unseen for key in (*days, int(str(n).rstrip("0")))):
            continue
        times = [FIRST + dt.timedelta(x, int(rng.integers(86400))) for x in days]
        english, *others = (written(to, *times, n, sort) for to in ("en", "de", "zh"))
        for language, texts in zip(("de", "zh"), others, strict=True):
            made += [Pair(*key, language, english[key], text) for key, text in texts.items()]
        count -= 1
    return made
