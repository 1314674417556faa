"""What a client may ask of the registry."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from clinic.events import Id
from clinic.registry.names import Name, OfficeNumber
from clinic.registry.registry import ResourceChange
from clinic.web.reading import without_defaults

STRICT = ConfigDict(
    strict=True,
    frozen=True,
    extra="forbid",
    hide_input_in_errors=True,
    json_schema_extra=without_defaults,
)


class Registration(BaseModel):
    """An office or a doctor to register, by the name that people see."""

    model_config = STRICT

    name: Name


class NewOffice(Registration):
    """An office to register, by the name that people see."""

    name: OfficeNumber


class NewDoctor(Registration):
    """A doctor to register, by the name that people see."""


class Change(BaseModel):
    """What is to become of an office or a doctor; a field that was not sent stays as it is."""

    model_config = STRICT

    active: Annotated[bool, Field(default=None)]
    merged_into: Annotated[Id, Field(default=None)]

    @model_validator(mode="after")
    def _merges_alone(self) -> Self:
        if "merged_into" in self.model_fields_set and len(self.model_fields_set) > 1:
            raise PydanticCustomError("alone", "must be sent alone, if merged_into is sent")
        return self


class OfficeChange(Change):
    """What is to become of an office; a field that was not sent stays as it is."""

    name: Annotated[OfficeNumber, Field(default=None)]


class DoctorChange(Change):
    """What is to become of a doctor; a field that was not sent stays as it is."""

    name: Annotated[Name, Field(default=None)]


def change_of(model: Change) -> ResourceChange:
    """Return what a client asks for in the registry's words."""
    return ResourceChange(**model.model_dump(include=model.model_fields_set))
