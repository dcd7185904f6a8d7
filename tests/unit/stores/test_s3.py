"""The S3 store against a client that answers as told: what no real server does on request."""

from __future__ import annotations

import hashlib
import io
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import botocore.exceptions as sdk
import google_crc32c
import pytest
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError
from urllib3.exceptions import ProtocolError

from fsnap.errors import (
    CorruptData,
    FsnapError,
    ObjectExists,
    ObjectMissing,
    StoreError,
    StoreUnavailable,
    StoreUnfit,
    UsageError,
)
from fsnap.stores.base import CorruptTransfer
from fsnap.stores.s3 import S3Options, S3Store

URL = "http://127.0.0.1:1"


class Answers:
    """One client for all options; each call takes the next answer, or raises it."""

    def __init__(self, *answers: dict[str, Any] | Exception) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.options: list[S3Options] = []

    def client(self, options: S3Options) -> Answers:
        self.options.append(options)
        return self

    def __getattr__(self, operation: str) -> Callable[..., dict[str, Any]]:
        def call(**arguments: Any) -> dict[str, Any]:
            if "Body" in arguments:
                arguments["Body"] = bytes(arguments["Body"].view)
            self.calls.append((operation, dict(arguments)))
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


def store_with(
    *answers: dict[str, Any] | Exception, options: S3Options | None = None
) -> tuple[S3Store, Answers]:
    client = Answers(*answers)
    return S3Store("bucket", "some/prefix", options=options, clients=client), client  # type: ignore[arg-type]


def refusal(code: str, status: int, message: str = "Some words.") -> ClientError:
    response = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "Operation")


def checksum(data: bytes) -> str:
    return b64encode(google_crc32c.Checksum(data).digest()).decode()


def body(data: bytes, **more: Any) -> dict[str, Any]:
    return {"Body": io.BytesIO(data), "ContentLength": len(data)} | more


class TestErrors:
    @pytest.mark.parametrize(
        ("code", "status", "kind"),
        [
            ("PreconditionFailed", 412, ObjectExists),
            ("412", 412, ObjectExists),
            ("ConditionalRequestConflict", 409, StoreUnavailable),
            ("OperationAborted", 409, StoreUnavailable),
            ("NotImplemented", 501, StoreUnfit),
            ("501", 501, StoreUnfit),
            ("NoSuchKey", 404, ObjectMissing),
            ("404", 404, ObjectMissing),
            ("NoSuchBucket", 404, StoreError),
            ("AccessDenied", 403, StoreError),
            ("403", 403, StoreError),
            ("InvalidAccessKeyId", 403, StoreError),
            ("SignatureDoesNotMatch", 403, StoreError),
            ("ExpiredToken", 400, StoreError),
            ("RequestTimeTooSkewed", 403, StoreError),
            ("PermanentRedirect", 301, StoreError),
            ("InvalidRequest", 400, StoreError),
            ("InternalError", 500, StoreUnavailable),
            ("SlowDown", 503, StoreUnavailable),
            ("503", 503, StoreUnavailable),
            ("", 502, StoreUnavailable),
            ("RequestTimeout", 400, StoreUnavailable),
            ("TooManyRequests", 429, StoreUnavailable),
            ("InternalError", 200, StoreUnavailable),
            ("BadDigest", 400, CorruptTransfer),
            ("XAmzContentSHA256Mismatch", 400, CorruptTransfer),
            ("IncompleteBody", 400, CorruptTransfer),
        ],
    )
    def test_each_answer_has_its_class(self, code: str, status: int, kind: type[FsnapError]) -> None:
        store, _ = store_with(refusal(code, status, "Some\nwords."))
        with pytest.raises(StoreError) as failure:
            store.create("key", b"x")
        assert type(failure.value) is kind
        answer = f"{code or 'no code'} (HTTP {status}, Some words)"
        assert str(failure.value) == f"s3 bucket bucket: cannot write some/prefix/key: {answer}"
        assert failure.value.retryable is issubclass(kind, StoreUnavailable)
        assert failure.value.hint

    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            (sdk.EndpointConnectionError(endpoint_url=URL), StoreUnavailable),
            (sdk.ConnectTimeoutError(endpoint_url=URL), StoreUnavailable),
            (sdk.ReadTimeoutError(endpoint_url=URL), StoreUnavailable),
            (sdk.ConnectionClosedError(endpoint_url=URL), StoreUnavailable),
            (sdk.ProxyConnectionError(proxy_url=URL), StoreUnavailable),
            (sdk.HTTPClientError(error="reset"), StoreUnavailable),
            (sdk.ResponseStreamingError(error="broke off"), StoreUnavailable),
            (sdk.IncompleteReadError(actual_bytes=1, expected_bytes=2), StoreUnavailable),
            (sdk.CredentialRetrievalError(provider="iam-role", error_msg="no answer"), StoreUnavailable),
            (ResponseParserError("not XML"), StoreUnavailable),
            (ProtocolError("Connection broken"), StoreUnavailable),
            (sdk.FlexibleChecksumError(error_msg="differs"), CorruptTransfer),
            (sdk.SSLError(endpoint_url=URL, error="self-signed"), StoreError),
            (sdk.NoCredentialsError(), StoreError),
            (sdk.PartialCredentialsError(provider="env", cred_var="secret"), StoreError),
            (sdk.ProfileNotFound(profile="nobody"), StoreError),
            (sdk.ParamValidationError(report="no such\nthing"), StoreError),
            (ValueError("Invalid endpoint: http://:x"), StoreError),
        ],
        ids=lambda value: getattr(value, "__name__", type(value).__name__),
    )
    def test_no_answer_has_its_class_too(self, error: Exception, kind: type[FsnapError]) -> None:
        store, _ = store_with(error)
        with pytest.raises(StoreError) as failure:
            store.get("key")
        assert type(failure.value) is kind
        assert str(failure.value).startswith("s3 bucket bucket: cannot read some/prefix/key: ")
        assert "\n" not in str(failure.value)

    def test_a_defect_is_not_hidden(self) -> None:
        store, _ = store_with(KeyError("oops"))
        with pytest.raises(KeyError):
            store.put("key", b"x")


