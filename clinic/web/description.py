"""What the HTTP API says of itself: each feature describes its operations beside its routes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from clinic.web.headers import below
from clinic.web.problems import MEDIA_TYPE, Problem, ProblemType, problem_details, refused

Schema = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Header:
    """A header of a request or of an answer; ``always`` says that it is never missing."""

    name: str
    text: str
    example: str
    always: bool = True
    pattern: str | None = None

    def under(self, root_path: str) -> "Header":
        """Return the header with an example whose paths are below another."""
        return replace(self, example=below(root_path, self.example))


@dataclass(frozen=True)
class Content:
    """What a body may be: its form, and examples, each by a name that says what it is for.

    The form is a model or dataclass that pydantic reads and writes, or a JSON Schema. ``many`` says
    that it is a list of that form.
    """

    form: type[Any] | Schema
    examples: Mapping[str, object]
    many: bool = False


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What an operation may answer; ``contents`` are by media type, none for no body."""

    status: HTTPStatus
    text: str
    contents: Mapping[str, Content] = field(default_factory=dict)
    headers: Sequence[Header] = ()


@dataclass(frozen=True, kw_only=True)
class Explained:
    """A kind of problem, explained: what it means, and what to do about it.

    ``example`` is one as it is answered. ``members`` is a model of the members that only this kind
    has.
    """

    name: str
    text: str
    example: Problem
    members: type[BaseModel] | None = None

    @classmethod
    def refusal(
        cls,
        kind: ProblemType,
        error: Exception,
        text: str,
        members: type[BaseModel] | None = None,
    ) -> "Explained":
        """Return the explanation of a feature's own error, given one of them as an example."""
        return cls(name=kind.name, text=text, example=refused(kind, error), members=members)

    def under(self, root_path: str) -> "Explained":
        """Return the problem of a clinic that clients find below a path."""
        if "type" not in self.example.members:
            return self
        members = {**self.example.members, "type": f"{root_path}{self.example.members['type']}"}
        return replace(self, example=self.example.having(members))

    @property
    def details(self) -> dict[str, object]:
        """The example's JSON object."""
        return problem_details(self.example)

    @property
    def schema_name(self) -> str:
        """The name of its JSON Schema: ``slot-taken`` has ``SlotTakenProblem``."""
        return self.name.title().replace("-", "") + "Problem"

    @property
    def heading(self) -> str:
        """What to call it: its title, unless that is only the name of its status."""
        if "type" in self.example.members:
            return str(self.details["title"])
        return self.name.replace("-", " ").capitalize()

    @property
    def headers(self) -> list[Header]:
        """The headers that are answered with it."""
        texts = {
            "Accept": "What may be sent instead.",
            "Accept-Encoding": "What may be sent instead.",
            "Connection": "The connection is closed.",
            "Retry-After": "Seconds after which to send it again.",
        }
        return [
            Header(name=name, text=texts[name], example=value, always=False)
            for name, value in self.example.headers.items()
        ]


@dataclass(frozen=True, kw_only=True)
class Body:
    """What a request's body has to be; the first of the media types is the usual one."""

    media_types: Sequence[str]
    content: Content


@dataclass(frozen=True, kw_only=True)
class Operation:
    """A method on a path; ``name`` is its anchor in ``/docs``.

    ``path_parameters`` and ``queries`` are examples: of the values in the path, and of whole
    queries. ``problems`` are those of its own; see ``answers_of`` for those that come to all.
    """

    name: str
    group: str
    method: str
    path: str
    summary: str
    text: str = ""
    path_parameters: Mapping[str, object] = field(default_factory=dict)
    query: type[BaseModel] | None = None
    queries: Sequence[Mapping[str, str]] = ()
    headers: Sequence[Header] = ()
    body: Body | None = None
    answers: Sequence[Answer]
    problems: Sequence[Explained] = ()

    def under(self, root_path: str) -> "Operation":
        """Return the operation of a clinic that clients find below a path: its links lead there."""
        if not root_path:
            return self
        return replace(
            self,
            answers=[
                replace(answer, headers=[header.under(root_path) for header in answer.headers])
                for answer in self.answers
            ],
            problems=[problem.under(root_path) for problem in self.problems],
        )


def merged(answers: Sequence[Answer]) -> list[Answer]:
    """Return one answer a status, each with all that the given ones of that status may be."""
    by_status: defaultdict[HTTPStatus, list[Answer]] = defaultdict(list)
    for answer in answers:
        by_status[answer.status].append(answer)
    return [
        Answer(
            status=status,
            text=" ".join(answer.text for answer in same),
            contents={
                name: content for answer in same for name, content in answer.contents.items()
            },
            headers=[header for answer in same for header in answer.headers],
        )
        for status, same in sorted(by_status.items())
    ]


def answers_with(problems: Sequence[Explained]) -> list[Answer]:
    """Return one answer a status, each with those problems that are of this status."""
    by_status: defaultdict[HTTPStatus, list[Explained]] = defaultdict(list)
    for problem in problems:
        by_status[problem.example.status].append(problem)
    answers = []
    for status, same in by_status.items():
        forms = [{"$ref": f"#/components/schemas/{one.schema_name}"} for one in same]
        content = Content(
            forms[0] if len(forms) == 1 else {"anyOf": forms},
            {one.name: one.details for one in same},
        )
        headers = {header.name: header for one in same for header in one.headers}
        answers.append(
            Answer(
                status=status,
                text=" ".join(one.text.partition("\n")[0] for one in same),
                contents={MEDIA_TYPE: content},
                headers=list(headers.values()),
            )
        )
    return answers
