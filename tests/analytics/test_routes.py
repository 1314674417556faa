"""Analytics over HTTP."""

import pytest

from tests.process.clinic import ClinicProcess, until


def test_what_is_booked_is_counted(clinic: ClinicProcess) -> None:
    days = {"from": "2030-05-06", "to": "2030-05-07"}
    for day, office in (("2030-05-06", "31"), ("2030-05-07", "32"), ("2030-05-07", "31")):
        assert clinic.book(date_time=f"{day}T09:30:00", office_number=office).status_code == 201
    until(lambda: clinic.http.get("/analytics", params=days).json()["totals"]["booked"] == 3)
    for path in ("/analytics", "/analytics/"):
        answer = clinic.http.get(path, params=days).json()
        assert answer["lead_time_minutes"]["median"] > 0
        del answer["lead_time_minutes"]
        assert answer == {
            "from": "2030-05-06",
            "to": "2030-05-07",
            "totals": {"booked": 3},
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
