"""Book by a client that openapi-python-client has made: python ... URL."""

import sys
from http import HTTPStatus

from clinic_client import Client
from clinic_client.api.appointments import book, change, history, list_, show
from clinic_client.models import (
    AppointmentRecord,
    Booking,
    Change,
    Confirmation,
    TimeTakenProblem,
    WrongFieldsProblem,
)
from clinic_client.models.change_status import ChangeStatus

client = Client(base_url=sys.argv[1], raise_on_unexpected_status=True)
booking = Booking(
    patient_name="Иван Иванов",
    office_number="openapi-python-client",
    date_time="2027-12-01T15:30:00",
)
assert Booking.from_dict(booking.to_dict()) == booking
made = book.sync_detailed(client=client, body=booking, idempotency_key="openapi-python-client")
assert made.status_code == HTTPStatus.CREATED, made
confirmed = made.parsed
assert isinstance(confirmed, Confirmation)
assert confirmed.to_dict() == {"id": confirmed.id} | booking.to_dict()

shown = show.sync(confirmed.id, client=client)
assert isinstance(shown, AppointmentRecord)
assert (str(shown.status), shown.doctor_name) == ("booked", None)
assert list_.sync(client=client, office_number=booking.office_number) == [shown]

booking.patient_name = "Анна Ли"
taken = book.sync(client=client, body=booking)
assert isinstance(taken, TimeTakenProblem), taken
assert taken.conflicts[0].id == confirmed.id
assert taken.free_times[0] == "2027-12-01T15:45:00"
booking.patient_name = ""
wrong = book.sync(client=client, body=booking)
assert isinstance(wrong, WrongFieldsProblem), wrong
assert wrong.errors[0].pointer == "#/patient_name"

wanted = Change(status=ChangeStatus.ARRIVED)
changed = change.sync(confirmed.id, client=client, body=wanted, if_match='"1"')
assert isinstance(changed, AppointmentRecord)
assert str(changed.status) == "arrived"
told = history.sync(confirmed.id, client=client)
assert isinstance(told, list)
assert [str(event.type_) for event in told] == ["appointment.booked", "appointment.arrived"]
