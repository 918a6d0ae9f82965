"""Local files, confinement and archives."""

import io
import os
import stat
import subprocess
import tarfile
import zipfile
from contextlib import suppress

import pytest

from kinsight import storage
from kinsight.errors import DataError, StorageError
from kinsight.storage import Address, Limits, confine, extract_archive


@pytest.mark.parametrize("name", ["plain", "with space/中文", "a%20b#c"])
def test_write_read_list_remove(tmp_path, name):
    target = Address.parse(tmp_path / "root").child(name)
    storage.write_bytes(target, b"one")
    storage.write_bytes(target.uri, b"two!")
    assert storage.read_bytes(target) == b"two!"
    assert storage.read_bytes(target, start=1, length=2) == b"wo"
    assert storage.size(target) == 4
    assert [entry.relative for entry in storage.list_files(tmp_path / "root")] == [name]
    assert stat.S_IMODE(target.local_path.stat().st_mode) == 0o666 & ~umask()
    storage.remove_tree(tmp_path / "root")
    assert not storage.exists(tmp_path / "root")


def umask() -> int:
    old = os.umask(0)
    os.umask(old)
    return old


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "file"
    storage.write_bytes(target, b"old")
    with pytest.raises(KeyError), storage.open_write(target) as file:
        file.write(b"half")
        raise KeyError
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_listing(tmp_path):
    for name in ["b", "a/1", "a/2", ".kinsight-aside-1"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "linked").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "circle").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    listed = [entry.relative for entry in storage.list_files(tmp_path)]
    assert listed == ["a/1", "a/2", "b", "linked/1", "linked/2"]
    assert [entry.relative for entry in storage.list_files(tmp_path, recursive=False)] == ["b"]
    (tmp_path / "empty").mkdir()
    assert storage.list_files(tmp_path / "empty") == []
    for absent, code in [("absent", "storage.not-found"), ("b", "storage.not-a-directory")]:
        with pytest.raises(StorageError) as caught:
            storage.list_files(tmp_path / absent)
        assert caught.value.code == code and absent in str(caught.value) and caught.value.remedy


