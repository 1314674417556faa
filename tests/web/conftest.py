"""The server is the same on every database, so it is tested over one."""

from collections.abc import Iterator

import pytest

from tests.process.clinic import ClinicProcess, running


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClinicProcess]:
    with running(tmp_path_factory.mktemp("clinic")) as process:
        yield process
