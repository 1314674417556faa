"""How often somebody may ask."""

from pathlib import Path

import pytest

from clinic.access.rates import MOST_KNOWN, Rate
from tests.process.clinic import running
from tests.process.test_start import run


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_a_steady_pace() -> None:
    clock = Clock()
    rate = Rate(per_second=2, burst=4, clock=clock)
    assert [rate.wait_seconds("a") for _ in range(4)] == [0.0] * 4
    assert rate.wait_seconds("a") == pytest.approx(0.5)
    # To ask in vain costs nothing, and nobody pays for another.
    assert rate.wait_seconds("a") == pytest.approx(0.5)
    assert rate.wait_seconds("b") == 0.0
    clock.now += 0.5
    assert rate.wait_seconds("a") == 0.0
    assert rate.wait_seconds("a") == pytest.approx(0.5)
    clock.now += 100
    assert [bool(rate.wait_seconds("a")) for _ in range(5)] == [False] * 4 + [True]


def test_over_a_long_time_the_pace_is_kept() -> None:
    clock = Clock()
    rate = Rate(per_second=10, burst=20, clock=clock)
    let_in = 0
    for _ in range(10_000):
        clock.now += 0.01
        let_in += not rate.wait_seconds("a")
    assert let_in == pytest.approx(100 * 10 + 20, abs=1)


def test_a_crowd_of_strangers_takes_no_more_memory() -> None:
    clock = Clock()
    rate = Rate(per_second=1, burst=1, clock=clock)
    assert rate.wait_seconds("greedy") == 0.0
    for number in range(3 * MOST_KNOWN):
        clock.now += 1e-4
        rate.wait_seconds(str(number))
        assert len(rate._paid_until) <= MOST_KNOWN
    assert rate.wait_seconds("new") == 0.0


def test_who_asks_too_often_gets_429_and_others_do_not(tmp_path: Path) -> None:
    made = {
        name: run(tmp_path, "token", "make", name, "--permission", "read").stdout.strip()
        for name in ("greedy", "modest")
    }
    with running(tmp_path, CLINIC_REQUESTS_PER_SECOND=0.5) as clinic:

        def ask(name: str) -> int:
            sent = {"Authorization": f"Bearer {made[name]}"}
            answer = clinic.http.get("/office", headers=sent)
            if answer.status_code == 429:
                assert 1 <= int(answer.headers["Retry-After"]) <= 2
            return answer.status_code

        assert [ask("greedy") for _ in range(6)].count(429) >= 4
        assert ask("modest") == 200
        # Who sends no token is told that they need one, each address so often.
        without = [clinic.http.get("/office").status_code for _ in range(4)]
        assert set(without) == {401, 429}
        # Health checks have no limit.
        assert {clinic.http.get("/health/ready").status_code for _ in range(9)} == {200}


def test_wrong_tokens_are_slowed_down_and_right_ones_are_not(tmp_path: Path) -> None:
    secret = run(tmp_path, "token", "make", "desk", "--permission", "desk").stdout.strip()
    with running(tmp_path) as clinic:

        def ask(token: str) -> int:
            sent = {"Authorization": f"Bearer {token}"}
            return clinic.http.get("/office", headers=sent).status_code

        tried = [ask(f"clinic_{number:043}") for number in range(20)]
        assert tried[:5] == [401] * 5
        assert tried[-5:] == [429] * 5
        assert ask(secret) == 200