def test_paths_in_the_way(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    for action in (
        lambda: storage.write_bytes(tmp_path / "file" / "below", b"x"),
        lambda: storage.OutputDir(tmp_path / "file").check_writable(),
        lambda: storage.OutputDir(tmp_path / "file" / "below").check_writable(),
    ):
        with pytest.raises(StorageError) as caught:
            action()
        assert caught.value.code == "storage.not-a-directory"
    with pytest.raises(StorageError, match="is a directory"):
        storage.write_bytes(tmp_path, b"x")
    with pytest.raises(StorageError, match="is a directory"):
        storage.read_bytes(tmp_path)
    with pytest.raises(StorageError, match="name is too long"):
        storage.write_bytes(tmp_path / ("x" * 300), b"x")
    assert not storage.exists(tmp_path / "file" / "below")


def test_checking_leaves_no_trace(tmp_path):
    storage.OutputDir(tmp_path / "new" / "deep").check_writable()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def closed(tmp_path):
    """A directory that this process may read but not write; root becomes somebody else meanwhile."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    user, path = os.geteuid(), folder
    if user == 0:
        while path != path.parent and not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o011)
            path = path.parent
        os.seteuid(65534)
    yield folder
    os.seteuid(user)


def test_permission_denied(closed):
    for action in (
        storage.OutputDir(closed / "out").check_writable,
        lambda: storage.write_bytes(closed / "file", b"x"),
    ):
        with pytest.raises(StorageError, match="permission denied") as caught:
            action()
        assert caught.value.code == "storage.denied"


@pytest.fixture
def tiny_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("mounting a tiny file system needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_disk_full(tiny_disk):
    storage.write_bytes(tiny_disk / "kept", b"old")
    with pytest.raises(StorageError, match="no space left") as caught:
        storage.write_bytes(tiny_disk / "kept", bytes(10**6))
    assert caught.value.code == "storage.full"
    assert (tiny_disk / "kept").read_bytes() == b"old"
    assert list(tiny_disk.iterdir()) == [tiny_disk / "kept"]
    with suppress(OSError), (tiny_disk / "fill").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    with pytest.raises(StorageError, match="no space left"):
        storage.OutputDir(tiny_disk / "out").check_writable()


def test_read_only_file_system(tiny_disk):
    subprocess.run(["mount", "-o", "remount,ro", tiny_disk], check=True)
    with pytest.raises(StorageError, match="read-only"):
        storage.OutputDir(tiny_disk / "out").check_writable()


def test_roots_are_not_removed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("/", ".", "..", "~"):
        with pytest.raises(StorageError, match="not removed as a whole"):
            storage.remove_tree(path)


def test_text(tmp_path):
    (tmp_path / "bom").write_bytes("\ufeff中".encode())
    assert storage.read_text(tmp_path / "bom") == "中"
    (tmp_path / "gbk").write_bytes("中文".encode("gbk"))
    with pytest.raises(StorageError, match="not UTF-8 at byte 0"):
        storage.read_text(tmp_path / "gbk")


@pytest.mark.parametrize("relative", ["../x", "/etc/passwd", "a/../../x", "out/x", "", ".", "a\0b", "\\x"])
def test_confine_refuses(tmp_path, relative):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "out").symlink_to(tmp_path)
    with pytest.raises(StorageError, match="does not stay below"):
        confine(tmp_path / "root", relative)


def test_confine_accepts(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert confine(tmp_path, "a b/中.jpg") == tmp_path / "a b" / "中.jpg"
    assert confine(tmp_path, "link/x") == tmp_path / "real" / "x"


def a_zip(path, members, mode=0):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
    return path


def a_tar(path, *members):
    with tarfile.open(path, "w:gz") as archive:
        for name, kind, data in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(data), "/etc/passwd"
            archive.addfile(info, io.BytesIO(data))
    return path


def test_good_archives(tmp_path):
    members = {"a/1.txt": b"one", "中 文.txt": b"two", "a/deep/": b""}
    extract_archive(a_zip(tmp_path / "z.zip", members), tmp_path / "z")
    assert [entry.relative for entry in storage.list_files(tmp_path / "z")] == ["a/1.txt", "中 文.txt"]
    packed = a_tar(tmp_path / "t", (".", tarfile.DIRTYPE, b""), ("./a/1", tarfile.REGTYPE, b"one"))
    extract_archive(packed, tmp_path / "t-out")
    assert (tmp_path / "t-out" / "a" / "1").read_bytes() == b"one"


EVIL = {
    "parent": lambda p: a_zip(p, {"../evil": b"x"}),
    "absolute": lambda p: a_zip(p, {"/evil": b"x"}),
    "zip link": lambda p: a_zip(p, {"link": b"/etc"}, stat.S_IFLNK | 0o777),
    "zip device": lambda p: a_zip(p, {"dev": b""}, stat.S_IFCHR | 0o666),
    "bomb": lambda p: a_zip(p, {"zeros": bytes(80 * 2**20)}),
    "tar parent": lambda p: a_tar(p, ("a/../../evil", tarfile.REGTYPE, b"x")),
    "tar link": lambda p: a_tar(p, ("link", tarfile.SYMTYPE, b"")),
    "tar hard link": lambda p: a_tar(p, ("link", tarfile.LNKTYPE, b"")),
    "tar device": lambda p: a_tar(p, ("dev", tarfile.CHRTYPE, b"")),
    "tar fifo": lambda p: a_tar(p, ("fifo", tarfile.FIFOTYPE, b"")),
    "text": lambda p: p.write_bytes(b"hello") and p,
    "empty": lambda p: p.touch() or p,
}


@pytest.mark.parametrize("kind", EVIL)
def test_evil_archives(tmp_path, kind):
    archive = EVIL[kind](tmp_path / "archive")
    with pytest.raises(DataError) as caught:
        extract_archive(archive, tmp_path / "target" / "here")
    assert caught.value.code == "data.archive" and str(archive) in str(caught.value)
    assert not (tmp_path / "evil").exists() and not (tmp_path / "target" / "here").exists()
    assert list((tmp_path / "target").iterdir()) == []


def test_damaged_and_limited_archives(tmp_path):
    good = a_zip(tmp_path / "good.zip", {"a": os.urandom(5000), "b": b"x"})
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(good.read_bytes()[:100] + b"\0\0\0\0" + good.read_bytes()[104:])
    with pytest.raises(DataError, match="damaged"):
        extract_archive(damaged, tmp_path / "out")
    with pytest.raises(DataError, match="more than 100 bytes"):
        extract_archive(good, tmp_path / "out", Limits(total_bytes=100))
    with pytest.raises(DataError, match="more than 1 members"):
        extract_archive(good, tmp_path / "out", Limits(members=1))
    extract_archive(good, tmp_path / "out")
    with pytest.raises(StorageError, match="is not empty"):
        extract_archive(good, tmp_path / "out")
