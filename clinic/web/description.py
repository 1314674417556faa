"""Everything that an endpoint may answer: its own answers, and the refusals that all share."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from clinic.web.browsers import SAFE_METHODS, CrossSite, Misdirected
from clinic.web.callers import NotAllowed, NoToken, Permission, TooManyRequests
from clinic.web.endpoints import Answer, Content, Endpoint, Header
from clinic.web.headers import ListTooLong, RepeatedHeader, below
from clinic.web.health import is_health
from clinic.web.reading import (
    BodyTooLarge,
    EncodedBody,
    MalformedBody,
    QueryTooLong,
    WrongMediaType,
)
from clinic.web.refusals import (
    MEDIA_TYPE,
    NoSuchAddress,
    NoSuchMethod,
    OurFault,
    Refusal,
    WrongFields,
)
from clinic.web.serving.refusals import (
    Crowded,
    HeadersTooLarge,
    MalformedRequest,
    RequestTooSlow,
    Stopped,
    UnknownMethod,
    UnknownTransferCoding,
)

EVERYWHERE: tuple[type[Refusal], ...] = (
    MalformedRequest,
    RepeatedHeader,
    RequestTooSlow,
    HeadersTooLarge,
    ListTooLong,
    UnknownTransferCoding,
    OurFault,
    Crowded,
    Stopped,
)
# No endpoint answers these: such a request reaches none.
NOWHERE: tuple[type[Refusal], ...] = (NoSuchAddress, NoSuchMethod, UnknownMethod)

# What the headers of a refusal say.
HEADERS = {
    "Accept": "What may be sent instead.",
    "Accept-Encoding": "What may be sent instead.",
    "Connection": "The connection is closed.",
    "Retry-After": "Seconds after which to send it again.",
    "WWW-Authenticate": "How to send a token (RFC 6750).",
}


def refusals_of(endpoint: Endpoint[Any]) -> list[type[Refusal]]:
    """Return all refusals that an endpoint may answer, its own first."""
    found = [*endpoint.refusals]
    if endpoint.body:
        found += [MalformedBody, BodyTooLarge, WrongMediaType, EncodedBody]
    if endpoint.body or endpoint.query:
        found.append(WrongFields)
    if endpoint.query:
        found.append(QueryTooLong)
    if endpoint.method not in SAFE_METHODS:
        found.append(CrossSite)
    if endpoint.needs is not Permission.OPEN:
        found += [NoToken, NotAllowed, TooManyRequests]
    if not is_health(endpoint.path):
        found.append(Misdirected)
    return [*found, *EVERYWHERE]


def answers_of(endpoint: Endpoint[Any], root_path: str = "") -> list[Answer]:
    """Return everything that an endpoint may answer, one answer a status.

    Links in the examples lead to where clients find the clinic: below ``root_path``.
    """
    by_status: defaultdict[HTTPStatus, list[Answer]] = defaultdict(list)
    for answer in [*endpoint.answers, *_refusing(refusals_of(endpoint), root_path)]:
        by_status[answer.status].append(answer)
    return [_merged(same, root_path) for _, same in sorted(by_status.items())]


def schema_name(refusal: type[Refusal]) -> str:
    """Return the name of a refusal's JSON Schema: ``time-taken`` has ``TimeTakenProblem``."""
    return refusal.slug.title().replace("-", "") + "Problem"


def _merged(answers: Sequence[Answer], root_path: str) -> Answer:
    """Return one answer that stands for all given ones, which have the same status."""
    return Answer(
        status=answers[0].status,
        text=" ".join(answer.text for answer in answers),
        contents={name: content for answer in answers for name, content in answer.contents.items()},
        headers=[
            replace(header, example=below(root_path, header.example))
            for answer in answers
            for header in answer.headers
        ],
    )


def _refusing(refusals: Iterable[type[Refusal]], root_path: str) -> list[Answer]:
    """Return one answer a status, each with the refusals of this status."""
    by_status: defaultdict[HTTPStatus, list[type[Refusal]]] = defaultdict(list)
    for refusal in refusals:
        by_status[refusal.status].append(refusal)
    answers = []
    for status, same in by_status.items():
        forms = [{"$ref": f"#/components/schemas/{schema_name(one)}"} for one in same]
        examples = {one.slug: one.example() for one in same}
        headers = {
            name: Header(name=name, text=HEADERS[name], example=value, always=False)
            for example in examples.values()
            for name, value in example.headers.items()
        }
        content = Content(
            forms[0] if len(forms) == 1 else {"anyOf": forms},
            {slug: example.problem_details(root_path) for slug, example in examples.items()},
        )
        answers.append(
            Answer(
                status=status,
                text=" ".join(one.explanation for one in same),
                contents={MEDIA_TYPE: content},
                headers=list(headers.values()),
            )
        )
    return answers
