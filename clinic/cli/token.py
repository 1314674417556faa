"""``clinic token``: make, list and revoke the tokens by which clients are let in."""

import argparse
import datetime
import re
from urllib.parse import urlencode

from clinic.access.file import line_of
from clinic.access.token import BadToken, Token, read_permissions
from clinic.access.tokens import NoSuchToken, new_token
from clinic.acting import CLI, Act, act_as
from clinic.appointments.search import FeedSearch
from clinic.cli.command import Command
from clinic.cli.opened import with_parts
from clinic.cli.output import say, say_json, table, tell
from clinic.database import utc_now
from clinic.parts import Parts
from clinic.supervisor import Misconfigured
from clinic.web.callers import MEANINGS, Permission

GIVEN = [one for one in MEANINGS if one is not Permission.FEED]
HEAD = ("NAME", "MAY", "STATE", "MADE", "EXPIRES", "LAST USED")
UNITS = {"h": 1, "d": 24, "w": 7 * 24, "y": 365 * 24}

EXAMPLES = """\
examples:
  token make desk --permission desk                  for the programs that book
  token make Anna --permission desk --expires 90d    for a person, for a quarter of a year
  token make statistics --permission read            sees no patients
  token make "Dr Watson's phone" --doctor "Dr Watson"   for one calendar alone
  token make desk --permission desk --for-file       for a container: API_TOKENS_FILE
  token list
  token revoke Anna
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be done with tokens."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        "permissions:\n"
        + "".join(f"  {one:<11} {MEANINGS[one]}\n" for one in GIVEN)
        + f"\n{EXAMPLES}"
    )
    named = parser.add_subparsers(metavar="make|list|revoke", required=True)
    make = named.add_parser("make", help="make a token and print it, the only time")
    make.add_argument("name", help="who or what it is for; it stands in the audit")
    make.add_argument(
        "--permission",
        action="append",
        choices=[str(one) for one in GIVEN],
        help="what it may do; can be repeated",
    )
    make.add_argument(
        "--expires", metavar="90d", type=lifetime, help="in hours, days, weeks, years"
    )
    make.add_argument("--office", help="good for the calendar of this office alone")
    make.add_argument("--doctor", help="good for the calendar of this doctor alone")
    make.add_argument(
        "--for-file",
        action="store_true",
        help="print the token and its line for API_TOKENS_FILE, and store nothing",
    )
    make.add_argument(
        "--only-first",
        action="store_true",
        help="make it only if no token has ever been made, as the compose file does",
    )
    make.set_defaults(do=make_token)
    listed = named.add_parser("list", help="list tokens and when each was last used")
    listed.add_argument("--json", action="store_true", help="as JSON, for scripts")
    listed.set_defaults(do=list_tokens)
    revoke = named.add_parser("revoke", help="let a token count no more")
    revoke.add_argument("name")
    revoke.set_defaults(do=revoke_token)


def lifetime(text: str) -> datetime.timedelta:
    """Return how long a token counts."""
    found = re.fullmatch("([1-9][0-9]{0,3})([hdwy])", text)
    if not found:
        raise argparse.ArgumentTypeError("write 12h, 90d, 6w or 1y")
    return datetime.timedelta(hours=int(found[1]) * UNITS[found[2]])


def execute(parsed: argparse.Namespace) -> int:
    """Do what was asked for."""
    try:
        return int(parsed.do(parsed))
    except BadToken as error:
        raise Misconfigured(str(error)) from None


def make_token(parsed: argparse.Namespace) -> int:
    """Make a token and print it."""
    permissions, feed = _meant(parsed)
    expires_at = None if parsed.expires is None else utc_now() + parsed.expires
    if parsed.for_file:
        if feed is not None:
            raise BadToken("a token for a calendar cannot stand in a file: make it without it")
        act_as(Act(CLI))
        secret, token = new_token(parsed.name, permissions, expires_at=expires_at)
        say(f"{secret}\n{line_of(token)}")
        return 0

    async def work(parts: Parts) -> int:
        if parsed.only_first and await parts.tokens.all():
            tell("A token has been made already, and so no first one: `token list` shows all.")
            return 0
        secret, token = await parts.tokens.make(
            parsed.name, permissions, expires_at=expires_at, feed=feed
        )
        say(secret)
        tell(f"This is the token {token.name}. It is shown this once, and kept nowhere.")
        if feed is not None:
            named = {"office_number": parsed.office, "doctor_name": parsed.doctor}
            query = urlencode({name: value for name, value in named.items() if value})
            tell(f"It is good for this calendar alone: /appointment.ics?{query}&token={secret}")
        else:
            tell("Send it in the header Authorization: Bearer TOKEN")
        return 0

    return with_parts(work, may_be_new=True)


def _meant(parsed: argparse.Namespace) -> tuple[frozenset[Permission], str | None]:
    """Return what the token may do, and the feed that it is good for, if it is for one.

    Raises:
        BadToken: neither is said, or both are.
    """
    of_feed = parsed.office is not None or parsed.doctor is not None
    if bool(parsed.permission) == of_feed:
        raise BadToken(
            f"say what the token may do: --permission {'|'.join(GIVEN)}, or --office or --doctor "
            "for one calendar alone"
        )
    if not of_feed:
        return read_permissions(parsed.permission), None
    return frozenset({Permission.FEED}), parsed_feed(parsed).key


def parsed_feed(parsed: argparse.Namespace) -> FeedSearch:
    """Return the calendar that is named.

    Raises:
        BadToken: a name is none.
    """
    try:
        return FeedSearch(office_number=parsed.office, doctor_name=parsed.doctor)
    except ValueError:
        raise BadToken("--office and --doctor must be the names of one") from None


def list_tokens(parsed: argparse.Namespace) -> int:
    """Print the tokens."""

    async def work(parts: Parts) -> int:
        tokens = await parts.tokens.all()
        if parsed.json:
            say_json([_record(token) for token in tokens])
        elif tokens:
            say(table(HEAD, [_row(token) for token in tokens]))
        else:
            tell("No token has been made yet: `token make --help` says how.")
        return 0

    return with_parts(work)


def _record(token: Token) -> dict[str, object]:
    return {
        "name": token.name,
        "permissions": sorted(token.permissions),
        "feed": token.feed,
        "counts": token.counts,
        "made_at": token.made_at,
        "made_by": token.made_by,
        "expires_at": token.expires_at,
        "revoked_at": token.revoked_at,
        "last_used_at": token.last_used_at,
        "from_file": token.from_file,
    }


def _row(token: Token) -> tuple[object, ...]:
    state = "revoked" if token.revoked_at is not None else "counts" if token.counts else "expired"
    return (
        token.name,
        f"calendar {token.feed}" if token.feed else ", ".join(sorted(token.permissions)),
        state,
        _minute(token.made_at) or "in the file",
        _minute(token.expires_at),
        _minute(token.last_used_at),
    )


def _minute(moment: datetime.datetime | None) -> str | None:
    """Return a moment as people read it, in this machine's time zone."""
    return None if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M")


def revoke_token(parsed: argparse.Namespace) -> int:
    """Revoke a token."""

    async def work(parts: Parts) -> int:
        try:
            await parts.tokens.revoke(parsed.name)
        except NoSuchToken:
            tell(f"There is no token called {parsed.name} that counts; `token list` shows all.")
            return 1
        tell(f"The token {parsed.name} counts nowhere after two seconds.")
        return 0

    return with_parts(work)


COMMAND = Command(
    "token",
    "make, list and revoke the tokens by which clients are let in",
    "Make, list and revoke the tokens by which clients are let in. From the first one on, each "
    "request needs one. It works while the clinic runs and while it does not; a token counts "
    "everywhere at once, and a revoked one nowhere after two seconds.",
    add_arguments,
    execute,
)
