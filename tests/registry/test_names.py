"""Names: one line in which everybody sees what there is, and the key by which they are found."""

import contextlib
import re
import sys
import time
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from clinic.registry.names import (
    BANNED,
    BLANKS,
    LONGEST_KEY,
    SUSPECT,
    UNSEEN,
    Name,
    OfficeNumber,
    Reason,
    name_key,
    patient_key,
    tidy,
)
from tests.process.clinic import ClinicProcess

NAME: TypeAdapter[str] = TypeAdapter(Name)
EVERY_CHARACTER = [chr(number) for number in range(sys.maxunicode + 1)]


def test_what_has_no_place_in_a_line_is_what_unicode_says() -> None:
    directions = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    for character in EVERY_CHARACTER:
        unfit = unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
        noncharacter = ord(character) & 0xFFFE == 0xFFFE or "\ufdd0" <= character <= "\ufdef"
        assert bool(BANNED.search(character)) == (unfit or noncharacter or character in directions)


def test_what_counts_as_a_blank_is_what_unicode_says() -> None:
    for character in EVERY_CHARACTER:
        blank = unicodedata.category(character) == "Zs" or character == "\u2800"
        assert bool(BLANKS.search(character)) == blank


def test_nothing_untidy_is_passed_over_by_the_first_look() -> None:
    for character in EVERY_CHARACTER:
        if character != " " and any(one.search(character) for one in (BANNED, BLANKS, UNSEEN)):
            assert SUSPECT.search(character), hex(ord(character))


@pytest.mark.parametrize(
    "unseen",
    [
        *("\u200b", "\ufeff", "\u2060", "\u00ad", "\u200e", "\u200f", "\u2800", "\u3164", "\u115f"),
        *("\u1160", "\uffa0", "\u034f", "\u061c", "\u17b4", "\u180e", "\u200c", "\u200d", "\u2063"),
        *("\u206a", "\ufe0f", "\ufff9", "\ufffc", "\U0001d159", "\U0001d173", "\U000e0041"),
        *("\U000e0100", "\u00a0", "\u2003", "\u202f", "\u3000", "\u1680"),
    ],
    ids=lambda character: f"{ord(character):04X}",
)
def test_nobody_is_called_nothing(unseen: str) -> None:
    for text in (unseen, unseen * 3, f" {unseen} {unseen}"):
        with pytest.raises(ValidationError, match="must not be empty"):
            NAME.validate_python(text)
    # Beside others it makes no other name.
    assert tidy(f"7{unseen}") == tidy(f"{unseen}7") == "7"
    assert tidy(f"12 {unseen}A") == "12 A"


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("  Иван   Иванов ", "Иван Иванов"),
        ("Иван\u00a0\u2009Иванов", "Иван Иванов"),
        ("12  A", "12 A"),
        ("И\u0306ван", "Йван"),
        ("Ива\u00adнов", "Иванов"),
        ("Ли \u200b Мин", "Ли Мин"),
        ("\u200fדוד\u200e", "דוד"),
        ("A\u200dB", "AB"),
        ("7\ufe0f", "7"),
        ("X Æ A-12", "X Æ A-12"),
        ("\ue000", "\ue000"),
        # Digits of scripts whose letters join do not join.
        ("\u0661\u200c\u0662", "\u0661\u0662"),
        ("\u06f5\u200cتا", "\u06f5تا"),
        ("\u0967\u200d\u0968", "\u0967\u0968"),
        # Persian, Hindi and Sinhala need joiners inside of a word, and none at its ends.
        ("علی\u200cرضا", "علی\u200cرضا"),
        ("علی\u200c رضا\u200c", "علی رضا"),
        ("क्\u200dष", "क्\u200dष"),
        ("ශ්\u200dරී", "ශ්\u200dරී"),
        # Japanese and Mongolian names need variants of characters.
        ("葛\U000e0100城", "葛\U000e0100城"),
        ("ᠠ\u180b", "ᠠ\u180b"),
        ("👩\u200d⚕\ufe0f", "👩\u200d⚕\ufe0f"),
    ],
)
def test_a_name_is_stored_as_everybody_sees_it(sent: str, stored: str) -> None:
    assert NAME.validate_python(sent) == stored


