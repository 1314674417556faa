"""``clinic closures``: import closures from files, list them, cancel what stands in them."""

import argparse
import datetime
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from clinic.appointments.appointment import Appointment
from clinic.appointments.standing import MOST_CANCELLED, Cancellation
from clinic.appointments.standing_endpoints import cancellation_record, standing_record
from clinic.cli.command import Command
from clinic.cli.opened import with_parts
from clinic.cli.output import can_ask, complain, confirmed, counted, say, say_json, table
from clinic.database import utc_now
from clinic.parts import Parts
from clinic.registry.closure_file import LARGEST_FILE, YEARS, reason_of
from clinic.registry.importing import Plan, Planned, read_closures, unknown
from clinic.registry.records import NoSuchRecord, NotRegistered, RegistryChanged
from clinic.registry.schedule import FIRST_PAGE, Standing
from clinic.registry.schedule_handlers import exceptional_record
from clinic.registry.schedule_handlers import standing_record as registered_record
from clinic.registry.timetable import DAY, Exceptional

Run = Callable[[argparse.Namespace], Callable[[Parts], Awaitable[int]]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be done with closures."""
    verbs = parser.add_subparsers(title="what to do", metavar="WHAT", required=True)
    add = verbs.add_parser(
        "import",
        help="import closures from a file",
        description="Import closures from an iCalendar file, as public holidays are published, or "
        "from CSV, whose first line names the columns from, to and reason, and office, doctor and "
        "id if you like. Days in CSV are both included. First it says what it would do; then it "
        "does all of it, or nothing if a line is wrong. The same file again changes nothing, and a "
        "later version of it changes what has changed. Days that recur yearly are read for this "
        f"year and the next {YEARS - 1}: import the file again each year.",
    )
    add.add_argument("file", type=Path, metavar="FILE", help="an .ics or a .csv file, in UTF-8")
    whose = add.add_mutually_exclusive_group()
    whose.add_argument("--office", metavar="NAME", help="close this office, not the whole clinic")
    whose.add_argument("--doctor", metavar="NAME", help="close this doctor, not the whole clinic")
    _add_care(add, "import")
    add.set_defaults(run=bring_in)

    listed = verbs.add_parser(
        "list",
        help="list closures",
        description="List closures in the order of time, and how many appointments stand in each.",
    )
    listed.add_argument("--all", action="store_true", help="also those that are over")
    listed.add_argument("--json", action="store_true", help="print JSON, for programs")
    listed.set_defaults(run=show)

    cancel = verbs.add_parser(
        "cancel",
        help="cancel the appointments that stand in a closure",
        description="Cancel the appointments that stand in a closure, with a reason, which stays "
        "in the history of each. First it says which. An appointment whose patient has arrived is "
        "not cancelled. The closure itself stays.",
    )
    cancel.add_argument("id", type=int, metavar="ID", help="the closure, as `closures list` has it")
    cancel.add_argument("--reason", required=True, metavar="TEXT", help="why; it stays in the book")
    _add_care(cancel, "cancel")
    cancel.set_defaults(run=call_off)


def _add_care(parser: argparse.ArgumentParser, verb: str) -> None:
    parser.add_argument("--dry-run", action="store_true", help="only say what it would do")
    parser.add_argument("--yes", action="store_true", help=f"{verb} without asking")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def execute(parsed: argparse.Namespace) -> int:
    """Do what was asked for, and return the exit status."""
    run: Callable[[argparse.Namespace], int] = parsed.run
    return run(parsed)


def _may_ask(parsed: argparse.Namespace) -> bool:
    """Tell whether the command can go on: if nobody can be asked, the arguments must decide."""
    if parsed.yes or parsed.dry_run or (can_ask() and not parsed.json):
        return True
    complain("nobody can be asked here: add --yes to do it, or --dry-run to see what it would do")
    return False


def bring_in(parsed: argparse.Namespace) -> int:
    """Import closures from a file."""
    if not _may_ask(parsed):
        return 2
    try:
        with parsed.file.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        complain(f"{parsed.file}: {error.strerror or error}")
        return 2
    if len(data) > LARGEST_FILE:
        complain(f"{parsed.file} has more than {LARGEST_FILE // 2**20} MiB: divide it")
        return 2
    return with_parts(partial(_bring_in, parsed, data))


async def _bring_in(parsed: argparse.Namespace, data: bytes, parts: Parts) -> int:
    zone = parts.settings.zone
    contents = read_closures(data, zone, utc_now().astimezone(zone).date())
    try:
        plan = await parts.importing.plan(contents, parsed.office, parsed.doctor)
    except NotRegistered as error:
        complain(unknown(error))
        return 2
    names = await parts.scheduling.names()
    if not parsed.json:
        _say_plan(plan, names, str(parsed.file))
        if contents.recurs:
            until = contents.window.ends - DAY
            say(f"Days that recur each year are read until {until:%Y-%m-%d}; import it again then.")
    ids: dict[str, int] = {}
    wanted = plan.changes_anything and not plan.wrong and not parsed.dry_run
    done = wanted and (parsed.yes or confirmed("Do all of this?"))
    if done:
        try:
            ids = await parts.importing.carry_out(plan)
        except RegistryChanged:
            complain("the schedule was changed meanwhile, and nothing was imported: try again")
            return 1
    if parsed.json:
        say_json(_plan_record(plan, names, ids, imported=done))
    elif done:
        say(_after(plan, ids))
    return int(bool(plan.wrong) or (wanted and not done))


def _say_plan(plan: Plan, names: Mapping[int, str], file: str) -> None:
    rows = [
        (what, *_span(one), whose(one, names), one.reason, planned.standing_count or None)
        for what, those in (("new", plan.new), ("changed", plan.changed), ("gone", plan.gone))
        for planned in those
        if (one := planned.after or planned.before) is not None
    ]
    if rows:
        header = ("", "FROM", "TO", "WHOSE", "REASON", "APPOINTMENTS")
        say(table(header, rows, {"APPOINTMENTS"}))
    parts = [
        f"{len(those)} {what}"
        for what, those in (("new", plan.new), ("changed", plan.changed), ("gone", plan.gone))
        if those
    ]
    if plan.known or rows:
        parts.append(f"{plan.known} known already")
    if plan.cancelled:
        parts.append(f"{counted(plan.cancelled, 'event')} called off")
    if parts or not plan.wrong:
        say(f"{file}: {', '.join(parts) or 'no closures'}.")
    if plan.standing:
        say("These appointments stand in them. They stay until somebody moves or cancels them:")
        say(standing_table(plan.standing))
    if plan.wrong:
        say(f"Lines of {file} are wrong, so nothing is imported. Correct them, and try again:")
        say(table(("LINE", "WHAT"), [(one.line, one.detail) for one in plan.wrong], {"LINE"}))


def _after(plan: Plan, ids: Mapping[str, int]) -> str:
    text = "Imported."
    full = [ids[one.imported_as] for one in plan.new if one.standing_count]
    full += [one.before.id for one in plan.changed if one.standing_count and one.before]
    if full:
        numbers = ", ".join(map(str, full[:20]))
        text += (
            f" Appointments stand in the closures {numbers}. `closures cancel ID --reason TEXT` "
            "cancels those of a closure together."
        )
    return text


def _plan_record(
    plan: Plan, names: Mapping[int, str], ids: Mapping[str, int], *, imported: bool
) -> dict[str, object]:
    def record(planned: Planned) -> dict[str, object]:
        one = planned.after or planned.before
        if one is None:
            raise ValueError(planned)
        found = exceptional_record(one, names)
        found["id"] = ids.get(planned.imported_as) or one.id or None
        return found | {"appointments_count": planned.standing_count}

    return {
        "imported": imported,
        "new": [record(one) for one in plan.new],
        "changed": [record(one) for one in plan.changed],
        "gone": [record(one) for one in plan.gone],
        "known": plan.known,
        "cancelled": plan.cancelled,
        "wrong": [{"line": one.line, "detail": one.detail} for one in plan.wrong],
        "appointments": [registered_record(one) for one in plan.standing],
    }


def show(parsed: argparse.Namespace) -> int:
    """List closures."""
    return with_parts(partial(_show, parsed))


async def _show(parsed: argparse.Namespace, parts: Parts) -> int:
    now = utc_now().astimezone(parts.settings.zone).replace(tzinfo=None)
    names = await parts.scheduling.names()
    found = [
        one
        for one in await parts.scheduling.schedule.exceptional(opens=False)
        if parsed.all or one.ends > now
    ]
    counts = [await parts.desk.count_standing(one.id) for one in found]
    if parsed.json:
        say_json(
            [
                exceptional_record(one, names) | {"appointments_count": count}
                for one, count in zip(found, counts, strict=True)
            ]
        )
        return 0
    if not found:
        say("There are no closures." if parsed.all else "There are no closures from now on.")
        return 0
    header = ("ID", "FROM", "TO", "WHOSE", "REASON", "APPOINTMENTS")
    rows = [
        (one.id, *_span(one), whose(one, names), one.reason, count or None)
        for one, count in zip(found, counts, strict=True)
    ]
    say(table(header, rows, {"ID", "APPOINTMENTS"}))
    return 0


def call_off(parsed: argparse.Namespace) -> int:
    """Cancel the appointments that stand in a closure."""
    try:
        parsed.reason = reason_of(parsed.reason)
    except ValueError as error:
        complain(f"--reason {error}")
        return 2
    return with_parts(partial(_call_off, parsed)) if _may_ask(parsed) else 2


async def _call_off(parsed: argparse.Namespace, parts: Parts) -> int:
    try:
        standing = await _all_standing(parts, parsed.id)
    except NoSuchRecord:
        complain(f"there is no closure {parsed.id}: `closures list` has them")
        return 2
    seen = {one.id: one.version for one in standing}
    if not parsed.json:
        _say_standing(standing)
    wanted = bool(seen) and not parsed.dry_run
    done = Cancellation()
    agreed = wanted and (parsed.yes or confirmed("Cancel them?"))
    if agreed:
        ids = list(seen)
        for first in range(0, len(ids), MOST_CANCELLED):
            those = {number: seen[number] for number in ids[first : first + MOST_CANCELLED]}
            piece = await parts.desk.cancel_standing(parsed.id, parsed.reason, those)
            done.cancelled += piece.cancelled
            done.cancelled_before += piece.cancelled_before
            done.not_cancelled += piece.not_cancelled
            done.left = piece.left
    if parsed.json:
        shown = {"appointments": [standing_record(one) for one in standing]}
        say_json(shown | (cancellation_record(done) if agreed else {}))
    elif agreed:
        _say_cancelled(done)
    return int(bool(done.not_cancelled) or (wanted and not agreed))


async def _all_standing(parts: Parts, closure_id: int) -> Sequence[Appointment]:
    found: list[Appointment] = []
    while True:
        after = (found[-1].date_time, found[-1].id) if found else None
        page = await parts.desk.standing(closure_id, PAGE, after)
        found += page
        if len(page) < PAGE:
            return found


PAGE = 1000


def _say_standing(standing: Sequence[Appointment]) -> None:
    if not standing:
        say("No appointments stand in this closure.")
        return
    say(standing_table(standing[:FIRST_PAGE]))
    if len(standing) > FIRST_PAGE:
        say(f"... and {len(standing) - FIRST_PAGE:,} more")


def _say_cancelled(done: Cancellation) -> None:
    say(f"{counted(len(done.cancelled) + len(done.cancelled_before), 'appointment')} cancelled.")
    if done.not_cancelled:
        say("These were not:")
        rows = [(one.id, one.status, one.detail) for one in done.not_cancelled]
        say(table(("ID", "STATUS", "WHY"), rows, {"ID"}))


def standing_table(standing: Sequence[Appointment | Standing]) -> str:
    """Return appointments that stand in closures, never whose they are."""
    rows = [
        (
            one.id,
            f"{one.date_time:%Y-%m-%d %H:%M}",
            f"{one.end_time:%H:%M}",
            one.office_number,
            one.doctor_name,
            one.status,
        )
        for one in standing
    ]
    return table(("ID", "FROM", "TO", "OFFICE", "DOCTOR", "STATUS"), rows, {"ID"})


def whose(one: Exceptional, names: Mapping[int, str]) -> str:
    """Return who is closed."""
    place = one.place
    office = place.office_id and names.get(place.office_id)
    doctor = place.doctor_id and names.get(place.doctor_id)
    if office and doctor:
        return f"{doctor}, in {office}"
    return str(doctor or office or "the clinic")


def _span(one: Exceptional) -> tuple[str, str]:
    """Return when a closure begins and ends: whole days as days, both included."""
    if one.begins.time() == one.ends.time() == datetime.time():
        return f"{one.begins:%Y-%m-%d}", f"{one.ends - DAY:%Y-%m-%d}"
    return f"{one.begins:%Y-%m-%d %H:%M}", f"{one.ends:%Y-%m-%d %H:%M}"


COMMAND = Command(
    "closures",
    "import closures such as public holidays, list them, cancel what stands in them",
    "Closures of the clinic, of an office or of a doctor. The exit status is 0 when all was done; "
    "1 when it was not, or a line of the file is wrong; 2 when arguments or settings are wrong.",
    add_arguments,
    execute,
)
