"""Where a RabbitMQ server is, and how its certificate is verified: what ``AMQP_URL`` says."""

import base64
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

# A server that has gone silent is noticed (heartbeat + 1) * 3 s later, or up to heartbeat / 2 more,
# which is how often aiormq looks (docs/libraries.md).
HEARTBEAT_SECONDS = 5

# What may follow a ?: https://github.com/mosquito/aiormq#tls-connection. There is also
# no_verify_ssl, which is refused: whoever answers could then read and forge everything.
AUTHORITY_OPTIONS = frozenset({"cafile", "capath", "cadata"})
TLS_OPTIONS = AUTHORITY_OPTIONS | {"certfile", "keyfile"}
OPTIONS = TLS_OPTIONS | {"auth"}


class BadBrokerURL(ValueError):
    """A broker's URL cannot be used; the message says what to write instead, and no password."""

    def __init__(self, advice: str) -> None:
        super().__init__(f"AMQP_URL: {advice}")


@dataclass(frozen=True)
class Address:
    """A RabbitMQ server, its vhost and the login, from a URL that can be read in one way only."""

    parts: SplitResult = field(repr=False)  # with the password
    options: dict[str, str] = field(repr=False)

    @property
    def server(self) -> str:
        """Host and port, for messages."""
        port = self.parts.port or (5671 if self.parts.scheme == "amqps" else 5672)
        return f"{self.parts.hostname}:{port}"

    def connection_url(self, name: str) -> str:
        """Return the URL for aiormq: with a heartbeat, and a name for the server's list."""
        # aiormq turns heartbeats off when it does not like their value (docs/libraries.md).
        query = {"heartbeat": str(HEARTBEAT_SECONDS), "name": name}
        if "auth" in self.options:
            query["auth"] = self.options["auth"]
        return self.parts._replace(query=urlencode(query, quote_via=quote)).geturl()

    def tls_context(self) -> ssl.SSLContext | None:
        """Return what certificates are verified with, read anew from the files; without TLS, None.

        The server's certificate has to be valid and for the host that the URL names. Takes some
        20 ms, so call it in a thread where an event loop runs.

        Raises:
            BadBrokerURL: a file cannot be read, or does not hold what it should.
        """
        if self.parts.scheme != "amqps":
            return None
        # OpenSSL takes a directory that is not there for one without certificates.
        cafile, capath = self.options.get("cafile"), self.options.get("capath")
        if capath and not Path(capath).is_dir():
            raise BadBrokerURL("capath must name a directory of certificates")
        authority = self._authority()
        try:
            context = ssl.create_default_context(cafile=cafile, capath=capath, cadata=authority)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            named = " or ".join(sorted(self.options.keys() & AUTHORITY_OPTIONS)) or "the system"
            raise BadBrokerURL(
                f"{named} holds no certificate of an authority to trust: {_reason(error)}"
            ) from None
        if "certfile" in self.options:
            self._present_certificate(context)
        return context

    def _authority(self) -> bytes | None:
        """Return the authority's certificate that stands in the URL itself: DER in base64."""
        given = self.options.get("cadata")
        if given is None:
            return None
        try:
            return base64.b64decode(given, validate=True)
        except ValueError:
            raise BadBrokerURL(
                "cadata must be a certificate (DER) in base64, with + / = written as %2B %2F %3D"
            ) from None

    def _present_certificate(self, context: ssl.SSLContext) -> None:
        def passphrase() -> str:  # else OpenSSL would ask for one at the terminal, and wait
            raise BadBrokerURL("the private key has a passphrase; name a key file without one")

        certificate, key = self.options["certfile"], self.options.get("keyfile")
        try:
            context.load_cert_chain(certificate, key, passphrase)
        except BadBrokerURL:
            raise
        except (OSError, ValueError) as error:
            raise BadBrokerURL(
                "certfile must name a certificate and keyfile the private key that belongs to it; "
                f"without keyfile, certfile must hold both: {_reason(error)}"
            ) from None


def read_address(url: str) -> Address:
    """Return the server that a URL names.

    Raises:
        BadBrokerURL: it names none, or could be misread.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("amqp", "amqps") and bool(_host(parts)) and parts.port != 0
    except ValueError:
        usable = False
    # A URL splits at the first of these characters, so one that stands for itself in a password
    # would make another host, or another option, of what follows it.
    if not usable or parts.fragment or _holds_raw_characters(parts):
        raise BadBrokerURL(
            "write amqp://user:password@host:5672/vhost, or amqps:// for TLS; in user, password "
            "and vhost, write the characters / ? # @ : % as %2F %3F %23 %40 %3A %25"
        )
    return Address(parts, _read_options(parts))


def _host(parts: SplitResult) -> bytes:
    return (parts.hostname or "").encode("idna")  # a ValueError where it can be no name at all


def _holds_raw_characters(parts: SplitResult) -> bool:
    whole = parts.netloc + parts.path
    return (
        parts.netloc.count("@") > 1
        or "@" in parts.path
        or bool(re.search(r"%(?![0-9A-Fa-f]{2})", whole))
        or bool(re.search(r"[\s\x00-\x1f\x7f]", whole))
    )


def _read_options(parts: SplitResult) -> dict[str, str]:
    given = parse_qsl(parts.query, keep_blank_values=True)
    options = dict(given)
    if not options.keys() <= OPTIONS:
        raise BadBrokerURL(
            f"unknown option after the ?; the known ones are {', '.join(sorted(OPTIONS))}"
        )
    if len(given) > len(options) or not all(options.values()):
        raise BadBrokerURL("write each option once, and with a value")
    if parts.scheme != "amqps" and options.keys() & TLS_OPTIONS:
        named = ", ".join(sorted(options.keys() & TLS_OPTIONS))
        raise BadBrokerURL(f"{named} needs amqps://; amqp:// would encrypt nothing")
    if "keyfile" in options and "certfile" not in options:
        raise BadBrokerURL("keyfile needs certfile, the certificate that belongs to the key")
    auth = options.get("auth", "plain").lower()
    if auth not in ("plain", "external"):
        raise BadBrokerURL("auth must be plain (the default) or external")
    if auth == "external" and "certfile" not in options:
        raise BadBrokerURL("auth=external is a login by certificate: certfile must name it")
    return options


def _reason(error: Exception) -> str:
    """Return why a file cannot be used, without its content."""
    if isinstance(error, ssl.SSLError):
        return error.reason or "it is no certificate in PEM"
    return getattr(error, "strerror", None) or "it is no certificate"
