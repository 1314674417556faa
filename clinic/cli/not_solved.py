"""``clinic not-solved``: look at what was set aside, replay it, discard it."""

import argparse
import datetime
import getpass
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from pydantic_core import to_json

from clinic.cli.carrying_out import CarryingOut
from clinic.cli.command import DONE, FAILED, USAGE, Command
from clinic.cli.opened import with_parts
from clinic.cli.output import can_ask, complain, confirmed, tell
from clinic.database import utc_now
from clinic.messaging.attempts import HOST
from clinic.operating.handlers import (
    NotSolved,
    group_record,
    message_record,
    operation_record,
    row_record,
)
from clinic.operating.operations import Operation, Status, Verb, advice, moment, preview
from clinic.operating.requests import FASTEST
from clinic.operating.selection import Selection
from clinic.parts import Parts

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST_PAGE = 100_000

DESCRIPTION = """\
Messages that could not be handled are set aside, until a person acts. Look at them by the kind of
their error, mend what is wrong, then send them round again (replay), or take them out for a reason
(discard). A discarded message is kept for CLINIC_MESSAGES_KEPT_DAYS, and can be restored.

  {door} not-solved list                         what waits, by the kind of error
  {door} not-solved show 17                      one of them, with the attempts at it
  {door} not-solved replay 17 18                 these two
  {door} not-solved replay --kind TimeoutError   all of a kind
  {door} not-solved replay --all --rate 100      all, 100 a second
  {door} not-solved discard 17 --reason "of a rehearsal"
  {door} not-solved restore 17                   bring back what was discarded
  {door} not-solved check                        correct the list by the broker's queue
  {door} not-solved operations                   what was planned, and what came of it
  {door} not-solved results 3                    what became of each message of one
  {door} not-solved resume 3                     go on with one that was stopped, or only planned
  {door} not-solved stop 3                       stop one between two chunks

It needs no process that runs. What it has begun goes on in any process of the clinic if it is
killed. Ctrl-C stops it between two chunks.

The exit status is 0 if it was done; 1 if it was stopped, if messages were missing, or if check
found a difference; 2 if the command is wrong.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a sub-command for each thing to do."""
    door = parser.prog.removesuffix(" not-solved")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = DESCRIPTION.format(door=door)
    todo = parser.add_subparsers(metavar="WHAT", required=True)

    def sub(name: str, text: str, run: Callable[..., Awaitable[int]]) -> argparse.ArgumentParser:
        added = todo.add_parser(name, help=text, description=text)
        added.add_argument("--json", action="store_true", help="print JSON, for scripts")
        added.set_defaults(run=run)
        return added

    listing = sub("list", "list what waits, and count it by the kind of error", show_list)
    add_filter(listing)
    listing.add_argument("--limit", type=number, default=20, help="messages to show (20)")
    listing.add_argument("--past", type=number, default=0, help="those after this id")
    showing = sub("show", "show a message, with the attempts at it", show)
    showing.add_argument("id", type=number)
    for verb, text in {
        Verb.REPLAY: "send messages round again",
        Verb.DISCARD: "take messages out, for a reason",
        Verb.RESTORE: "set discarded messages aside again",
    }.items():
        doing = sub(str(verb), text, partial(operate, verb))
        doing.add_argument("ids", metavar="ID", nargs="*", type=number)
        doing.add_argument("--all", action="store_true", help="all there are")
        add_filter(doing)
        doing.add_argument("--rate", type=positive, help="messages a second")
        doing.add_argument("--yes", action="store_true", help="do not ask")
        if verb is Verb.DISCARD:
            doing.add_argument("--reason", required=True, help="why; it is kept with them")
    sub("check", "correct the list by the broker's queue", check)
    sub("operations", "list the newest operations", show_operations)
    results = sub("results", "list what became of each message of an operation", show_results)
    results.add_argument("id", type=number)
    results.add_argument("--limit", type=number, default=100, help="messages to show (100)")
    results.add_argument("--past", type=number, default=0, help="those after this id")
    for status, text in {
        Status.RUNNING: "go on with an operation, or start one that was planned",
        Status.STOPPED: "stop an operation between two chunks",
    }.items():
        name = "resume" if status is Status.RUNNING else "stop"
        sub(name, text, partial(bring_to, status)).add_argument("id", type=number)


def add_filter(parser: argparse.ArgumentParser) -> None:
    """Add what messages are selected by."""
    parser.add_argument("--kind", help="the kind of error, such as ValueError")
    parser.add_argument("--event-type", help="such as appointment.booked")
    parser.add_argument("--office", help="the office's number")
    age = "set aside longer ago than this: 90s, 15m, 2h or 7d"
    parser.add_argument("--older-than", type=duration, metavar="AGE", help=age)
    parser.add_argument(
        "--newer-than", type=duration, metavar="AGE", help=age.replace("longer ago", "later")
    )


