"""A book from before the registry: its names become records, and spellings of one name one.

Nothing is lost. Where two spellings were one office or one doctor all along, appointments may
overlap that were booked in good faith: the one that was booked later becomes an override that says
so, and the log lists them.
"""

import itertools
import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from clinic.registry.names import name_key, patient_key, words_of

log = logging.getLogger(__name__)

REASON = "kept when the spellings of its office or doctor became one name"
# Rows that are handed over at a time.
PIECE = 1000
# So many of the appointments that became overrides are named in the log; the reason finds all.
MOST_NAMED = 50

OLD_TABLES = ("appointment", "recorded", "idempotency_key")
COPIED = "id, version, status, patient_name, date_time, duration_minutes, end_time, override_reason"
RECORDED = (
    "event_id, type, appointment_id, version, status, office_number, doctor_name, day, "
    "hour_of_week, duration_minutes, lead_minutes, occurred_at, recorded_at"
)
KEYS = "key, fingerprint, appointment_id, created, stored_at"

Rows = Sequence[Sequence[Any]]


def take_over(connection: Any, schema: Iterable[str], *, sqlite: bool) -> None:
    """Move a book into another schema, which is given by its statements, in the open transaction.

    ``connection`` is one of DB-API 2.0. What was done already, before a crash, is not done again.
    """
    book = _Book(connection, sqlite=sqlite)
    if not book.is_older():
        return
    book.set_aside()
    for statement in schema:
        book.run(statement)
    names = book.register()
    book.mark_overlaps(names)
    book.copy(names)
    book.drop_older()


