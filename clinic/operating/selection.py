"""Which messages of the index something is about."""

import datetime
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class Selection:
    """A filter over the rows of the index; None admits all.

    ``ids`` are positions in the index; ``after`` and ``before`` are moments at which a message was
    set aside, the first included. All of it looks at what never changes in a row. So with a last
    position it selects the same rows whenever it is asked, but for those that have been dealt with.
    """

    ids: tuple[int, ...] | None = None
    kind: str | None = None
    event_type: str | None = None
    office_id: int | None = None
    after: datetime.datetime | None = None
    before: datetime.datetime | None = None

    def values(self) -> dict[str, Any]:
        """Return the selection as the parameters of a statement."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return values | {"ids": None if self.ids is None else list(self.ids)}

    def packed(self) -> str:
        """Return the selection as JSON, without what admits all."""
        told = {name: value for name, value in asdict(self).items() if value is not None}
        return json.dumps(told, default=datetime.datetime.isoformat)

    @classmethod
    def unpacked(cls, text: str) -> Self:
        """Return the selection that a JSON text stands for."""
        told: Mapping[str, Any] = json.loads(text)
        moments = {
            name: datetime.datetime.fromisoformat(told[name])
            for name in ("after", "before")
            if name in told
        }
        ids = {"ids": tuple(told["ids"])} if "ids" in told else {}
        return cls(**{**told, **moments, **ids})

    def words(self, offices: Mapping[int, str] | None = None) -> str:
        """Return the selection in words, for a person."""
        said = [
            f"ids {', '.join(map(str, self.ids))}" if self.ids is not None else "",
            f"kind {self.kind}" if self.kind is not None else "",
            f"event type {self.event_type}" if self.event_type is not None else "",
            ""
            if self.office_id is None
            else f"office {(offices or {}).get(self.office_id, self.office_id)}",
            f"set aside from {self.after:%Y-%m-%d %H:%M:%S} UTC" if self.after else "",
            f"set aside before {self.before:%Y-%m-%d %H:%M:%S} UTC" if self.before else "",
        ]
        return ", ".join(filter(None, said)) or "all"


EVERYTHING = Selection()
