"""Files of closures, iCalendar and CSV, as publishers, programs and people write them."""

import datetime
import time
import zoneinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinic.registry.closure_file import MOST_CLOSURES, MOST_WRONG, Contents
from clinic.registry.importing import read_closures
from clinic.registry.recurrence import MOST_RULES

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
TODAY = datetime.date(2027, 6, 1)


def read(text: str | bytes, zone: zoneinfo.ZoneInfo = BERLIN) -> Contents:
    return read_closures(text.encode() if isinstance(text, str) else text, zone, TODAY)


def calendar(*events: str, before: str = "") -> str:
    """Return a calendar; an event is given by its lines, with | between them."""
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//Holidays//EN", *before.splitlines()]
    for event in events:
        lines += ["BEGIN:VEVENT", *event.split("|"), "END:VEVENT"]
    return "\r\n".join([*lines, "END:VCALENDAR", ""])


def spans(contents: Contents) -> list[str]:
    assert contents.wrong == []
    return [f"{a:%Y-%m-%d %H:%M} {b:%Y-%m-%d %H:%M}" for a, b in _spans(contents)]


def _spans(contents: Contents) -> list[tuple[datetime.datetime, datetime.datetime]]:
    return [(one.span.begins, one.span.ends) for one in contents.entries]


def days(contents: Contents) -> list[str]:
    """Return the closures, which are whole days, as days, both included."""
    found = []
    for begins, ends in _spans(contents):
        assert begins.time() == ends.time() == datetime.time()
        last = ends - datetime.timedelta(days=1)
        found.append(f"{begins:%Y-%m-%d}" if begins == last else f"{begins:%Y-%m-%d}..{last:%d}")
    assert contents.wrong == []
    return found


def wrong(contents: Contents) -> list[tuple[int, str]]:
    return [(one.line, one.detail) for one in contents.wrong]


BANK_HOLIDAYS = """\
BEGIN:VCALENDAR
VERSION:2.0
METHOD:PUBLISH
PRODID:-//uk.gov/GOVUK calendars//EN
CALSCALE:GREGORIAN
BEGIN:VEVENT
DTEND;VALUE=DATE:20271228
DTSTART;VALUE=DATE:20271227
SUMMARY:Christmas Day (substitute day)
UID:ca6af7456b0088abad9a69f9f620f5ac-0@gov.uk
SEQUENCE:0
DTSTAMP:20270601T063501Z
END:VEVENT
BEGIN:VEVENT
DTEND;VALUE=DATE:20280104
DTSTART;VALUE=DATE:20280103
SUMMARY:New Year’s Day
UID:ca6af7456b0088abad9a69f9f620f5ac-1@gov.uk
SEQUENCE:0
DTSTAMP:20270601T063501Z
END:VEVENT
END:VCALENDAR
"""


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_public_holidays_as_a_government_publishes_them(end: str, mark: str) -> None:
    found = read(mark + BANK_HOLIDAYS.replace("\n", end))
    assert days(found) == ["2027-12-27", "2028-01-03"]
    assert [one.reason for one in found.entries] == [
        "Christmas Day (substitute day)",
        "New Year’s Day",
    ]
    assert [one.line for one in found.entries] == [6, 14]
    assert len({one.origin for one in found.entries}) == 2


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("DTSTART;VALUE=DATE:20271225", "2027-12-25"),
        ("DTSTART;VALUE=DATE:20271225|DTEND;VALUE=DATE:20271227", "2027-12-25..26"),
        # As some programs write one day.
        ("DTSTART;VALUE=DATE:20271225|DTEND;VALUE=DATE:20271225", "2027-12-25"),
        ("DTSTART;VALUE=DATE:20271225|DURATION:P2D", "2027-12-25..26"),
        ("DTSTART;VALUE=DATE:20271225|DURATION:P1W", "2027-12-25..31"),
        ("DTSTART:20271225", "2027-12-25"),
        ("dtstart;value=date:20271225", "2027-12-25"),
        ('DTSTART;VALUE=DATE;X-A="b:c":20271225', "2027-12-25"),
    ],
)
def test_whole_days(lines: str, expected: str) -> None:
    assert days(read(calendar(f"UID:1|SUMMARY:x|{lines}"))) == [expected]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("DTSTART:20271224T140000|DTEND:20271224T180000", "2027-12-24 14:00 2027-12-24 18:00"),
        ("DTSTART:20271224T130000Z|DTEND:20271224T170000Z", "2027-12-24 14:00 2027-12-24 18:00"),
        ("DTSTART:20270701T120000Z|DURATION:PT4H30M", "2027-07-01 14:00 2027-07-01 18:30"),
        (
            "DTSTART;TZID=Asia/Tokyo:20270701T090000|DTEND;TZID=Asia/Tokyo:20270701T100000",
            "2027-07-01 02:00 2027-07-01 03:00",
        ),
        (
            "DTSTART;TZID=W. Europe Standard Time:20271224T140000|DURATION:PT1H",
            "2027-12-24 14:00 2027-12-24 15:00",
        ),
        ("DTSTART;TZID=My Zone:20270701T140000|DURATION:PT1H", "2027-07-01 11:00 2027-07-01 12:00"),
        # A day on the clocks, and four hours that pass: over the night in which they go forward.
        (
            "DTSTART;TZID=Europe/Berlin:20270327T140000|DURATION:P1DT4H",
            "2027-03-27 14:00 2027-03-28 18:00",
        ),
        (
            "DTSTART;TZID=Europe/Berlin:20270328T010000|DURATION:PT2H",
            "2027-03-28 01:00 2027-03-28 04:00",
        ),
    ],
)
def test_times_are_those_of_the_clinic(lines: str, expected: str) -> None:
    assert spans(read(calendar(f"UID:1|SUMMARY:x|{lines}", before=MY_ZONE))) == [expected]