class _Book:
    """A database on its way from one schema to the next."""

    def __init__(self, connection: Any, *, sqlite: bool) -> None:
        self._connection = connection
        self._sqlite = sqlite

    def run(self, sql: str, values: Sequence[object] = ()) -> Rows:
        """Run a statement with ``?`` parameters and return its rows."""
        cursor = self._connection.cursor()
        if self._sqlite:
            cursor.execute(sql, values)
        elif values:
            cursor.execute(sql.replace("?", "%s"), values)
        else:
            cursor.execute(sql)
        found: Rows = cursor.fetchall() if cursor.description else ()
        cursor.close()
        return found

    def run_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement for many rows of parameters."""
        cursor = self._connection.cursor()
        for piece in pieces(rows):
            cursor.executemany(sql if self._sqlite else sql.replace("?", "%s"), piece)
        cursor.close()

    def is_older(self) -> bool:
        """Tell whether appointments have names instead of ids."""
        if self._sqlite:
            columns = [row[1] for row in self.run("pragma table_info(appointment)")]
        else:
            columns = [
                row[0]
                for row in self.run(
                    "select column_name from information_schema.columns"
                    " where table_schema = current_schema() and table_name = 'appointment'"
                )
            ]
        return "office_number" in columns

    def set_aside(self) -> None:
        """Give the tables that change other names, and take what is named after them away."""
        for kind, name in self._named_objects():
            self.run(f"drop {kind} {name}")
        for table in OLD_TABLES:
            self.run(f"alter table {table} rename to older_{table}")
            if not self._sqlite:
                self.run(f"alter index {table}_pkey rename to older_{table}_pkey")
        if not self._sqlite:
            self.run("alter sequence appointment_id_seq rename to older_appointment_id_seq")

    def _named_objects(self) -> list[tuple[str, str]]:
        if self._sqlite:
            rows = self.run(
                "select type, name from sqlite_master where sql is not null"
                " and (type = 'trigger' or type = 'index')"
                " and tbl_name in ('appointment', 'recorded', 'idempotency_key')"
            )
            return [(row[0], row[1]) for row in rows]
        constraints = self.run(
            "select conrelid::regclass, conname from pg_constraint"
            " where connamespace = current_schema()::regnamespace and contype <> 'p'"
            " and conrelid in ('appointment'::regclass, 'recorded'::regclass,"
            " 'idempotency_key'::regclass)"
        )
        for table, name in constraints:
            self.run(f"alter table {table} drop constraint {name}")
        rows = self.run(
            "select indexname from pg_indexes where schemaname = current_schema()"
            " and tablename in ('appointment', 'recorded', 'idempotency_key')"
            " and indexname not like '%_pkey'"
        )
        return [("index", row[0]) for row in rows]

    def register(self) -> dict[tuple[str, str], int]:
        """Register every name that is in use; return the ids by kind and name."""
        found: dict[tuple[str, str], int] = {}
        known: dict[tuple[str, str], int] = {}
        for kind, column in (("office", "office_number"), ("doctor", "doctor_name")):
            spellings = self.run(
                f"select name, count(*) from ("  # noqa: S608 - our own words
                f" select {column} as name from older_appointment"
                f" union all select {column} from older_recorded) as used"
                " where name is not null group by name order by count(*) desc, name"
            )
            # What most have written is what people see from now on.
            for name, _ in spellings:
                key = kind, name_key(name)
                if key not in known:
                    known[key] = len(known) + 1
                    self.run(
                        "insert into resource (id, kind, name) values (?, ?, ?)",
                        (known[key], kind, name),
                    )
                    self.run(
                        "insert into resource_key (kind, key, resource_id) values (?, ?, ?)",
                        (*key, known[key]),
                    )
                found[kind, name] = known[key]
        if not self._sqlite and known:
            self.run(f"select setval(pg_get_serial_sequence('resource', 'id'), {len(known)})")
        return found

    def mark_overlaps(self, names: dict[tuple[str, str], int]) -> None:
        """Make overrides of appointments that overlap now that spellings are one name."""
        spellings: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
        for (kind, name), resource_id in names.items():
            spellings[kind, resource_id].append(name)
        late: set[int] = set()
        for (kind, _), those in spellings.items():
            if len(those) > 1:
                column = "office_number" if kind == "office" else "doctor_name"
                marks = ", ".join("?" * len(those))
                rows = self.run(
                    "select id, date_time, end_time from older_appointment"  # noqa: S608
                    f" where {column} in ({marks}) and status <> 'cancelled'"
                    " and override_reason is null order by date_time, id",
                    those,
                )
                late |= {later for _, later in overlapping_pairs(rows)}
        self.run_many(
            "update older_appointment set override_reason = ? where id = ?",
            ((REASON, number) for number in sorted(late)),
        )
        if late:
            log.warning(
                "%d appointments overlap others since spellings of one office or doctor are one "
                "name; they are kept, and their override_reason says so: %s%s",
                len(late),
                ", ".join(map(str, sorted(late)[:MOST_NAMED])),
                " ..." if len(late) > MOST_NAMED else "",
            )

    def copy(self, names: dict[tuple[str, str], int]) -> None:
        """Copy everything from the older tables."""
        self.run("create temporary table spelled (kind text, name text, id bigint)")
        self.run_many(
            "insert into spelled values (?, ?, ?)",
            ((*one, number) for one, number in names.items()),
        )
        self.run("create temporary table patient (name text primary key, key text, words text)")
        patients = self.run("select distinct patient_name from older_appointment")
        self.run_many(
            "insert into patient values (?, ?, ?)",
            ((name, key := patient_key(name), json.dumps(words_of(key))) for (name,) in patients),
        )
        if not self._sqlite:
            self.run("select set_config('clinic.judged', 'yes', true)")
        # Overrides come after what they override.
        for overrides in ("is null", "is not null"):
            self.run(
                f"""
                insert into appointment (
                    {COPIED}, patient_key, office_id, doctor_id, occupied_from, occupied_until
                )
                select older_appointment.{COPIED}, patient.key, office.id, doctor.id, date_time,
                    end_time
                from older_appointment
                join patient on patient.name = patient_name
                join spelled as office
                    on office.kind = 'office' and office.name = office_number
                left join spelled as doctor
                    on doctor.kind = 'doctor' and doctor.name = doctor_name
                where override_reason {overrides} order by older_appointment.id
                """  # noqa: S608 - our own words
            )
        self.run(
            f"""
            insert into recorded ({RECORDED}, office_id, doctor_id)
            select {RECORDED}, office.id, doctor.id
            from older_recorded
            join spelled as office on office.kind = 'office' and office.name = office_number
            left join spelled as doctor on doctor.kind = 'doctor' and doctor.name = doctor_name
            """  # noqa: S608
        )
        self.run(
            f"insert into idempotency_key ({KEYS}) select {KEYS} from older_idempotency_key"  # noqa: S608
        )
        if self._sqlite:
            self.run(
                """
                insert into patient_word (word, appointment_id)
                select word.value, appointment.id
                from appointment join patient on patient.name = patient_name
                join json_each(patient.words) as word
                """
            )
        else:
            self.run(
                """
                select setval(
                    pg_get_serial_sequence('appointment', 'id'), last_value, is_called
                ) from older_appointment_id_seq
                """
            )

    def drop_older(self) -> None:
        """Drop what was copied."""
        for table in ("spelled", "patient", *(f"older_{one}" for one in reversed(OLD_TABLES))):
            self.run(f"drop table {table}")
        if not self._sqlite:
            self.run("drop function if exists occupied(text, timestamp, timestamp)")
            # Nothing of ours needs it any more; something of somebody else's may.
            self.run(
                "do $$ begin drop extension if exists btree_gist;"
                " exception when others then null; end $$"
            )


def overlapping_pairs(rows: Rows) -> list[tuple[int, int]]:
    """Return the pairs that overlap of appointments in order of time, the smaller number first.

    ``rows`` have a number, a beginning and an end.
    """
    pairs: list[tuple[int, int]] = []
    still: list[tuple[Any, int]] = []
    for number, begins, ends in rows:
        still = [(until, other) for until, other in still if until > begins]
        pairs += [(min(number, other), max(number, other)) for _, other in still]
        still.append((ends, number))
    return pairs


def pieces(rows: Iterable[Sequence[object]]) -> Iterator[list[Sequence[object]]]:
    """Yield rows in lists of ``PIECE``."""
    iterator = iter(rows)
    while piece := list(itertools.islice(iterator, PIECE)):
        yield piece
