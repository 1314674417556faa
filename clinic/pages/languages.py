"""Texts, plurals and dates in each language; which one a browser asks for.

A text is looked up by what it says in English, so that templates can be read. There are two
languages and some two hundred texts: tables in Python need no build step, and a test finds every
text that is missing or not used any more. gettext would need compiled catalogues, and Babel 30 MB
at run time for the names of twelve months.
"""

import datetime
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from starlette.requests import Request

from clinic.pages import russian
from clinic.web.headers import NUMBER, WEIGHT, header_list

COOKIE = "language"
# What varies in what is wrong with a field: numbers, and the name of the clinic's time zone.
VARYING = re.compile(r"[0-9]+|\b[A-Z]\w+(?:/\w+)+|\bUTC\b")
# ... and the names that stand at its end.
BEFORE_NAMES = ("is no appointment type; there are: ", "does not offer ")


@dataclass(frozen=True)
class Language:
    """A language of the pages.

    ``texts`` are by the English text, and so are ``plurals``: by the form for many, all forms, of
    which ``plural`` says which one goes with a number. Names of ``weekdays`` begin with Monday;
    ``months`` stand as they do beside a day. ``order`` is that of a date's parts.
    """

    code: str
    name: str
    texts: Mapping[str, str]
    plurals: Mapping[str, tuple[str, ...]]
    plural: Callable[[int], int]
    weekdays: tuple[str, ...]
    short_weekdays: tuple[str, ...]
    months: tuple[str, ...]
    short_months: tuple[str, ...]

    def text(self, english: str, **values: object) -> str:
        """Return a text with values in it; in English where there is no translation."""
        found = self.texts.get(english, english)
        return found.format(**values) if values else found

    def count(self, one: str, many: str, n: int) -> str:
        """Return a text in which a number stands, in the form that goes with it."""
        forms = self.plurals.get(many, (one, many))
        return forms[self.plural(n)].format(n=n)

    def detail(self, english: str) -> str:
        """Return what is wrong with a field; what varies in it is looked up as ``#``."""
        for beginning in BEFORE_NAMES:
            if english.startswith(beginning):
                return self.text(beginning.strip()) + " " + english.removeprefix(beginning)
        found = self.texts.get(VARYING.sub("#", english))
        if found is None:
            return english
        values = iter(VARYING.findall(english))
        return re.sub("#", lambda _: next(values), found)

    def day(self, day: datetime.date) -> str:
        """Return a day in full: ``Wednesday, 1 December 2027``."""
        month = self.months[day.month - 1]
        return f"{self.weekdays[day.weekday()]}, {day.day} {month} {day.year}"

    def short_day(self, day: datetime.date) -> str:
        """Return a day in short: ``Wed 1 Dec 2027``."""
        month = self.short_months[day.month - 1]
        return f"{self.short_weekdays[day.weekday()]} {day.day} {month} {day.year}"

    def moment(self, time: datetime.datetime) -> str:
        """Return a day and a time in short."""
        return f"{self.short_day(time.date())}, {time:%H:%M}"


ENGLISH = Language(
    code="en",
    name="English",
    texts={russian.NO_TIME: "must be a day and a time"},
    plurals={},
    plural=lambda n: int(n != 1),
    weekdays=("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    short_weekdays=("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"),
    months=(
        *("January", "February", "March", "April", "May", "June", "July"),
        *("August", "September", "October", "November", "December"),
    ),
    short_months=(
        *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
        *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
    ),
)

RUSSIAN = Language(
    code="ru",
    name="Русский",
    texts=russian.TEXTS,
    plurals=russian.PLURALS,
    plural=russian.plural,
    weekdays=russian.WEEKDAYS,
    short_weekdays=russian.SHORT_WEEKDAYS,
    months=russian.MONTHS,
    short_months=russian.SHORT_MONTHS,
)

LANGUAGES: Mapping[str, Language] = {one.code: one for one in (ENGLISH, RUSSIAN)}


def language_of(request: Request) -> Language:
    """Return the language of a page: the one chosen before, or what the browser likes best."""
    chosen = LANGUAGES.get(request.cookies.get(COOKIE, ""))
    if chosen is not None:
        return chosen
    liked: dict[str, float] = {}
    for part in (header_list(request.scope, b"accept-language") or "").lower().split(","):
        name, separator, parameters = part.partition(";")
        weight = WEIGHT.search(separator + parameters)
        text = weight[1] if weight else "1"
        code = name.strip().partition("-")[0]
        liked[code] = max(liked.get(code, 0.0), float(text) if NUMBER.fullmatch(text) else 0.0)
    best = max(LANGUAGES, key=lambda code: liked.get(code, 0.0))
    return LANGUAGES[best]
