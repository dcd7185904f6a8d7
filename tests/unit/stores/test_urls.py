"""Store URLs: what each form means, and one line for what is wrong with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fsnap.errors import StoreError, UsageError
from fsnap.stores.file import FileStore
from fsnap.stores.urls import normal_url, open_store, parse_url


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("file:///data/store", "file:///data/store"),
        ("file:///data/store/", "file:///data/store"),
        ("file:////data//./store", "file:///data/store"),
        ("file:///my%20data", "file:///my%20data"),
        ("file:///my data", "file:///my%20data"),
        ("file:///100%25", "file:///100%25"),
        ("file:///a%3Fb%23c", "file:///a%3Fb%23c"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("s3://bucket/a b+é%20", "s3://bucket/a b+é%20"),
        ("gs://bucket/prefix", "gs://bucket/prefix"),
        ("az://container/prefix", "az://container/prefix"),
    ],
)
def test_normal_form(url: str, normal: str) -> None:
    assert normal_url(url) == normal
    assert normal_url(normal) == normal


def test_percent_escapes_are_of_file_urls_alone() -> None:
    assert parse_url("file:///a%20b").path == "/a b"
    assert parse_url("s3://bucket/a%20b").path == "a%20b"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "no scheme"),
        ("/data/store", "say file:///data/store"),
        ("data/store", "no scheme"),
        ("s3:bucket", "no scheme"),
        ("file:/data", "no scheme"),
        ("file://data/store", "three slashes"),
        ("file://localhost/data", "three slashes"),
        ("file://./data", "three slashes"),
        ("file://", "three slashes"),
        ("file:///", "root directory"),
        ("file:////", "root directory"),
        ("file:///data/../etc", "'..'"),
        ("file:///data/%2e%2e/etc", "'..'"),
        ("file:///a%00b", "control character"),
        ("file:///data\n", "control character"),
        ("file:///data?mode=ro", "query"),
        ("file:///data#part", "fragment"),
        ("ftp://host/dir", "unknown scheme 'ftp'"),
        ("S3://bucket", "unknown scheme 'S3'"),
        ("https://bucket.s3.amazonaws.com", "unknown scheme 'https'"),
        ("s3://", "names no bucket"),
        ("s3:///prefix", "names no bucket"),
        ("az:///prefix", "names no container"),
        ("s3://bucket?region=x", "query"),
        ("s3://bucket:9000/prefix", "a port cannot follow"),
        ("s3://-bucket", "cannot be the name of a bucket"),
        ("s3://b", "cannot be the name of a bucket"),
        ("s3://buc ket/x", "cannot be the name of a bucket"),
        ("s3://bucket/a//b", "empty segment"),
        ("s3://bucket/a/../b", "'..'"),
        ("s3://bucket/" + "x" * 300, "longer than"),
    ],
)
def test_what_is_wrong_is_one_line(url: str, why: str) -> None:
    with pytest.raises(UsageError, match=why.replace("(", r"\(")) as failure:
        open_store(url)
    assert failure.value.exit_code == 2
    assert "\n" not in str(failure.value)
    with pytest.raises(UsageError):
        normal_url(url)


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError, match="credentials") as failure:
        open_store("s3://AKIAEXAMPLE:topsecret@bucket/prefix")
    assert "topsecret" not in str(failure.value)
    assert "AKIAEXAMPLE" not in str(failure.value)


@pytest.mark.process
@pytest.mark.parametrize(
    ("scheme", "module", "package"),
    [("az", "azure.storage.blob", "fsnap[azure]"), ("gs", "google.cloud.storage", "fsnap")],
)
def test_an_sdk_that_is_missing_is_named(scheme: str, module: str, package: str) -> None:
    """In a process of its own: what was imported once stays."""
    program = (
        "import sys; from fsnap.errors import UsageError; from fsnap.stores.urls import open_store\n"
        f"sys.modules[{module!r}] = None\n"
        "try: open_store(sys.argv[1])\n"
        "except UsageError as error: print(error.exit_code, error.hint, error, sep='|')\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, f"{scheme}://bucket/p"], capture_output=True, text=True, check=True
    )
    exit_code, hint, line = told.stdout.strip().split("|")
    assert (exit_code, hint) == ("2", f"Install it: pip install '{package}'.")
    assert line.startswith(f"store URL '{scheme}://bucket/p': what speaks to {scheme}:// is not installed (")


@pytest.mark.process
class TestWhatABucketIsAskedFor:
    """The variables that say how a bucket keeps what is put."""

    def test_s3(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from fsnap.stores.s3 import S3Options, S3Store

        monkeypatch.setenv("FSNAP_STORAGE_CLASS", "STANDARD_IA")
        monkeypatch.setenv("FSNAP_KMS_KEY", "alias/a")
        store = open_store("s3://bucket")
        assert isinstance(store, S3Store)
        assert store.options == S3Options(storage_class="STANDARD_IA", kms_key_id="alias/a")
        assert store.options.put_arguments()["ServerSideEncryption"] == "aws:kms"
        monkeypatch.setenv("FSNAP_S3_SSE", "aws:kms:dsse")
        again = open_store("s3://bucket")
        assert isinstance(again, S3Store)
        assert again.options.put_arguments()["ServerSideEncryption"] == "aws:kms:dsse"

    @pytest.mark.parametrize(
        ("url", "archive"),
        [("s3://bucket", "GLACIER"), ("gs://bucket", "ARCHIVE"), ("az://container", "Archive")],
    )
    def test_an_archive_is_refused(self, monkeypatch: pytest.MonkeyPatch, url: str, archive: str) -> None:
        monkeypatch.setenv("FSNAP_STORAGE_CLASS", archive)
        with pytest.raises(UsageError, match=archive):
            open_store(url)


def test_a_directory_is_made(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/a%20b/store/")
    assert isinstance(store, FileStore)
    assert (tmp_path / "a b/store").is_dir()
    assert store.url == f"file://{tmp_path}/a%20b/store"


def test_a_directory_is_not_made_on_request(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        open_store(f"file://{tmp_path}/none", create=False)
    assert not (tmp_path / "none").exists()


@pytest.mark.process  # urllib3 tries whether there is IPv6 when it is imported
@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_a_bucket_is_opened_without_asking_it(scheme: str) -> None:
    assert open_store(f"{scheme}://bucket/some/prefix/").url == f"{scheme}://bucket/some/prefix"


@pytest.mark.process
def test_the_sdk_is_loaded_for_a_bucket_alone(tmp_path: Path) -> None:
    program = (
        "import sys; from fsnap.stores import base, memory, probe, retrying, urls\n"
        f"urls.open_store('file://{tmp_path}/store')\n"
        "print('boto3' in sys.modules, 'botocore' in sys.modules)\n"
        "urls.open_store('s3://bucket'); print('boto3' in sys.modules)\n"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["False", "False", "True"]
