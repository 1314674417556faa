"""Book by a client that openapi-generator has made: python booking_by_openapi_generator.py URL."""

import datetime
import sys

from openapi_client import ApiClient, AppointmentsApi, Booking, Change, Configuration
from openapi_client.exceptions import ConflictException, UnprocessableEntityException
from openapi_client.models.time_taken_problem import TimeTakenProblem

with ApiClient(Configuration(host=sys.argv[1])) as client:
    appointments = AppointmentsApi(client)
    booking = Booking(
        patient_name="Иван Иванов",
        office_number="openapi-generator",
        date_time="2027-12-01T15:30:00",
        duration_minutes=30,
    )
    made = appointments.book(booking, idempotency_key="openapi-generator")
    assert made.to_dict().items() >= booking.to_dict().items(), made

    shown = appointments.show(made.id)
    assert (shown.status, shown.doctor_name, shown.duration_minutes) == ("booked", None, 30)
    (listed,) = appointments.list(office_number="openapi-generator", status="booked")
    assert listed == shown
    tomorrow = datetime.date(2027, 12, 2)
    assert appointments.list(var_from=tomorrow, office_number="openapi-generator") == []

    try:
        appointments.book(booking.model_copy(update={"patient_name": "Анна Ли"}))
    except ConflictException as error:
        assert isinstance(error.data, TimeTakenProblem), error.data
        assert error.data.conflicts[0].id == made.id
        assert error.data.free_times[0] == "2027-12-01T16:00:00"
    else:
        raise AssertionError("booked twice")
    try:
        appointments.book(booking.model_copy(update={"patient_name": ""}))
    except UnprocessableEntityException as error:
        assert error.data.actual_instance.errors[0].pointer == "#/patient_name", error.data
    else:
        raise AssertionError("booked for nobody")

    changed = appointments.change(made.id, Change(status="arrived"), if_match='"1"')
    assert changed.status == "arrived"
    told = appointments.history(made.id)
    assert [event.type for event in told] == ["appointment.booked", "appointment.arrived"]