class TestPut:
    def test_sends_the_checksum_and_the_condition(self) -> None:
        store, client = store_with(
            {"ChecksumCRC32C": checksum(b"data")}, {"ChecksumCRC32C": checksum(b"data")}
        )
        store.put("key", b"data")
        store.create("key", b"data")
        common = {
            "Bucket": "bucket",
            "Key": "some/prefix/key",
            "Body": b"data",
            "ChecksumCRC32C": checksum(b"data"),
        }
        assert client.calls == [("put_object", common), ("put_object", common | {"IfNoneMatch": "*"})]

    def test_sends_what_the_user_chose(self) -> None:
        options = S3Options(server_side_encryption="aws:kms", kms_key_id="id", storage_class="STANDARD_IA")
        store, client = store_with({"ChecksumCRC32C": checksum(b"")}, options=options)
        store.put("key", b"")
        sent = client.calls[0][1]
        assert (sent["ServerSideEncryption"], sent["SSEKMSKeyId"], sent["StorageClass"]) == (
            "aws:kms",
            "id",
            "STANDARD_IA",
        )

    @pytest.mark.parametrize("storage_class", ["GLACIER", "DEEP_ARCHIVE"])
    def test_an_archive_is_no_store(self, storage_class: str) -> None:
        with pytest.raises(UsageError, match="cannot be read at once"):
            S3Options(storage_class=storage_class)

    def test_another_checksum_in_the_answer_is_an_error(self) -> None:
        store, _ = store_with(
            {"ChecksumCRC32C": checksum(b"other"), "ETag": hashlib.md5(b"data").hexdigest()}
        )
        with pytest.raises(CorruptTransfer, match="confirms other bytes") as failure:
            store.put("key", b"data")
        assert failure.value.retryable
        assert failure.value.exit_code == 174

    def test_without_a_checksum_the_etag_confirms(self) -> None:
        store, client = store_with({"ETag": f'"{hashlib.md5(b"data").hexdigest()}"'})
        store.put("key", b"data")
        assert len(client.calls) == 1

    def test_without_either_the_length_is_read_back(self) -> None:
        store, client = store_with({"ETag": '"kms"'}, {"ContentLength": 4})
        store.put("key", b"data")
        assert [operation for operation, _ in client.calls] == ["put_object", "head_object"]

    def test_and_must_be_right(self) -> None:
        store, _ = store_with({}, {"ContentLength": 3})
        with pytest.raises(CorruptTransfer):
            store.put("key", b"data")


