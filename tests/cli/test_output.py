"""What commands print: columns that stand below each other on a terminal."""

import io
import sys

import pytest

from clinic.cli.output import confirmed, counted, say, say_json, table, width


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("", 0),
        ("abc", 3),
        ("Ёлкин", 5),
        ("Е\u0308лкин", 5),  # a letter and a mark
        ("診察室", 6),
        ("Ａ", 2),
        ("가", 2),
        ("☎\ufe0f", 1),
        ("علی\u200cرضا", 6),
    ],
)
def test_a_text_is_as_wide_as_a_terminal_shows_it(text: str, columns: int) -> None:
    assert width(text) == columns


def test_columns_stand_below_each_other() -> None:
    rows = [(7, "診察室", None), (1234, "221B", "x"), (0, "Кабинет", "")]
    assert table(("ID", "OFFICE", "WHY"), rows, {"ID"}).splitlines() == [
        "  ID  OFFICE   WHY",
        "   7  診察室",
        "1234  221B     x",
        "   0  Кабинет",
    ]
    assert table(("ID", "OFFICE"), []) == "ID  OFFICE"


def test_numbers_have_their_nouns() -> None:
    assert [counted(n, "closure") for n in (0, 1, 2000)] == [
        "0 closures",
        "1 closure",
        "2,000 closures",
    ]
    assert counted(2, "box", "boxes") == "2 boxes"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("y\n", True), ("Yes \n", True), ("n\n", False), ("\n", False), ("", False), ("maybe", False)],
)
def test_only_a_yes_is_one(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    typed: str,
    *,
    expected: bool,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    assert confirmed("Do it?") is expected
    out, err = capsys.readouterr()
    assert (out, err) == ("", "Do it? [y/N] ")


def test_json_is_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    say_json({"name": "Ёлкин", "ids": [1]})
    assert capsys.readouterr().out == '{\n  "name": "Ёлкин",\n  "ids": [\n    1\n  ]\n}\n'


def test_a_terminal_that_cannot_show_a_letter_shows_its_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    say("Ё!")
    assert raw.getvalue() == b"\\u0401!\n"
