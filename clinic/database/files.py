"""The files of an SQLite database: only its owner reads them, and nobody replaces them unseen."""

import contextlib
import logging
import os
import stat
from pathlib import Path

from clinic.database.engine import DatabaseLost, DatabaseUnavailable

log = logging.getLogger(__name__)

# What belongs to the owner alone: every row of the database is personal.
PRIVATE = 0o600
# SQLite keeps these beside the database while anybody has it open, and gives them its permissions:
# https://sqlite.org/tempfiles.html
COMPANIONS = ("-wal", "-shm")

Identity = tuple[int, int]
NOTHING: Identity = (0, 0)
UNKNOWN: Identity = (-1, -1)


class DatabaseFiles:
    """Which files were opened: the database, the log of what was committed, and its index.

    SQLite goes on writing to a file that was deleted or replaced, and those writes are lost:
    https://sqlite.org/howtocorrupt.html, section 4.
    """

    def __init__(self, path: Path) -> None:
        self._shown = path
        self._paths: tuple[str, ...] = ()
        self._database: Identity | None = None
        self._known: tuple[Identity, ...] = ()

    def remember(self, *, anew: bool) -> None:
        """Note what has just been opened; the database itself only once, the others ``anew``."""
        if not anew:
            return
        path = str(self._shown.resolve())
        self._paths = (str(self._shown), *(path + companion for companion in COMPANIONS))
        database, *companions = (identity(path) for path in self._paths)
        self._database = self._database or database
        self._known = (self._database, *companions)

    def check(self, *, companions: bool) -> None:
        """Check that the database, and its ``companions``, are what was opened; takes about 5 µs.

        Raises:
            DatabaseLost: one of them was deleted or replaced.
            DatabaseUnavailable: that cannot be told now.
        """
        paths = self._paths if companions else self._paths[:1]
        found = [identity(path) for path in paths]
        known = self._known[: len(found)]
        if UNKNOWN in found:
            raise DatabaseUnavailable(f"the database file {self._shown} cannot be accessed")
        if any(then not in (now, NOTHING, UNKNOWN) for now, then in zip(found, known, strict=True)):
            raise DatabaseLost(
                f"the database file {self._shown}, or one of those beside it, was deleted or "
                "replaced while the clinic had it open: anything written now would be lost. Put "
                "the right file back, then start again"
            )


def identity(path: str) -> Identity:
    """Return the device and inode of a file, or ``NOTHING`` if there is no file."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a third of the time that Path.stat takes
    except (FileNotFoundError, NotADirectoryError):
        return NOTHING
    except OSError:
        return UNKNOWN
    return found.st_dev, found.st_ino


def make_private(path: Path) -> None:
    """Make an empty file for the database, if there is none, that only its owner can read.

    Raises:
        OSError: it cannot be made, or something else has its name: a folder, a pipe, a device.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path.resolve(), flags, PRIVATE))
    if not path.is_file():
        raise OSError("it is no regular file")


def keep_private(path: Path) -> None:
    """Close an existing database to all other users, and log it.

    Permissions for the group alone are left as they are: somebody gave them on purpose.
    """
    resolved = str(path.resolve())
    names = (resolved, *(resolved + companion for companion in COMPANIONS))
    exposed = [name for name in map(Path, names) if is_exposed(name)]
    if not exposed:
        return
    try:
        for name in exposed:
            name.chmod(PRIVATE)
    except OSError as error:
        log.warning(
            "every user of this machine can read %s: its owner should chmod 600 it (%s)",
            path,
            error.strerror,
        )
    else:
        log.warning("every user of this machine could read %s: now only its owner can", path)


def is_exposed(path: Path) -> bool:
    """Tell whether others than its owner and group may do anything with a file."""
    try:
        return bool(path.stat().st_mode & stat.S_IRWXO)
    except OSError:
        return False
