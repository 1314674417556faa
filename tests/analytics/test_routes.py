"""Analytics over HTTP."""

import pytest

from tests.process.clinic import ClinicProcess, until


def test_what_is_booked_and_what_becomes_of_it_is_counted(clinic: ClinicProcess) -> None:
    days = {"from": "2030-05-06", "to": "2030-05-07"}
    paths = []
    for day, office in (("2030-05-06", "31"), ("2030-05-07", "32"), ("2030-05-07", "31")):
        answer = clinic.book(
            date_time=f"{day}T09:30:00", office_number=office, doctor_name=f"Доктор {office}"
        )
        paths.append(answer.headers["location"])
    for change in ({"status": "arrived"}, {"note": "waits outside"}, {"status": "in_room"}):
        assert clinic.http.patch(paths[0], json=change).status_code == 200
    clinic.http.patch(paths[1], json={"status": "no_show"})
    clinic.http.delete(paths[2])

    def totals() -> dict[str, int]:
        found: dict[str, int] = clinic.http.get("/analytics", params=days).json()["totals"]
        return found

    until(lambda: totals()["cancelled"] == 1 and sum(totals().values()) == 8)
    in_use = {
        "minutes": 15,
        "days": 1,
        "utilisation": 0.0208,
        "minutes_open": 720,
        "minutes_in_hours": 15,
        "overbooked_minutes": 0,
    }
    for path in ("/analytics", "/analytics/"):
        answer = clinic.http.get(path, params=days).json()
        assert answer["lead_time_minutes"]["median"] > 0
        del answer["lead_time_minutes"]
        assert answer == {
            "from": "2030-05-06",
            "to": "2030-05-07",
            "totals": {
                "booked": 3,
                "renamed": 0,
                "annotated": 1,
                "erased": 0,
                "reassigned": 0,
                "rescheduled": 0,
                "reopened": 0,
                "arrived": 1,
                "in_room": 1,
                "done": 0,
                "no_show": 1,
                "cancelled": 1,
            },
            "booked_per_day": [
                {"day": "2030-05-06", "booked": 1},
                {"day": "2030-05-07", "booked": 2},
            ],
            "booked_per_office": [
                {"office_number": "31", "booked": 2},
                {"office_number": "32", "booked": 1},
            ],
            "booked_per_hour_of_week": [
                {"weekday": "monday", "hour": 9, "booked": 1},
                {"weekday": "tuesday", "hour": 9, "booked": 2},
            ],
            "appointments": {
                "booked": 0,
                "arrived": 0,
                "in_room": 1,
                "done": 0,
                "no_show": 1,
                "cancelled": 1,
            },
            "no_show_rate": 0.5,
            "cancellation_rate": 0.3333,
            "waiting_time_minutes": {"median": 0, "p90": 0},
            "waiting_time_per_doctor": [
                {"doctor_name": "Доктор 31", "appointments": 1, "median": 0, "p90": 0}
            ],
            "utilisation_per_office": [{"office_number": "31", **in_use}],
            "utilisation_per_doctor": [{"doctor_name": "Доктор 31", **in_use}],
        }


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("from=yesterday", "#/from"),
        ("from=2025-13-01", "#/from"),
        ("to=20251201", "#/to"),
        ("to=", "#/to"),
        ("from=2025-12-02&to=2025-12-01", "#/to"),
        ("from=2025-12-01&from=2025-12-02", "#/from"),
        ("form=2025-12-01", "#"),
        ("from=%00", "#/from"),
        ("from=%ff", "#/from"),
    ],
)
def test_a_wrong_range_is_refused(clinic: ClinicProcess, query: str, pointer: str) -> None:
    answer = clinic.http.get(f"/analytics?{query}")
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