MY_ZONE = """\
BEGIN:VTIMEZONE
TZID:My Zone
BEGIN:STANDARD
DTSTART:19700101T000000
TZOFFSETFROM:+0500
TZOFFSETTO:+0500
END:STANDARD
END:VTIMEZONE
"""


def test_folded_lines_and_escapes() -> None:
    summary = "День народного единства; выходной, «праздник»"
    escaped = summary.replace(";", "\\;").replace(",", "\\,").replace(" выходной", "\\nвыходной")
    line = f"SUMMARY;LANGUAGE=ru:{escaped}".encode()
    # Folded every 10 bytes, within characters, too.
    folded = b"\r\n ".join(line[place : place + 10] for place in range(0, len(line), 10))
    text = calendar("UID:1|DTSTART;VALUE=DATE:20271104|X").encode()
    text = text.replace(b"X\r\n", folded + b"\r\n")
    (entry,) = read(text).entries
    assert entry.reason == summary


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("FREQ=YEARLY", ["2027-05-01", "2028-05-01", "2029-05-01"]),
        ("FREQ=YEARLY;COUNT=9", ["2027-05-01", "2028-05-01"]),
        ("FREQ=YEARLY;UNTIL=20280501", ["2027-05-01", "2028-05-01"]),
        ("FREQ=YEARLY;UNTIL=20280501T000000Z", ["2027-05-01", "2028-05-01"]),
        ("FREQ=YEARLY;UNTIL=99991231T235959Z", ["2027-05-01", "2028-05-01", "2029-05-01"]),
        ("FREQ=YEARLY;INTERVAL=2", ["2028-05-01"]),
        ("FREQ=YEARLY;BYMONTH=5;BYDAY=-1MO", ["2027-05-31", "2028-05-29", "2029-05-28"]),
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", ["2028-02-29"]),
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", []),
    ],
)
def test_what_recurs_yearly_is_read_for_three_years(rule: str, expected: list[str]) -> None:
    text = calendar(f"UID:1|SUMMARY:x|DTSTART;VALUE=DATE:20200501|RRULE:{rule}")
    found = read(text)
    assert days(found) == expected
    assert len({one.origin for one in found.entries}) == len(expected)
    assert found.window.ends == datetime.datetime(2030, 1, 1)


def test_exceptions_of_what_recurs() -> None:
    found = read(
        calendar(
            "UID:1|SUMMARY:x|DTSTART;VALUE=DATE:20200501|RRULE:FREQ=YEARLY"
            "|EXDATE;VALUE=DATE:20270501",
            "UID:1|SUMMARY:moved|RECURRENCE-ID;VALUE=DATE:20280501|DTSTART;VALUE=DATE:20280502",
            "UID:1|SUMMARY:x|RECURRENCE-ID;VALUE=DATE:20290501|DTSTART;VALUE=DATE:20290501"
            "|STATUS:CANCELLED",
        )
    )
    assert days(found) == ["2028-05-02"]
    assert (found.entries[0].reason, found.cancelled) == ("moved", 1)