@pytest.mark.parametrize(
    "text", ["a\nb", "a\tb", "\x00", "a\u202eb", "\u2066", "a\u2028b", "\uffff"]
)
def test_what_is_no_line_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="must be one line of text"):
        NAME.validate_python(text)


@pytest.mark.parametrize(("kind", "most"), [(Name, 200), (OfficeNumber, 50), (Reason, 500)])
def test_the_longest_is_what_the_description_says(kind: type[str], most: int) -> None:
    adapter: TypeAdapter[str] = TypeAdapter(kind)
    assert adapter.json_schema().items() >= {"minLength": 1, "maxLength": most}.items()
    # Decomposed, and with blanks around it, as it comes from some programs.
    assert adapter.validate_python("и\u0306" * most) == "й" * most
    assert adapter.validate_python(f" {'ж' * most} ") == "ж" * most
    for text in ("ж" * (most + 1), "и\u0306" * (most + 1), " " * 3 * most + "ж"):
        with pytest.raises(ValidationError, match=f"must have at most {most} characters"):
            adapter.validate_python(text)


@pytest.mark.parametrize(
    "text",
    [
        "a" + "\u0301\u0323" * 15_500,
        "\u0323\u0301" * 15_500,
        "a" + "\u0301\u0323" * 499,
        "i" + "\u0307" * 999,
        "\ufdfa" * 200,
        "\u200b" * 32_000,
        "  " * 32_000,
        "ᄀ" * 32_000,
        "👩\u200d" * 16_000,
    ],
)
def test_no_text_takes_long(text: str) -> None:
    adapter: TypeAdapter[str] = TypeAdapter(Reason)
    shortest = 1.0
    for _ in range(5):
        start = time.thread_time()
        with contextlib.suppress(ValidationError):
            patient_key(adapter.validate_python(text))
        shortest = min(shortest, time.thread_time() - start)
    assert shortest < 0.005