class TestGet:
    @pytest.mark.parametrize(
        "answer",
        [
            body(b"0123456789"),
            body(b"0123456789", ContentRange=""),
            body(b"234", ContentRange="bytes 3-5/10"),
            body(b"2345", ContentRange="bytes 2-4/10"),
            body(b"234", ContentRange="bytes 2-4/*"),
            body(b"234", ContentRange="words 2-4/10"),
        ],
    )
    def test_another_range_than_asked_for_is_refused(self, answer: dict[str, Any]) -> None:
        store, client = store_with(answer)
        with pytest.raises(StoreUnfit, match="from byte 2"):
            store.get("key", start=2, length=3)
        assert client.calls[0][1]["Range"] == "bytes=2-4"

    def test_a_range_that_the_end_cuts_short_is_corrupt(self) -> None:
        store, _ = store_with(body(b"23", ContentRange="bytes 2-3/4"))
        with pytest.raises(CorruptData, match="has 4 bytes, not the 5 asked for"):
            store.get("key", start=2, length=3)

    def test_a_longer_range_than_asked_for_is_refused(self) -> None:
        store, _ = store_with(body(b"2345", ContentRange="bytes 2-5/10"))
        with pytest.raises(CorruptData):
            store.get("key", start=2, length=3)

    def test_an_open_range_must_reach_the_end(self) -> None:
        store, _ = store_with(body(b"23", ContentRange="bytes 2-3/10"))
        with pytest.raises(CorruptData):
            store.get("key", start=2)

    def test_an_object_that_grew_between_two_questions(self) -> None:
        store, _ = store_with(refusal("InvalidRange", 416), {"ContentLength": 100})
        with pytest.raises(StoreUnavailable, match="was replaced"):
            store.get("key", start=10, length=5)

    def test_a_body_shorter_than_its_header_may_be_tried_again(self) -> None:
        store, _ = store_with({"Body": io.BytesIO(b"123"), "ContentLength": 4})
        with pytest.raises(StoreUnavailable, match="key: 3 read, but total bytes expected is 4"):
            store.get("key")

    def test_another_checksum_than_the_answer_says_is_an_error(self) -> None:
        store, _ = store_with(body(b"data", ChecksumCRC32C=checksum(b"other")))
        with pytest.raises(CorruptTransfer, match="some/prefix/key: it differs from its checksum"):
            store.get("key")

    def test_the_checksum_is_asked_for(self) -> None:
        store, client = store_with(body(b"data"))
        store.get("key")
        assert client.calls[0][1]["ChecksumMode"] == "ENABLED"


class TestList:
    @staticmethod
    def page(*keys: str, token: str = "", truncated: bool | None = None) -> dict[str, Any]:
        now = datetime.now(UTC)
        rows = [{"Key": f"some/prefix/{key}", "Size": 1, "LastModified": now} for key in keys]
        more = bool(token) if truncated is None else truncated
        return {"Contents": rows, "IsTruncated": more} | ({"NextContinuationToken": token} if token else {})

    def test_pages_follow_each_other(self) -> None:
        store, client = store_with(self.page("a", "b", token="T"), self.page("c"))
        assert [row.key for row in store.list()] == ["a", "b", "c"]
        assert "ContinuationToken" not in client.calls[0][1]
        assert client.calls[1][1]["ContinuationToken"] == "T"

    def test_names_that_are_no_keys_are_passed_over(self) -> None:
        store, _ = store_with(self.page("", "a", "a folder/", "b/", "c d"))
        assert [row.key for row in store.list()] == ["a"]

    def test_an_order_that_no_sorting_of_a_subtree_mends_is_refused(self) -> None:
        store, _ = store_with(self.page("b", "a"))
        with pytest.raises(StoreUnfit, match="lists a after b, out of order"):
            list(store.list())

    def test_the_same_key_twice_is_refused(self) -> None:
        store, _ = store_with(self.page("a", token="T"), self.page("a"))
        with pytest.raises(StoreUnfit, match="out of order"):
            list(store.list())

    def test_a_listing_that_breaks_off_is_told(self) -> None:
        store, _ = store_with(self.page("a", truncated=True))
        with pytest.raises(StoreUnavailable, match="broke off"):
            list(store.list())

    @pytest.mark.parametrize(
        ("prefix", "after", "asked"),
        [
            ("", "tasks/t", "tasks/s~"),
            ("journal/", "journal/0042.json", "journal/0041~"),
            ("journal/", "journal/", "journal/"),
            ("a-b/", "a-b/c", "a-b/b~"),
            ("", "a-b/c", "`~"),
            ("", ".hidden", ".hiddem~"),
            ("b", "b-1", "a~"),
            ("b-", "b-1", "b-0~"),
        ],
    )
    def test_where_a_listing_begins_is_put_back(self, prefix: str, after: str, asked: str) -> None:
        store, client = store_with(self.page())
        assert list(store.list(prefix, after=after)) == []
        assert client.calls[0][1]["StartAfter"] == f"some/prefix/{asked}"

    def test_tasks_are_given_one_at_a_time(self) -> None:
        """Of a listing of all tasks no more is held than one task's objects."""
        store, client = store_with(
            self.page("tasks/a/1", "tasks/a/2", "tasks/b/1", token="T"), self.page("tasks/c/1")
        )
        rows = store.list("tasks/")
        assert next(rows).key == "tasks/a/1"
        assert len(client.calls) == 1


class TestHurried:
    def test_waits_less_and_never_more(self) -> None:
        store, client = store_with({}, {}, {})
        store.delete("key")
        store.hurried(2.0).delete("key")
        store.hurried(600.0).delete("key")
        waits = [(options.connect_timeout_s, options.read_timeout_s) for options in client.options]
        assert waits == [(5.0, 30.0), (2.0, 2.0), (5.0, 30.0)]
        assert store.hurried(2.0).url == store.url == "s3://bucket/some/prefix"
