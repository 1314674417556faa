"""The appointment's table: one function, one statement."""

from clinic.appointments.appointment import Appointment, Booking
from clinic.database import Connection, Row, as_wall_clock


async def insert_appointment(
    connection: Connection, booking: Booking, duration_minutes: int
) -> Appointment:
    """Write an appointment into the book."""
    rows = await connection.fetch_all(
        """
        insert into appointment
            (patient_name, office_number, doctor_name, date_time, duration_minutes)
        values (:patient_name, :office_number, :doctor_name, :date_time, :duration_minutes)
        returning id, patient_name, office_number, doctor_name, date_time, duration_minutes
        """,
        {
            "patient_name": booking.patient_name,
            "office_number": booking.office_number,
            "doctor_name": booking.doctor_name,
            "date_time": booking.date_time,
            "duration_minutes": duration_minutes,
        },
    )
    return _appointment(rows[0])


async def select_appointment(connection: Connection, appointment_id: int) -> Appointment | None:
    """Return one appointment, or None if there is no such."""
    rows = await connection.fetch_all(
        """
        select id, patient_name, office_number, doctor_name, date_time, duration_minutes
        from appointment where id = :id
        """,
        {"id": appointment_id},
    )
    return _appointment(rows[0]) if rows else None


async def select_appointments_after(
    connection: Connection, after: int, limit: int
) -> list[Appointment]:
    """Return appointments in the order of their ids, from the first id above ``after``."""
    rows = await connection.fetch_all(
        """
        select id, patient_name, office_number, doctor_name, date_time, duration_minutes
        from appointment where id > :after order by id limit :limit
        """,
        {"after": after, "limit": limit},
    )
    return [_appointment(row) for row in rows]


def _appointment(row: Row) -> Appointment:
    return Appointment(**{**row, "date_time": as_wall_clock(row["date_time"])})