@given(text=st.text())
@example("A\ufe0f\u200d👩")
@example("葛\u200b\U000e0100")
@example("ا\u200c\u200dب")
def test_what_is_tidy_stays_as_it_is(text: str) -> None:
    try:
        once = tidy(text)
    except PydanticCustomError:
        assert BANNED.search(text)
        return
    assert tidy(once) == once
    assert once == once.strip()
    assert "  " not in once


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("O'Brien", "O’Brien"),
        ("O'Brien", "OʼBRIEN"),
        ("O'Brien", "O`Brien"),
        ("O'Brien", "O´Brien"),
        ("Лук'янова", "Лук’янова"),
        ("Анна-Мария", "Анна\u2011Мария"),
        ("Анна-Мария", "АННА\u2013МАРИЯ"),
        ("Семёнов", "Семенов"),
        ("СЕМЁНОВ", "семенов"),
        ("Семе\u0308нов", "Семенов"),
        ("Işık", "IŞIK"),
        ("Işık", "ışık"),
        ("İnci", "inci"),
        ("İNCİ", "inci"),
        ("Straße", "STRASSE"),
        ("ΝΊΚΟΣ", "νίκος"),
        ("Ｓｍｉｔｈ", "smith"),
        ("Ofﬁce", "office"),
        ("Anna\u00a0Maria", "Anna  Maria"),
        ("علی\u200cرضا", "علیرضا"),
        ("葛\U000e0100城", "葛城"),
        ("가", "\u1100\u1161"),
    ],
)
def test_one_key_finds_a_name_however_it_is_written(one: str, other: str) -> None:
    assert patient_key(tidy(one)) == patient_key(tidy(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [("Ли", "Лі"), ("Muller", "Müller"), ("Иван", "Йван"), ("Anna-Maria", "Annamaria"), ("B", "В")],
)
def test_what_is_another_name_has_another_key(one: str, other: str) -> None:
    assert patient_key(tidy(one)) != patient_key(tidy(other))


def test_a_key_is_a_key_of_itself_and_of_its_capitals() -> None:
    for character in EVERY_CHARACTER:
        if character.upper() != character or unicodedata.normalize("NFKD", character) != character:
            key = patient_key(character)
            assert patient_key(key) == key == patient_key(character.upper())


@given(name=st.text(max_size=200))
@example("\ufdfa" * 200)
def test_a_key_is_not_too_long_for_an_index(name: str) -> None:
    key = patient_key(name)
    assert len(key) <= LONGEST_KEY
    assert len(key.encode("utf-8", "surrogatepass")) <= 2000


@given(name=st.text(st.characters(codec="utf-8"), max_size=40))
def test_names_that_differ_in_case_alone_have_one_key(name: str) -> None:
    for other in (name.upper(), name.lower(), name.casefold()):
        if re.fullmatch(r"[^\u0345]*", unicodedata.normalize("NFD", name)):
            assert patient_key(other) == patient_key(name)


@pytest.mark.parametrize(
    ("one", "others"),
    [
        ("221B", ["221b", "221 B", "№ 221-B", "№221B", "#221 b", "221В", "(221.b)", " 221_B"]),
        ("Dr. Watson", ["dr watson", "DR WATSON", "Dr.Watson", "Dr.  Watson,", "Dr-Watson"]),
        ("Доктор Ёлкин", ["ДОКТОР ЕЛКИН", "доктор Елкин."]),
        ("O'Brien", ["O’Brien", "OBrien", "O`BRIEN"]),
        ("1.2", ["1-2", "1 2", "1/2", "1 – 2", "№ 1 . 2", "1. 2"]),
        ("Ofﬁce", ["office"]),
        ("каб. 5", ["КАБ 5", "каб5", "кaб. 5"]),
        ("№", ["№"]),
        ("Á", ["А\u0301", "á"]),  # Cyrillic, Latin
        ("A-1", ["А1", "a 1", "Α 1"]),  # Cyrillic, Latin, Greek
    ],
)
def test_spellings_of_one_office_or_doctor_have_one_key(one: str, others: list[str]) -> None:
    assert {name_key(other) for other in others} == {name_key(one)}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1.2", "12"),
        ("1.2", "1.2.3"),
        ("1 23", "12 3"),
        ("221B", "221A"),
        ("221B", "221Б"),
        ("221", "221B"),
        ("Muller", "Müller"),
        ("Ли", "Лі"),
        ("-", "/"),
        ("№", "#"),
        ("5", "5+"),
    ],
)
def test_other_offices_and_doctors_have_other_keys(one: str, other: str) -> None:
    assert name_key(one) != name_key(other)


# Letters, digits and marks of many kinds, more of those that mean something.
NAMES = st.text(
    st.one_of(
        st.sampled_from("abвВё ё1209٣²½.,-/'№#_()'ıİßﬁΣς\u0301\u0307\u2011"),
        st.characters(exclude_categories=["Cs", "Cc", "Cn"]),
    ),
    max_size=20,
)
MARKS = st.text(st.sampled_from(" .,-–/'_()№#«»\u00a0"), max_size=3)


@settings(max_examples=500)
@given(name=NAMES)
def test_a_key_is_its_own_key(name: str) -> None:
    key = name_key(name)
    assert name_key(key) == key


@settings(max_examples=500)
@given(name=NAMES)
def test_case_makes_no_other_office(name: str) -> None:
    if re.fullmatch(r"[^\u0345]*", unicodedata.normalize("NFD", name)):
        assert name_key(name.upper()) == name_key(name.lower()) == name_key(name)


@given(words=st.lists(st.text(st.sampled_from("abвгё"), min_size=1, max_size=3), min_size=1))
@example(words=["a"])
def test_marks_make_no_other_office(words: list[str]) -> None:
    assert name_key("№ " + " - ".join(words) + ".") == name_key("".join(words))


