"""What of a PUT is signed, and TLS: only with a certificate that can be trusted."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fsnap.errors import StoreError, StoreUnavailable
from fsnap.stores.base import CorruptTransfer
from fsnap.stores.probe import probe_conditional_create
from fsnap.stores.urls import open_store
from tests.faulty_proxy import Fault, faulty_proxy
from tests.servers import S3Server

pytestmark = pytest.mark.server


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key and a certificate for 127.0.0.1, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fsnap tests")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture(params=["seaweedfs", "ministack"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, certificate: Path) -> S3Server:
    found: S3Server = request.getfixturevalue(f"{request.param}_server")
    for name, value in found.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    return found


def test_the_signed_checksum_stands_for_the_payload(
    server: S3Server, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty_proxy(server.endpoint, {}, seed=1, tls=tls) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = open_store(server.url(str(uuid4())))
        probe_conditional_create(store)
        store.put("key", b"some bytes")
        assert store.get("key") == b"some bytes"
        sent = proxy.put_headers[-1]
    assert sent["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
    assert "x-amz-checksum-crc32c" in sent["authorization"].partition("SignedHeaders=")[2]


def test_bytes_that_change_on_the_way_in_are_refused(
    server: S3Server, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty_proxy(server.endpoint, {Fault.FLIPPED_IN: 1.0}, seed=1, tls=tls) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = open_store(server.url(str(uuid4())))
        with pytest.raises(CorruptTransfer):
            store.put("key", b"some bytes")
        assert [row.key for row in store.list()] == []


def test_an_unknown_certificate_is_not_tried_again(
    server: S3Server, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE")
    with faulty_proxy(server.endpoint, {}, seed=1, tls=tls) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        with pytest.raises(StoreError, match="SSL validation failed") as failure:
            open_store(server.url()).put("key", b"x")
    assert not isinstance(failure.value, StoreUnavailable)
    assert "AWS_CA_BUNDLE" in failure.value.hint


@pytest.mark.parametrize(("setting", "length"), [("", len("UNSIGNED-PAYLOAD")), ("true", 64)])
def test_without_tls_the_payload_is_signed_if_the_sdk_is_told_so(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, setting: str, length: int
) -> None:
    if setting:
        (tmp_path / "config").write_text(f"[default]\ns3 =\n  payload_signing_enabled = {setting}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with faulty_proxy(server.endpoint, {}, seed=1) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = open_store(server.url(str(uuid4())))
        for key, size in (("small", 10), ("large", 1 << 20)):
            store.put(key, memoryview(bytes(2 * size))[:size])
            assert store.get(key) == bytes(size)
        assert [len(sent["x-amz-content-sha256"]) for sent in proxy.put_headers] == [length] * 2
        assert [
            name for sent in proxy.put_headers for name in sent if name in ("expect", "content-md5")
        ] == []
