"""What AMQP_URL may say, and what is said of one that cannot be used."""

import base64
import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from clinic.messaging.broker import BrokerUnavailable
from clinic.messaging.rabbitmq import RabbitBroker
from clinic.messaging.rabbitmq.address import BadBrokerURL, read_address
from clinic.messaging.rabbitmq.topology import QueueType
from tests.messaging.brokers import publish, topology
from tests.process.test_start import plain_line, run

pytestmark = pytest.mark.anyio

PASSWORD = "pa55word"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an authority, a certificate of it, and files that are none."""
    directory = tmp_path_factory.mktemp("files")
    authority = trustme.CA()
    certificate = authority.issue_cert("clinic@example")
    authority.cert_pem.write_to_path(directory / "ca.pem")
    certificate.cert_chain_pems[0].write_to_path(directory / "client.pem")
    certificate.private_key_pem.write_to_path(directory / "client.key")
    certificate.private_key_and_cert_chain_pem.write_to_path(directory / "both.pem")
    trustme.CA().issue_cert("other@example").private_key_pem.write_to_path(directory / "other.key")
    der = ssl.PEM_cert_to_DER_cert((directory / "ca.pem").read_text())
    (directory / "ca.base64").write_text(base64.b64encode(der).decode())
    (directory / "none.pem").write_text("no certificate")
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
    lock = BestAvailableEncryption(b"a passphrase")
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)
    (directory / "locked.key").write_bytes(locked)
    return directory


def usable(url: str) -> ssl.SSLContext | None:
    return read_address(url).tls_context()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "rabbit",
        "http://host",
        "amqp://",
        "amqp://host:port",
        "amqp://host:0",
        "amqp://host:65536",
        f"amqp://{'x' * 64}.example",
        f"amqp://user:{PASSWORD}/ss@host",
        f"amqp://user:1/{PASSWORD}@host",
        f"amqp://user:1?{PASSWORD}@host/",
        f"amqp://user:1#{PASSWORD}@host/",
        f"amqp://user:{PASSWORD}@x@host/",
        f"amqp://user:{PASSWORD}%@host/",
        f"amqp://user:{PASSWORD}%zz@host/",
        f"amqp://user:{PASSWORD} x@host/",
        "amqp://user@host/a%b",
        "amqp://user:p@host/#x",
    ],
)
def test_a_url_that_would_be_misread_is_refused(url: str) -> None:
    with pytest.raises(BadBrokerURL) as refused:
        read_address(url)
    assert PASSWORD not in str(refused.value)
    assert str(refused.value).startswith("AMQP_URL: ")


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("amqps://host/?no_verify_ssl=1", "the known ones are"),
        ("amqp://host/?heartbeat=0", "the known ones are"),
        ("amqp://host/?heartbeat", "the known ones are"),
        ("amqp://host/?auth=", "with a value"),
        ("amqps://host/?cafile=a&cafile=b", "once"),
        ("amqp://host/?auth=kerberos", "auth must be plain"),
        ("amqps://host/?auth=external", "certfile must name it"),
        ("amqps://host/?keyfile={files}/client.key", "keyfile needs certfile"),
        ("amqp://host/?cafile={files}/ca.pem", "needs amqps://"),
        ("amqps://host/?cafile={files}/nothing.pem", "cafile .* No such file"),
        ("amqps://host/?cafile={files}", "cafile .* Is a directory"),
        ("amqps://host/?cafile={files}/none.pem", "cafile holds no certificate"),
        ("amqps://host/?cafile={files}/client.key", "cafile holds no certificate"),
        ("amqps://host/?cafile=%00", "cafile holds no certificate"),
        ("amqps://host/?capath={files}/nothing", "capath must name a directory"),
        ("amqps://host/?capath={files}/ca.pem", "capath must name a directory"),
        ("amqps://host/?cadata=x", "cadata must be a certificate"),
        ("amqps://host/?cadata=eHh4eA==", "cadata holds no certificate"),
        ("amqps://host/?cadata=%E2%80%8B", "cadata must be a certificate"),
        ("amqps://host/?certfile={files}/nothing.pem", "certfile must name"),
        ("amqps://host/?certfile=%00", "certfile must name"),
        ("amqps://host/?certfile={files}/client.pem", "certfile must hold both"),
        ("amqps://host/?certfile={files}/client.pem&keyfile={files}/other.key", "belongs to it"),
        ("amqps://host/?certfile={files}/client.pem&keyfile={files}/nothing", "No such file"),
        ("amqps://host/?certfile={files}/client.pem&keyfile={files}/locked.key", "passphrase"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_in_one_sentence(
    files: Path, url: str, advice: str
) -> None:
    with pytest.raises(BadBrokerURL, match=advice) as refused:
        usable(url.format(files=files))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "options",
    [
        "",
        "?cafile={files}/ca.pem",
        "?capath={files}",
        "?cafile={files}/ca.pem&certfile={files}/client.pem&keyfile={files}/client.key",
        "?certfile={files}/both.pem&auth=external",
    ],
)
def test_certificates_that_are_there_are_taken(files: Path, options: str) -> None:
    context = usable("amqps://host/" + options.format(files=files))
    assert context is not None
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_an_authority_may_stand_in_the_url_itself(files: Path) -> None:
    given = (files / "ca.base64").read_text()
    with pytest.raises(BadBrokerURL, match="%2B"):
        usable(f"amqps://host/?cadata={given.replace('=', '')}+x")
    context = usable(f"amqps://host/?cadata={given.replace('+', '%2B')}")
    assert context is not None
    assert len(context.get_ca_certs()) == 1


def test_without_tls_there_is_nothing_to_verify() -> None:
    assert usable("amqp://host/?auth=PLAIN") is None


def test_every_connection_has_a_heartbeat_and_a_name() -> None:
    address = read_address("amqps://u:p%40@host/v%2Fh?cafile=/a b.pem&auth=plain")
    assert address.connection_url("clinic relay") == (
        "amqps://u:p%40@host/v%2Fh?heartbeat=5&name=clinic%20relay&auth=plain"
    )


@pytest.mark.parametrize(
    "query", ["cadata=x", "cafile=nothing.pem", "certfile=nothing.pem", "auth=kerberos"]
)
def test_a_process_does_not_start_with_a_url_that_it_cannot_use(tmp_path: Path, query: str) -> None:
    done = run(tmp_path, AMQP_URL=f"amqps://clinic:{PASSWORD}@127.0.0.1:1/?{query}")
    line = plain_line(done)
    assert line.startswith("clinic: AMQP_URL: ")
    assert PASSWORD not in line
    assert list(tmp_path.iterdir()) == []


async def test_a_file_that_goes_away_later_is_an_outage(files: Path) -> None:
    """So a certificate can be renewed while the clinic runs."""
    gone = files / "gone.pem"
    gone.write_bytes((files / "ca.pem").read_bytes())
    broker = RabbitBroker(f"amqps://127.0.0.1:1/?cafile={gone}", topology(QueueType.QUORUM))
    with pytest.raises(BrokerUnavailable, match=r"RabbitMQ cannot be reached at 127\.0\.0\.1:1"):
        await publish(broker, 1)
    gone.unlink()
    with pytest.raises(BrokerUnavailable, match=r"AMQP_URL: cafile .* No such file"):
        await publish(broker, 1)


def test_a_password_stands_in_no_repr() -> None:
    assert PASSWORD not in repr(read_address(f"amqp://user:{PASSWORD}@host/"))