def number(text: str) -> int:
    """Return a whole number from 0 on."""
    if not re.fullmatch("[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError("must be a whole number")
    return int(text)


def positive(text: str) -> int:
    """Return a whole number from 1 to 100,000."""
    if not 1 <= number(text) <= FASTEST:
        raise argparse.ArgumentTypeError("must be from 1 to 100000")
    return int(text)


def duration(text: str) -> datetime.timedelta:
    """Return the time that a text such as 2h stands for."""
    found = re.fullmatch("([0-9]{1,6})([smhd])", text)
    if not found:
        raise argparse.ArgumentTypeError("must be such as 90s, 15m, 2h or 7d")
    return datetime.timedelta(seconds=int(found[1]) * UNITS[found[2]])


def execute(parsed: argparse.Namespace) -> int:
    """Do what the sub-command says."""
    reason = getattr(parsed, "reason", None)
    if reason is not None and not 1 <= len(reason) <= 500:  # noqa: PLR2004 - as the table has it
        complain("the reason must have 1 to 500 characters")
        return USAGE
    return with_parts(partial(parsed.run, parsed))


def not_solved(parts: Parts) -> NotSolved:
    """Return what is worked with."""
    return NotSolved(parts.operations, parts.registry, parts.memory)


async def selection(parts: Parts, parsed: argparse.Namespace) -> Selection:
    """Return what the arguments select."""
    now = utc_now()
    return Selection(
        ids=tuple(parsed.ids) if getattr(parsed, "ids", ()) else None,
        kind=parsed.kind,
        event_type=parsed.event_type,
        office_id=await not_solved(parts).office_id(parsed.office),
        after=now - parsed.newer_than if parsed.newer_than else None,
        before=now - parsed.older_than if parsed.older_than else None,
    )


async def show_list(parsed: argparse.Namespace, parts: Parts) -> int:
    """List what waits."""
    asked = await selection(parts, parsed)
    operations = parts.operations
    groups = [group_record(row) for row in await operations.groups(asked)]
    offices = await not_solved(parts).offices()
    limit = min(parsed.limit, LONGEST_PAGE)
    rows = [row_record(row, offices) for row in await operations.waiting(asked, parsed.past, limit)]
    waiting = sum(int(str(group["messages"])) for group in groups)
    in_queue = await operations.in_queue()
    if parsed.json:
        put({"waiting": waiting, "in_queue": in_queue, "groups": groups, "messages": rows})
        return DONE
    if not groups:
        put_line("Nothing waits.")
    else:
        put_table(groups, {"kind": "kind of error", "messages": "messages"} | AGES)
        put_line("")
        put_table(rows, COLUMNS)
        if len(rows) < waiting:
            put_line(f"... {waiting:,} in all; --limit and --past show more.")
    if asked == Selection() and in_queue not in (None, waiting):
        put_line(
            f"The broker's queue has {in_queue:,} messages and this list {waiting:,}. Unless an "
            "operation runs, somebody has added or removed some: not-solved check corrects the "
            "list."
        )
    return DONE


AGES = {"first_at": "first", "last_at": "last"}
COLUMNS = {
    "id": "id",
    "kind": "kind of error",
    "event_type": "event",
    "office_number": "office",
    "deliveries": "tries",
    "set_aside_at": "set aside",
    "reason": "reason",
}


async def show(parsed: argparse.Namespace, parts: Parts) -> int:
    """Show a message."""
    found = await parts.operations.show(parsed.id)
    record = row_record(found.row, await not_solved(parts).offices())
    attempts = [{**one, "failed_at": moment(one["failed_at"])} for one in found.attempts]
    message = found.message and message_record(found.message)
    if parsed.json:
        put({**record, "advice": advice(found.row), "attempts": attempts, "message": message})
        return DONE
    for name, value in record.items():
        if value is not None:
            put_line(f"{name.replace('_', ' '):14} {shown(value)}")
    put_line(f"\n{advice(found.row)}\n")
    for one in attempts:
        put_line(
            f"{shown(one['failed_at'])}  delivery {one['delivery'] or '?'} failed in "
            f"{one['host']}:{one['pid']}\n{one['traceback']}"
        )
    if message:
        put_line(f"\n{message['body']}")
    elif not record["event_id"]:
        put_line("The message is too large to be kept here as well as in the broker's queue.")
    return DONE


async def operate(verb: Verb, parsed: argparse.Namespace, parts: Parts) -> int:
    """Plan an operation, ask, carry it out, and tell what came of it."""
    asked = await selection(parts, parsed)
    if asked == Selection() and not parsed.all:
        complain("say which messages: ids, a filter, or --all")
        return USAGE
    if asked != Selection() and parsed.all:
        complain("--all means all; leave it out to select some")
        return USAGE
    planned = await parts.operations.plan(
        verb, asked, by_command(), getattr(parsed, "reason", None), parsed.rate
    )
    if not planned.messages:
        return await told(parsed, parts, planned, "No message is selected: nothing to do.")
    tell(preview(planned))
    if not parsed.yes and not agreed(f"{verb} them?"):
        tell(f"Nothing was done. `not-solved resume {planned.id}` starts exactly this.")
        return FAILED
    await parts.operations.bring_to(planned.id, Status.RUNNING)
    return await carry_out(parsed, parts, planned.id)


async def check(parsed: argparse.Namespace, parts: Parts) -> int:
    """Correct the index by the queue."""
    before = sum(row["messages"] for row in await parts.operations.groups())
    planned = await parts.operations.plan(Verb.CHECK, Selection(), by_command())
    await parts.operations.bring_to(planned.id, Status.RUNNING)
    status = await carry_out(parsed, parts, planned.id)
    after = sum(row["messages"] for row in await parts.operations.groups())
    if after != before:
        tell(f"The list had {before:,} messages, and has {after:,} now.")
        return FAILED
    return status


async def show_operations(parsed: argparse.Namespace, parts: Parts) -> int:
    """List the newest operations."""
    found = await parts.operations.newest(50)
    if parsed.json:
        offices = await not_solved(parts).offices()
        put([operation_record(one, offices) for one in found])
        return DONE
    rows = [
        {
            "id": one.id,
            "verb": one.verb,
            "status": one.status,
            "messages": one.messages,
            "results": results_in_words(one),
            "planned_at": one.planned_at,
            "planned_by": one.planned_by,
            "filter": one.selection.words(),
        }
        for one in found
    ]
    names = ("id", "verb", "status", "messages", "results", "planned_at", "planned_by", "filter")
    put_table(rows, {name: name.replace("_", " ") for name in names})
    return DONE


async def show_results(parsed: argparse.Namespace, parts: Parts) -> int:
    """List what became of each message of an operation."""
    limit = min(parsed.limit, LONGEST_PAGE)
    rows = await parts.operations.dealt_with(parsed.id, parsed.past, limit)
    offices = await not_solved(parts).offices()
    records = [row_record(row, offices) for row in rows]
    if parsed.json:
        put(records)
        return DONE
    names = ("id", "state", "ended_at", "kind", "event_type", "office_number", "event_id")
    put_table(records, {name: name.replace("_", " ") for name in names})
    if len(rows) == limit:
        put_line("... --limit and --past show more.")
    return DONE


async def bring_to(status: Status, parsed: argparse.Namespace, parts: Parts) -> int:
    """Start or stop an operation."""
    await parts.operations.bring_to(parsed.id, status)
    if status is Status.RUNNING:
        return await carry_out(parsed, parts, parsed.id)
    stopped = await parts.operations.show_operation(parsed.id)
    return await told(parsed, parts, stopped, f"Stopped: {results_in_words(stopped)}.")


async def carry_out(parsed: argparse.Namespace, parts: Parts, operation_id: int) -> int:
    """Carry out an operation, or watch the process that does, until it is done or stopped."""
    one = await CarryingOut(parts, operation_id).run()
    words = results_in_words(one) or "nothing to do"
    if one.status is Status.STOPPED:
        words = f"Stopped: {words}. `not-solved resume {one.id}` goes on"
    else:
        words = f"Done: {words}"
    status = await told(parsed, parts, one, f"{words}.")
    ended = one.status is Status.DONE and not one.results.get("missing")
    return status if ended else FAILED


async def told(parsed: argparse.Namespace, parts: Parts, operation: Operation, words: str) -> int:
    """Tell of an operation, in words or as JSON."""
    if parsed.json:
        put(operation_record(operation, await not_solved(parts).offices()))
    else:
        put_line(words)
    return DONE


def results_in_words(operation: Operation) -> str:
    """Return what came of an operation."""
    words = {
        "dropped": "dropped (recorded already)",
        "missing": "missing (not in the queue any more)",
        "waiting": "set aside again",
    }
    return ", ".join(
        f"{count:,} {words.get(state, state)}" for state, count in operation.results.items()
    )


def by_command() -> str:
    """Return who runs this command, for the record."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        user = "somebody"
    return f"{user}@{HOST}"


def agreed(question: str) -> bool:
    """Ask a person; whoever is none has to say --yes."""
    if not can_ask():
        complain("nobody is there to ask: say --yes")
        return False
    return confirmed(question)


def shown(value: object) -> str:
    """Return a value for a person, on one line."""
    if value is None:
        return "-"
    if isinstance(value, datetime.datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, int):
        return f"{value}"
    text = str(value)
    return "".join(one if one.isprintable() else "?" for one in text)


def put(value: object) -> None:
    """Print JSON."""
    put_line(json.dumps(json.loads(to_json(value)), ensure_ascii=False, indent=2))


def put_line(text: str) -> None:
    """Print a line."""
    print(text)  # noqa: T201 - what a command is for


def put_table(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """Print rows under headings, in columns that are wide enough."""
    lines: Sequence[Sequence[str]] = [
        list(columns.values()),
        *([shown(row[name]) for name in columns] for row in rows),
    ]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        put_line("  ".join(cells).rstrip())


COMMAND = Command(
    "not-solved",
    "look at what could not be handled, replay it, discard it",
    DESCRIPTION.format(door="clinic"),
    add_arguments,
    execute,
)
