"""How long the supervisor pauses."""

from hypothesis import given
from hypothesis import strategies as st

from clinic.supervisor import Patience


@given(failures=st.integers(1, 10**9))
def test_pauses_are_never_longer_than_the_longest(failures: int) -> None:
    patience = Patience()
    assert 0 <= patience.pause_seconds(failures) <= patience.longest_pause_seconds
    assert patience.pause_seconds(1) <= patience.first_pause_seconds
