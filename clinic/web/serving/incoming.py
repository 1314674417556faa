"""What has arrived on one connection: bytes in; heads and bodies out, in turn."""

from clinic.web.serving.bodies import Body, body_of
from clinic.web.serving.heads import END_OF_HEAD, Head, judge_start, read_head
from clinic.web.serving.limits import Limits
from clinic.web.serving.refusals import HeadersTooLarge, MalformedRequest

EMPTY_LINES = b"\r\n"


class Incoming:
    """The bytes that are not processed yet, and the part of a request that they belong to.

    A head is handed to its parser only when all of it is here. So no parser keeps a part of a head,
    and none gets one that is beyond the limit.
    """

    __slots__ = ("_empty_bytes", "_limits", "_line_judged", "_searched", "body", "unread")

    def __init__(self, limits: Limits) -> None:
        self.unread = bytearray()
        """What waits to be processed."""
        self.body: Body | None = None
        """What is read at present, if that is a body and no head."""
        self._limits = limits
        self._empty_bytes = 0
        self._searched = 0
        self._line_judged = False

    def feed(self, data: bytes) -> None:
        """Take what has arrived."""
        self.unread += data

    def clear(self) -> None:
        """Forget what has arrived: there will be no further request."""
        self.unread.clear()
        self.body = None

    def read_head(self) -> Head | None:
        """Return the next head, if all of it is here.

        Raises:
            Refusal: it breaks a rule or a limit.
        """
        unread = self.unread
        if unread and unread[0] in EMPTY_LINES:
            self._skip_empty_lines()
        end = unread.find(END_OF_HEAD, max(0, self._searched - len(END_OF_HEAD)))
        size = len(unread) if end < 0 else end + len(END_OF_HEAD)
        if size > self._limits.head_bytes:
            raise HeadersTooLarge
        if end < 0:
            self._judge_start()
            return None
        head = read_head(bytes(unread[:size]), self._limits)
        del unread[:size]
        self._empty_bytes = 0
        self._searched = 0
        self._line_judged = False
        if head.length != 0:
            self.body = body_of(head.length, self._limits)
        return head

    def _skip_empty_lines(self) -> None:
        """Take away what stands before a head: some clients end a body with a line too many.

        RFC 9112, 2.2, says so. Without a limit a client could send nothing else, as fast as we can
        read, and its head would never be longer than others.
        """
        unread = self.unread
        empty = len(unread) - len(unread.lstrip(EMPTY_LINES))
        del unread[:empty]
        self._empty_bytes += empty
        if self._empty_bytes > self._limits.head_bytes:
            raise MalformedRequest("There are only empty lines.")

    def _judge_start(self) -> None:
        """Judge the part of a head that has arrived, so that other bytes are refused at once.

        Many programs send a byte at a time. Each is looked at once or twice, not each time again.
        """
        unread, searched = self.unread, self._searched
        self._searched = len(unread)
        if unread.count(b"\n", searched) != unread.count(b"\r\n", max(0, searched - 1)):
            raise MalformedRequest("Lines end with CR and LF.")
        if unread and not self._line_judged:
            self._line_judged = judge_start(unread)

    def read_body(self) -> bytes | bytearray:
        """Return what is here of the body that is read; ``body`` is None once that was its end.

        Raises:
            Refusal: it breaks a rule or a limit.
        """
        if self.body is None:
            return b""
        content = self.body.read(self.unread)
        if self.body.complete:
            self.body = None
        return content
