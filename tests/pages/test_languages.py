"""Every text is in every language, and nothing is translated that nobody says any more."""

import datetime
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2 import Environment, nodes

import clinic.pages
from clinic.pages import refusing, words
from clinic.pages.languages import BEFORE_NAMES, ENGLISH, LANGUAGES, RUSSIAN, VARYING
from clinic.pages.russian import NO_TIME
from clinic.registry.wall_clock import ADVICE
from clinic.web.refusals import WORDS

TEMPLATES = Path(clinic.pages.__file__).with_name("templates")
CYRILLIC = re.compile("[а-яА-ЯёЁ]")
PLACES = re.compile(r"\{\w+\}|#")
# What the models say of fields, which a person can meet in a form; # stands for a number.
DETAILS = {
    *(WORDS["missing"], WORDS["int_type"], WORDS["string_too_short"]),
    "must have at most # characters",
    "must be one line of text, without control characters",
    "must be from # to # minutes",
    "must have at least # digits",
    "is no date and time that exists",
    "must be in the years # to #",
    VARYING.sub("#", ADVICE),
    "is skipped by the clocks of #, which go forward over it",
    "is the second #:# of that night in #, whose clocks go back; the book holds only the first",
    *(one.strip() for one in BEFORE_NAMES),
}


def said_in_templates(function: str) -> Iterator[list[str]]:
    """Yield the texts that templates hand to a function, for each call."""
    for path in TEMPLATES.glob("*.html"):
        for call in Environment(autoescape=True).parse(path.read_text()).find_all(nodes.Call):
            if isinstance(call.node, nodes.Name) and call.node.name == function:
                yield [one.value for one in call.args if isinstance(one, nodes.Const)]


def said() -> set[str]:
    """Return all texts that a page can say."""
    found = {text for texts in said_in_templates("_") for text in texts}
    for table in (words.STATES, words.STEPS, words.STEPS_BACK, words.SAID, words.HAPPENED):
        found |= set(table.values())
    found |= set(words.CLOSED.values())
    for pair in (*refusing.SAID.values(), refusing.OTHERWISE):
        found |= set(pair)
    return found | DETAILS


def test_every_text_is_translated_and_no_other() -> None:
    assert said() == RUSSIAN.texts.keys()
    assert {many for _, many in said_in_templates("n_")} == RUSSIAN.plurals.keys()


@pytest.mark.parametrize("english", sorted(RUSSIAN.texts))
def test_a_translation_says_something_with_the_same_values(english: str) -> None:
    russian = RUSSIAN.texts[english]
    assert CYRILLIC.search(russian)
    assert not CYRILLIC.search(english)
    if english != NO_TIME:
        assert PLACES.findall(russian) == PLACES.findall(english)
    assert russian == russian.strip()


def test_no_text_stands_in_a_template_by_itself() -> None:
    """What is no tag, no expression and no sign is said by `_`, so that it can be translated."""
    for path in TEMPLATES.glob("*.html"):
        # What a page is called by the style sheet is read by nobody else.
        whole = re.sub(r"block kind %\}.*?\{% endblock", "", path.read_text())
        template = re.sub(r"\{[{%#].*?[%#}]\}", "0", whole, flags=re.DOTALL)
        plain = re.sub(r"&\w+;", " ", re.sub("<[^>]*>", " ", template))
        assert not re.findall(r"[^\W\d_]{2,}", plain), path.name
        attributes = re.findall(r'(?:title|alt|placeholder|aria-label)="([^"]*)"', template)
        assert not [one for one in attributes if re.search(r"[^\W\d_]", one)], path.name


@pytest.mark.parametrize(
    ("n", "text"),
    [(1, "1 минута"), (2, "2 минуты"), (5, "5 минут"), (11, "11 минут"), (21, "21 минута")],
)
def test_plurals(n: int, text: str) -> None:
    assert RUSSIAN.count("{n} minute", "{n} minutes", n) == text
    assert ENGLISH.count("{n} minute", "{n} minutes", n) == f"{n} minute{'s' * (n != 1)}"


def test_dates_and_details() -> None:
    day = datetime.date(2027, 12, 1)
    assert ENGLISH.day(day) == "Wednesday, 1 December 2027"
    assert RUSSIAN.day(day) == "среда, 1 декабря 2027"
    assert RUSSIAN.short_day(day) == "ср 1 дек. 2027"
    skipped = "is skipped by the clocks of Europe/Berlin, which go forward over it"
    assert "Europe/Berlin" in RUSSIAN.detail(skipped)
    assert RUSSIAN.detail("does not offer ЭКГ") == "здесь не ведут приём вида ЭКГ"
    assert RUSSIAN.detail(ADVICE) == "нужны день и время"
    assert ENGLISH.detail(ADVICE) == "must be a day and a time"
    assert RUSSIAN.detail("must have at most 200 characters") == "не больше 200 знаков"
    assert ENGLISH.detail("must be from 1 to 1440 minutes") == "must be from 1 to 1440 minutes"
    assert LANGUAGES.keys() == {"en", "ru"}
    for language in LANGUAGES.values():
        assert [len(language.weekdays), len(language.months)] == [7, 12]
        assert [len(language.short_weekdays), len(language.short_months)] == [7, 12]