@given(data=st.data(), pieces=st.lists(st.from_regex("[ab]{1,2}|[0-9]{1,2}", fullmatch=True)))
def test_only_between_digits_marks_count_and_which_they_are_does_not(
    data: st.DataObject, pieces: list[str]
) -> None:
    one, other, plain = "", "", ""
    for piece in pieces:
        least = 1 if plain[-1:].isdigit() and piece[0].isdigit() else 0
        marks = MARKS.filter(lambda drawn: len(drawn) >= least)  # noqa: B023 - drawn at once
        one, other = one + data.draw(marks) + piece, other + data.draw(marks) + piece
        plain += piece
    assert name_key(one) == name_key(other)
    if pieces:
        parted = re.search("[0-9][^a-z0-9]+[0-9]", one) is not None
        assert (name_key(one) == plain) is not parted


SELECTORS = st.sampled_from("\ufe00\ufe0e\ufe0f\u180b\U000e0100\U000e01ef")


@settings(max_examples=300)
@given(name=st.text(st.sampled_from("ab12 -№#☎❤山葛ᠠက⁉Ⓜ㊙🏥"), min_size=1), data=st.data())
@example(name="Ⓜ1", data=None)
def test_what_chooses_a_look_makes_no_other_office(name: str, data: st.DataObject | None) -> None:
    """A variation selector, wherever it stands."""
    if not tidy(name):
        return
    place = data.draw(st.integers(1, len(name))) if data else 1
    selector = data.draw(SELECTORS) if data else "\ufe0f"
    with_selector = f"{name[:place]}{selector}{name[place:]}"
    assert name_key(tidy(with_selector)) == name_key(tidy(name))
    assert patient_key(tidy(with_selector)) == patient_key(tidy(name))


@given(name=NAMES)
def test_a_name_has_a_key_of_its_own_length_at_most(name: str) -> None:
    tidied = tidy(name)
    if tidied:
        assert name_key(tidied)
    assert len(name_key(name * 10)) <= LONGEST_KEY


def test_a_confirmation_is_as_sent_whatever_is_stored(clinic: ClinicProcess) -> None:
    sent = {
        "patient_name": "\ufeffИван\u00a0 Иванов\u200b",
        "office_number": " names  7\u200b",
        "doctor_name": "Доктор\u2009Ва\u00adтсон",
        "date_time": "2031-07-01T10:00:00.0000000+0200",
        "override": True,
        "reason": "\u200eчто-то \u3000срочное",
    }
    answer = clinic.http.post("/appointment", json=sent)
    assert answer.json() == {"id": answer.json()["id"]} | sent
    record = clinic.http.get(answer.headers["location"]).json()
    assert record["patient_name"] == "Иван Иванов"
    assert record["office_number"] == "names 7"
    assert record["doctor_name"] == "Доктор Ватсон"
    assert record["override_reason"] == "что-то срочное"
    assert record["date_time"] == "2031-07-01T10:00:00"
    # It is found, and it is in conflict, under what looks the same.
    for office in ("names 7", "names\u00a07", "\u2060names 7 "):
        found = clinic.http.get("/appointment", params={"office_number": office}).json()
        assert record in found
        other = {"patient_name": "Анна", "office_number": office, "date_time": sent["date_time"]}
        assert clinic.http.post("/appointment", json=other).status_code == 409


@pytest.mark.parametrize("field", ["patient_name", "office_number", "doctor_name", "reason"])
def test_what_nobody_sees_is_refused_in_every_field(clinic: ClinicProcess, field: str) -> None:
    sent = {
        "patient_name": "Иван",
        "office_number": "names 8",
        "date_time": "2031-07-01T10:00:00",
        "override": True,
        "reason": "срочно",
    }
    answer = clinic.http.post("/appointment", json=sent | {field: "\u200b\ufeff\u2060 \u3164"})
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"pointer": f"#/{field}", "detail": "must not be empty"}]