def test_what_recurs_at_a_time_keeps_it_on_the_clocks_of_its_zone() -> None:
    found = read(
        calendar("UID:1|SUMMARY:x|DTSTART:20200701T120000Z|DURATION:PT1H|RRULE:FREQ=YEARLY")
    )
    assert spans(found)[0] == "2027-07-01 14:00 2027-07-01 15:00"
    always = "DTSTART;TZID=America/New_York:20200701T080000|DURATION:PT1H"
    always += "|RRULE:FREQ=YEARLY;UNTIL=99991231T235959Z"
    assert spans(read(calendar(f"UID:1|SUMMARY:x|{always}"))) == spans(found)
    east = always.replace("America/New_York", "Asia/Tokyo")
    assert len(spans(read(calendar(f"UID:1|SUMMARY:x|{east}")))) == 3


def test_events_that_are_called_off_close_nothing() -> None:
    found = read(calendar("UID:1|SUMMARY:x|DTSTART;VALUE=DATE:20271225|STATUS:CANCELLED"))
    assert (found.entries, found.wrong, found.cancelled, found.uids) == ([], [], 1, {"1"})


def test_one_uid_for_several_days_means_each() -> None:
    one, other = "UID:1|SUMMARY:x|DTSTART;VALUE=DATE:20271225", "UID:1|SUMMARY:x|DTSTART:20281225"
    found = read(calendar(one, other))
    assert days(found) == ["2027-12-25", "2028-12-25"]
    assert len({entry.origin for entry in found.entries}) == 2
    # ... unless one says that it is the later version of the other.
    assert days(read(calendar(one + "|SEQUENCE:1", other))) == ["2027-12-25"]


def test_what_is_not_read_of_an_event_may_be_wrong() -> None:
    found = read(
        calendar(
            "UID:1|SUMMARY:x|DTSTART;VALUE=DATE:20271225|DTSTAMP:never|GEO:x|TRANSP:TRANSPARENT"
            "|BEGIN:VALARM|TRIGGER:-PT30M|SUMMARY:alarm|DTSTART:20200101|END:VALARM|PRIORITY:high"
        )
    )
    assert days(found) == ["2027-12-25"]


def test_an_all_day_closure_may_begin_at_a_midnight_that_the_clocks_skip() -> None:
    found = read(
        calendar("UID:1|SUMMARY:x|DTSTART;VALUE=DATE:20270430"), zoneinfo.ZoneInfo("Africa/Cairo")
    )
    assert days(found) == ["2027-04-30"]


@pytest.mark.parametrize(
    ("lines", "line", "said"),
    [
        ("DTSTART;VALUE=DATE:20271325", 7, "DTSTART cannot be read"),
        ("DTSTART;VALUE=DATE:20271225|DTEND;VALUE=DATE:20271224", 8, "ends before it begins"),
        ("DTSTART:20271225T100000Z|DTEND:20271225T100000Z", 8, "ends before it begins"),
        ("DTSTART:20271225T100000Z|DURATION:-PT1H", 8, "ends before it begins"),
        ("DTSTART:20271225T100000Z", 7, "has no end"),
        ("DTSTART;VALUE=DATE:20271225|DTEND:20271226T100000Z", 8, "must be a day where DTSTART"),
        ("DTSTART;VALUE=DATE:20271225|DURATION:long", 8, "DURATION cannot be read"),
        ("DTSTART;TZID=Europe/Berlln:20271225T100000|DURATION:PT1H", 7, "is no time zone"),
        ("DTSTART:20270328T023000|DURATION:PT1H", 7, "2027-03-28 02:30 is skipped by the clocks"),
        ("DTSTART:20271031T013000Z|DURATION:PT1H", 7, "is the second 02:30 of that night"),
        ("DTSTART;VALUE=DATE:20271225|RRULE:FREQ=WEEKLY", 8, "only FREQ=YEARLY"),
        ("DTSTART;VALUE=DATE:20271225|RRULE:FREQ=YEARLY;BYHOUR=1,2", 8, "only FREQ=YEARLY"),
        ("DTSTART;VALUE=DATE:20271225|RRULE:FREQ=OFTEN", 8, "RRULE cannot be read"),
        ("DTSTART;VALUE=DATE:20271225|RRULE:FREQ=YEARLY;BYDAY=XX", 8, "RRULE cannot be read"),
        ("DTSTART;VALUE=DATE:20271225|DTSTART:20271226", 7, "stands in this event twice"),
        ("DTSTART;VALUE=DATE:20271225|and so on", 8, "is no property"),
        ("DTSTART;VALUE=DATE:18991225", 7, "must be in the years 1900 to 2199"),
        ("DTSTART:20271225|RDATE:20271226", 8, "RDATE is not read"),
        ("DTSTART:20271225|RDATE:20271226|RDATE:20271227", 8, "RDATE is not read"),
        ("DTSTART:20271225|RRULE:FREQ=YEARLY;INTERVAL=0", 8, "INTERVAL must be"),
        ("DTSTART:20271225|RRULE:FREQ=YEARLY;BYDAY=99MO", 8, "RRULE cannot be read"),
        ("DTSTART:20271225|RRULE:FREQ=YEARLY;BYSETPOS=0", 8, "RRULE cannot be read"),
        ("DTSTART:20271225|RRULE:FREQ=YEARLY|EXDATE:PT1H", 9, "EXDATE must be a day"),
        ("DTSTART:20271225|RECURRENCE-ID:PT1H", 8, "RECURRENCE-ID must be a day"),
        ("DTSTART:PT1H", 7, "DTSTART must be a day"),
        ("DTSTART:20271225|DURATION:20271226", 8, "DURATION must be a length"),
        ("DTSTART:99991231", 7, "must be in the years 1900 to 2199"),
        ("DTSTART:00010101T000000Z|DURATION:PT1H", 8, "must be in the years 1900 to 2199"),
        ("DTSTART:20271225|DURATION:P9999999D", 7, "must be in the years 1900 to 2199"),
        ("X-A:1", 4, "has no DTSTART"),
    ],
)
def test_a_wrong_event_is_named_by_its_line(lines: str, line: int, said: str) -> None:
    text = calendar(f"UID:1|SUMMARY:x|{lines}")
    good = calendar("UID:2|SUMMARY:y|DTSTART;VALUE=DATE:20271231")
    found = read(text + good)
    ((at, detail),) = wrong(found)
    assert (at, said in detail) == (line, True), detail
    assert [one.reason for one in found.entries] == ["y"]


