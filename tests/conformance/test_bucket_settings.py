"""Storage class and encryption, as the variables say and as the servers tell them afterwards."""

from __future__ import annotations

from uuid import uuid4

import pytest

from fsnap.stores.urls import open_store
from tests.clouds import AzServer, GsServer
from tests.servers import BucketServer, S3Server

pytestmark = pytest.mark.server


def put_with(
    server: BucketServer, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], prefix: str
) -> None:
    for name, value in (server.environment() | variables).items():
        monkeypatch.setenv(name, value)
    store = open_store(server.url(prefix))
    store.create("key", b"some bytes")
    assert store.get("key") == b"some bytes"


def test_s3_storage_class_and_key(ministack_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = str(uuid4())
    chosen = {"FSNAP_STORAGE_CLASS": "STANDARD_IA", "FSNAP_KMS_KEY": "alias/tasks"}
    put_with(ministack_server, monkeypatch, chosen, prefix)
    head = ministack_server.client().head_object(Bucket=ministack_server.bucket, Key=f"{prefix}/key")
    assert (head["StorageClass"], head["ServerSideEncryption"]) == ("STANDARD_IA", "aws:kms")
    assert head["SSEKMSKeyId"].endswith("alias/tasks")


def test_s3_encryption_without_a_key(ministack_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = str(uuid4())
    put_with(ministack_server, monkeypatch, {"FSNAP_S3_SSE": "AES256"}, prefix)
    head = ministack_server.client().head_object(Bucket=ministack_server.bucket, Key=f"{prefix}/key")
    assert head["ServerSideEncryption"] == "AES256"


def test_google_storage_class(fake_gcs_server: GsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from google.cloud import storage

    prefix = str(uuid4())
    put_with(fake_gcs_server, monkeypatch, {"FSNAP_STORAGE_CLASS": "NEARLINE"}, prefix)
    blob = storage.Client().bucket(fake_gcs_server.bucket).get_blob(f"{prefix}/key")
    assert blob.storage_class == "NEARLINE"


def test_azure_access_tier(azurite_server: AzServer, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = str(uuid4())
    put_with(azurite_server, monkeypatch, {"FSNAP_STORAGE_CLASS": "Cool"}, prefix)
    blob = azurite_server.client().get_blob_client(azurite_server.bucket, f"{prefix}/key")
    assert blob.get_blob_properties().blob_tier == "Cool"
