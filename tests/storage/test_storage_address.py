"""What addresses mean, without any server."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinsight.errors import SpecError, StorageError
from kinsight.storage import Address
from kinsight.storage.endpoints import endpoint_of

text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
bucket = st.from_regex(r"[a-z0-9][a-z0-9-]{2,20}", fullmatch=True)
host = st.sampled_from(["", "oss-cn-hangzhou.aliyuncs.com", "oss-cn-beijing-internal.aliyuncs.com", "127.0.0.1:9000"])


@given(bucket, text)
def test_s3_round_trip(name, key):
    address = Address("s3", name, key)
    assert Address.parse(address.uri) == address


@given(bucket, host, text)
def test_oss_round_trip(name, endpoint, key):
    address = Address("oss", name, key, endpoint)
    assert Address.parse(address.uri) == address


@given(text, text)
def test_http_round_trip(path, query):
    address = Address.parse("https://host:8000/x").child(path)
    assert Address.parse(address.uri) == address
    signed = Address.parse(f"http://host/x?{query}".replace("#", ""))
    assert Address.parse(signed.uri) == signed


@given(text)
def test_local_round_trip(path):
    address = Address("file", "", str(Path("/", path.lstrip("/"))))
    assert Address.parse(address.uri) == address
    assert Address.parse(address.local_path) == address
    assert Address.parse(address.local_path.as_uri()) == address


@given(bucket, st.lists(text.filter(lambda t: t.strip("/.") and "/" not in t), min_size=1, max_size=4))
def test_child_parent_and_name(name, parts):
    address = Address("s3", name, "top").child("/".join(parts))
    assert address.name == parts[-1]
    assert address.parent == Address("s3", name, "/".join(["top", *parts[:-1]]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b/中文.jpg", Address("file", "", "a b/中文.jpg")),
        ("./a//b/", Address("file", "", "a/b")),
        ("file:///a%20b/%E4%B8%AD.jpg", Address("file", "", "/a b/中.jpg")),
        ("file://localhost/a", Address("file", "", "/a")),
        ("S3://bucket/a%20b?c#d", Address("s3", "bucket", "a%20b?c#d")),
        ("s3://bucket", Address("s3", "bucket", "")),
        ("oss://bkt/a/b.jpg", Address("oss", "bkt", "a/b.jpg")),
        ("oss://bkt.oss-cn-hangzhou.aliyuncs.com/a", Address("oss", "bkt", "a", "oss-cn-hangzhou.aliyuncs.com")),
        ("oss://bkt.my.store.cn:81/a", Address("oss", "bkt", "a", "my.store.cn:81")),
        ("https://h/a b/中.jpg?sig=1", Address("https", "h", "a%20b/%E4%B8%AD.jpg", "", "sig=1")),
        ("http://h:80/a%20b#part", Address("http", "h:80", "a%20b")),
    ],
)
def test_parse(text, expected):
    assert Address.parse(text) == expected


def test_home_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/somebody")
    assert Address.parse("~/x").local_path == Path("/somebody/x")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "not an address"),
        ("a\0b", "not an address"),
        ("s4://bucket/key", "did you mean s3://"),
        ("htps://h/x?secret=1", "did you mean https://"),
        ("gopher://h/x", "known are local paths, file://"),
        ("s3:/bucket/key", "write s3://"),
        ("s3:///key", "names no bucket"),
        ("https:///key", "names no host"),
        ("oss://Bucket_/key", "not a bucket name"),
        ("file://host/path", "names a host"),
        ("~nobody-of-this-name/x", "no such user"),
    ],
)
def test_bad_addresses(text, part):
    with pytest.raises(SpecError) as caught:
        Address.parse(text)
    assert part in str(caught.value)
    assert "secret" not in str(caught.value)


def test_join_and_resolve():
    root = Address.parse("s3://bucket/lists/train")
    assert root.join("../images/./a b.jpg").uri == "s3://bucket/lists/images/a b.jpg"
    assert root.resolve("x/y.jpg").uri == "s3://bucket/lists/train/x/y.jpg"
    assert root.resolve("oss://other/x.jpg") == Address("oss", "other", "x.jpg")
    assert root.resolve("/data/x.jpg").local_path == Path("/data/x.jpg")
    assert Address.parse("lists").join("..", "a.jpg").local_path == Path("lists/../a.jpg")
    assert Address.parse("https://h/a/?q=1").child("b c").uri == "https://h/a/b%20c"
    with pytest.raises(SpecError, match="leaves bucket"):
        root.join("../../../x")


def test_shown_text_hides_signatures_and_passwords():
    address = Address.parse("https://user:pass@h/x.jpg?X-Signature=secret")
    for shown in (str(address), repr(address), f"{address}"):
        assert "secret" not in shown and "pass" not in shown and "h/x.jpg" in shown
    assert "secret" in address.uri


def oss(monkeypatch, address, **environment):
    for name, value in {"OSS_ACCESS_KEY_ID": "i", "OSS_ACCESS_KEY_SECRET": "hidden", **environment}.items():
        monkeypatch.setenv(name, value)
    return endpoint_of(Address.parse(address))


@pytest.mark.parametrize(
    ("address", "url", "region", "addressing"),
    [
        ("oss://b.oss-cn-hangzhou.aliyuncs.com/k", "https://s3.oss-cn-hangzhou.aliyuncs.com", "cn-hangzhou", "virtual"),
        (
            "oss://b.oss-cn-beijing-internal.aliyuncs.com/k",
            "https://s3.oss-cn-beijing-internal.aliyuncs.com",
            "cn-beijing",
            "virtual",
        ),
        ("oss://b.store.example.com/k", "https://store.example.com", None, "virtual"),
        ("oss://b.127.0.0.1:9000/k", "http://127.0.0.1:9000", None, "path"),
        ("oss://b.localhost:9000/k", "http://localhost:9000", None, "path"),
        ("oss://b/k", "https://s3.oss-cn-shanghai.aliyuncs.com", "cn-shanghai", "virtual"),
    ],
)
def test_oss_endpoints(monkeypatch, address, url, region, addressing):
    found = oss(monkeypatch, address, OSS_ENDPOINT="oss-cn-shanghai.aliyuncs.com")
    assert (found.url, found.region, found.addressing) == (url, region, addressing)
    assert "hidden" not in repr(found)


def test_addressing_and_session_token_from_the_environment(monkeypatch):
    found = oss(monkeypatch, "oss://b.shop.cn/k", KINSIGHT_OSS_ADDRESSING="path", OSS_SESSION_TOKEN="t")
    assert (found.addressing, found.token) == ("path", "t")
    with pytest.raises(SpecError, match="KINSIGHT_OSS_ADDRESSING"):
        oss(monkeypatch, "oss://b.shop.cn/k", KINSIGHT_OSS_ADDRESSING="sideways")


@pytest.mark.parametrize(
    ("environment", "part"),
    [
        ({}, "no endpoint is known"),
        ({"OSS_ENDPOINT": "https://"}, "OSS_ENDPOINT"),
        ({"OSS_ENDPOINTS": "a.com,b.com", "OSS_BUCKETS": "a"}, "names 2 endpoints, but OSS_BUCKETS 1"),
        ({"OSS_ENDPOINT": "a.com", "OSS_ACCESS_KEY_ID": ""}, "OSS_ACCESS_KEY_ID is not set"),
        ({"OSS_ENDPOINT": "a.com", "OSS_ACCESS_KEY_ID": "", "OSS_ACCESS_KEY_SECRET": ""}, "no credentials"),
        ({"OSS_CONFIG_FILE": "/nowhere/at/all"}, "no such file"),
        ({"OSS_ENDPOINT": "a.com", "KINSIGHT_STORAGE_TIMEOUT_S": "soon"}, "KINSIGHT_STORAGE_TIMEOUT_S"),
    ],
)
def test_incomplete_settings(monkeypatch, environment, part):
    with pytest.raises((SpecError, StorageError)) as caught:
        oss(monkeypatch, "oss://b/k", **environment)
    assert part in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("accessKeyID=id\naccessKeySecret=hidden\n", "line 1"),
        ("[Credentials]\nhidden\n", "not in the form"),
        ("[Other]\na=b\n", "lacks the section [Credentials]"),
        ("[Credentials]\naccessKeyID=id\nendpoint=e.com\n", "lacks accessKeySecret"),
    ],
)
def test_malformed_ossutil_files(monkeypatch, tmp_path, content, part):
    path = tmp_path / "config"
    path.write_text(content)
    monkeypatch.setenv("OSS_CONFIG_FILE", str(path))
    with pytest.raises(StorageError) as caught:
        endpoint_of(Address.parse("oss://b/k"))
    assert part in str(caught.value) and str(path) in str(caught.value)
    assert "hidden" not in str(caught.value) + repr(caught.value)


def test_ossutil_file_in_the_home_directory(monkeypatch, tmp_path):
    (tmp_path / ".ossutilconfig").write_text(
        "[Credentials]\nlanguage=CH\nendpoint=oss-cn-beijing.aliyuncs.com\naccessKeyID=id%1\naccessKeySecret=s=x\n"
        "stsToken=tok\n[Bucket-Endpoint]\nspecial=oss-cn-hangzhou.aliyuncs.com\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    found = endpoint_of(Address.parse("oss://special/k"))
    assert (found.key, found.secret, found.token, found.region) == ("id%1", "s=x", "tok", "cn-hangzhou")
    assert endpoint_of(Address.parse("oss://any/k")).region == "cn-beijing"


def test_importing_is_light():
    heavy = "torch", "s3fs", "fsspec", "aiohttp", "botocore", "asyncio"
    code = f"import sys, kinsight.storage; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