@pytest.mark.parametrize(
    ("summary", "said"),
    [
        ("", "has no SUMMARY"),
        ("SUMMARY:", "the reason must not be empty"),
        ("SUMMARY:" + "x" * 501, "at most 500 characters"),
        ("SUMMARY:a\x07b", "without control characters"),
    ],
)
def test_a_closure_needs_a_reason(summary: str, said: str) -> None:
    text = calendar(f"UID:1|DTSTART;VALUE=DATE:20271225|{summary or 'X-A:1'}")
    ((_, detail),) = wrong(read(text))
    assert said in detail


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (BANK_HOLIDAYS[: BANK_HOLIDAYS.index("DTSTAMP")], 6, "the file is cut off"),
        (BANK_HOLIDAYS[: BANK_HOLIDAYS.rindex("END:VCAL")], 1, "the file is cut off"),
        (BANK_HOLIDAYS.replace("END:VEVENT", "END:VTODO", 1), 13, "ends VTODO"),
        (BANK_HOLIDAYS.encode().replace("’".encode(), b"\x92"), 17, "is not in UTF-8"),
        (BANK_HOLIDAYS.replace("UID:", "UID:" + "x" * 300), 10, "UID has more than 300"),
    ],
)
def test_a_calendar_that_is_not_whole(text: str | bytes, line: int, said: str) -> None:
    (at, detail), *_ = wrong(read(text))
    assert (at, said in detail) == (line, True), detail


def test_a_calendar_is_not_read_for_ever() -> None:
    event = "UID:{}|SUMMARY:x|DTSTART;VALUE=DATE:20271225"
    began = time.monotonic()
    many = read(calendar(*(event.format(number) for number in range(MOST_CLOSURES + 1))))
    assert "divide the file" in wrong(many)[0][1]
    rule = "|RRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"
    never = read(calendar(*(event.format(number) + rule for number in range(MOST_RULES + 1))))
    assert "divide the file" in wrong(never)[0][1]
    daily = "|RRULE:FREQ=YEARLY;BYDAY=MO,TU,WE,TH,FR,SA,SU"
    every = read(calendar(*(event.format(number) + daily for number in range(9))))
    assert "divide the file" in wrong(every)[-1][1]
    broken = read(calendar(*("X:1" for _ in range(MOST_WRONG * 2))))
    assert len(broken.wrong) == MOST_WRONG
    assert time.monotonic() - began < 20


BEGINNINGS = (b"", b"BEGIN:VCALENDAR\nBEGIN:VEVENT\n", b"from,to,reason\n")


@given(st.sampled_from(BEGINNINGS), st.binary(max_size=300))
def test_whatever_the_file_holds_it_is_read_or_refused(beginning: bytes, data: bytes) -> None:
    read(beginning + data)


PIECES = (
    *(
        "INTERVAL=0",
        "INTERVAL=-1",
        "BYDAY=99MO",
        "BYMONTH=0",
        "00010101",
        "99991231",
        "EXDATE:PT1H",
    ),
    *("DTSTART", "DTEND", "DURATION", "RRULE", "EXDATE", "RECURRENCE-ID", "SUMMARY", "UID"),
    *(":", ";", "=", ",", "VALUE=DATE", "TZID=", "Europe/Berlin", "20271225", "T100000", "Z"),
    *("FREQ=YEARLY", "COUNT=", "UNTIL=", "BYDAY=", "-1MO", "BYEASTER=1", "INTERVAL=", "0", "-"),
    *("99999999999", "P1D", "PT1H", "STATUS:CANCELLED", "SEQUENCE:", '"', "\\", "\r\n", "\r\n "),
)


@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
def test_whatever_an_event_says_it_is_read_or_refused(text: str) -> None:
    read(calendar(f"UID:1\r\nSUMMARY:x\r\nDTSTART;VALUE=DATE:20271225\r\n{text}"))
    read(calendar(text))


TABLE = """\
from,to,reason,office,doctor
2027-12-24,2027-12-26,Christmas,,
2027-06-21T14:00,2027-06-21T18:00,"A ""team"" day",221B,
2027-07-05,2027-07-16,holidays,,Dr. Watson
"""


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_as_a_person_makes_it(end: str, mark: str, delimiter: str) -> None:
    text = TABLE.replace(",", delimiter)
    found = read(mark + text.replace("\n", end))
    assert spans(found) == [
        "2027-12-24 00:00 2027-12-27 00:00",
        "2027-06-21 14:00 2027-06-21 18:00",
        "2027-07-05 00:00 2027-07-17 00:00",
    ]
    assert [one.reason for one in found.entries] == ["Christmas", 'A "team" day', "holidays"]
    assert [one.office_number for one in found.entries] == [None, "221B", None]
    assert [one.doctor_name for one in found.entries] == [None, None, "Dr. Watson"]
    assert [one.line for one in found.entries] == [2, 3, 4]


def test_columns_in_any_order_blank_lines_and_quotes() -> None:
    found = read(
        '\n"Reason" ; "TO";from;id\n\n"a;b\nc";2027-12-24;2027-12-24;7\n'
        ";;;\nd;2027-12-26;2027-12-25;8"
    )
    assert days(found) == ["2027-12-24", "2027-12-25..26"]
    assert [one.reason for one in found.entries] == ["a;b c", "d"]
    assert [one.origin.uid for one in found.entries] == ["7", "8"]
    assert [one.line for one in found.entries] == [4, 7]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("2027-12-24,,x", "to is empty"),
        (",2027-12-24,x", "from is empty"),
        ("2027-12-24", "to is empty"),
        ("2027-12-24,2027-12-23,x", "ends before it begins"),
        ("2027-12-24T10:00,2027-12-24T10:00,x", "ends before it begins"),
        ("2027-12-24,2027-12-24,", "the reason must not be empty"),
        ("24.12.2027,2027-12-24,x", "from must be a day such as"),
        ("2027-02-29,2027-03-01,x", "from: there is no such day"),
        ("2027-12-24,2027-12-24T25:00,x", "to must be a date and time"),
        ("2027-03-28T02:30,2027-03-29,x", "from is skipped by the clocks of Europe/Berlin"),
        ("2027-10-31T01:30:00Z,2027-11-01,x", "from is the second 02:30"),
        ("1899-12-24,1899-12-24,x", "must be in the years"),
        ("2027-12-24,2027-12-24,a,b", "has more columns than the first line"),
        ('2027-12-24,2027-12-24,"a"b', "cannot be read as CSV"),
        ('2027-12-24,2027-12-24,"ab', "cannot be read as CSV"),
    ],
)
def test_a_wrong_row_is_named_by_its_line(row: str, said: str) -> None:
    ((line, detail),) = wrong(read(f"from,to,reason\n2027-01-01,2027-01-01,ok\n{row}\n"))
    assert (line, said in detail) == (3, True), detail


@pytest.mark.parametrize(
    "header", ["", "from,to", "from,to,reason,from", "from,to,reason,colour", "x", "from to reason"]
)
def test_a_table_names_its_columns(header: str) -> None:
    ((line, detail),) = wrong(read(f"{header}\n2027-12-24,2027-12-24,x"))
    assert line in (1, 2)
    assert "must name the columns from, to and reason" in detail


def test_a_table_is_not_read_for_ever() -> None:
    rows = "".join(f"2027-12-24,2027-12-24,{number}\n" for number in range(MOST_CLOSURES + 1))
    assert "divide the file" in wrong(read("from,to,reason\n" + rows))[0][1]
    assert len(read("from,to,reason\n" + "x,y,z\n" * 1000).wrong) == MOST_WRONG
