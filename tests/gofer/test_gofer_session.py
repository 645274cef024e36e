"""The operations on a tree of good will, called directly: what each does, byte for byte."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from gofer_support import LATIN1, create, fails, opened, walk

from gofer.protocol import MAX_AHEAD, Dent, Place, Stop
from gofer.session import Session


def listing(session: Session, fid: int, limit: int = 65536, stats: bool = False) -> list[Dent]:
    """All entries, in as many calls as it takes."""
    found: list[Dent] = []
    cookie, end = 0, False
    while not end:
        dents = session.getdents(fid, cookie, limit, stats)
        assert dents.entries or dents.end, "a call that neither gives nor ends"
        found += dents.entries
        cookie, end = dents.next, dents.end
    return found


def test_mount_gives_root_and_limits(session: Session, tree: Path) -> None:
    """The root is the tree's directory; each mount gives a FID of its own."""
    mounted, again = session.mount(), session.mount()
    assert mounted.root.stat.ino == tree.stat().st_ino
    assert mounted.root.fid != again.root.fid
    assert mounted.max_read >= 1 << 20


def test_walk_whole_path(session: Session, root: int, tree: Path) -> None:
    """Every inode on the way comes back, with its stat."""
    walked = session.walk(root, [b"dir", b"deep", b"file"])
    assert walked.stop is Stop.DONE
    paths = [tree / "dir", tree / "dir/deep", tree / "dir/deep/file"]
    assert [inode.stat.ino for inode in walked.inodes] == [path.stat().st_ino for path in paths]
    assert walked.inodes[-1].stat.size == 4


def test_walk_no_names(session: Session, root: int) -> None:
    """An empty walk is done at once and makes nothing."""
    assert session.walk(root, []).inodes == []
    assert session.walk_stat(root, [], True).stats == []


def test_walk_stops_at_missing(session: Session, root: int) -> None:
    """What exists is given; the status says why there is no more."""
    walked = session.walk(root, [b"dir", b"nothing", b"file"])
    assert (len(walked.inodes), walked.stop) == (1, Stop.MISSING)
    looked = session.walk_stat(root, [b"dir", b"nothing", b"file"], True)
    assert (len(looked.stats), looked.stop) == (1, Stop.MISSING)
    assert session.walk_stat(root, [b"nothing"], True).stop is Stop.MISSING


def test_walk_stops_at_symlink(session: Session, root: int) -> None:
    """The link itself is the last inode, and nothing after it is looked at."""
    for names in ([b"dirlink", b"deep", b"file"], [b"dirlink"], [b"out"], [b"up", b"secret"], [b"loop"]):
        walked = session.walk(root, names)
        assert (len(walked.inodes), walked.stop) == (1, Stop.SYMLINK)
        assert stat.S_ISLNK(walked.inodes[0].stat.mode)
        looked = session.walk_stat(root, names, True)
        assert (len(looked.stats), looked.stop) == (1, Stop.SYMLINK)
        assert looked.stats[0].ino == walked.inodes[0].stat.ino


def test_walk_through_a_file(session: Session, root: int) -> None:
    """ENOTDIR, and the FIDs of the way there are not left behind."""
    before = len(session._fids)
    with fails(errno.ENOTDIR):
        session.walk(root, [b"dir", b"deep", b"file", b"x"])
    with fails(errno.ENOTDIR):
        session.walk_stat(root, [b"hello", b"x"], True)
    assert len(session._fids) == before


def test_stat_of_both_kinds(session: Session, root: int, tree: Path) -> None:
    """Control and open FIDs tell the same, and what os.stat tells."""
    control = walk(session, root, b"hello")
    info = os.stat(tree / "hello")
    for fid in (control, session.open(control, os.O_RDONLY).fid):
        told = session.stat(fid)
        assert (told.mode, told.size, told.mtime_ns) == (info.st_mode, info.st_size, info.st_mtime_ns)
        assert (told.ino, told.nlink, told.uid, told.blocks) == (
            info.st_ino,
            info.st_nlink,
            info.st_uid,
            info.st_blocks,
        )


def test_readlink(session: Session, root: int, tree: Path) -> None:
    """A target is told as it is, wherever it points; anything else is EINVAL."""
    assert session.readlink(walk(session, root, b"out")) == b"../secret"
    assert session.readlink(walk(session, root, b"absolute")) == os.fsencode(tree.parent / "secret")
    with fails(errno.EINVAL):
        session.readlink(walk(session, root, b"hello"))


def test_read(session: Session, root: int) -> None:
    """Whole, in part, at the end, past the end, an empty file."""
    fid = opened(session, root, b"hello")
    assert bytes(session.read(fid, 0, 100)) == b"hello, world\n"
    assert bytes(session.read(fid, 7, 5)) == b"world"
    assert bytes(session.read(fid, 13, 5)) == b""
    assert bytes(session.read(fid, 1 << 40, 5)) == b""
    assert bytes(session.read(fid, 0, 0)) == b""
    assert bytes(session.read(opened(session, root, b"empty"), 0, 10)) == b""


def test_non_utf8_names(session: Session, root: int, tree: Path) -> None:
    """Such a name is walked, listed, made, renamed and removed as any other."""
    assert bytes(session.read(opened(session, root, LATIN1), 0, 9)) == b"latin"
    assert LATIN1 in [dent.name for dent in listing(session, session.open(root, os.O_RDONLY).fid)]
    odd = b"\xff\xfe\x80 \n\x1b[31m"
    create(session, root, odd, b"odd")
    assert odd in os.listdir(os.fsencode(tree))
    session.rename(Place(root, odd), Place(root, odd + b"2"), 0)
    assert odd + b"2" in os.listdir(os.fsencode(tree))
    session.unlink(Place(root, odd + b"2"), False)
    assert not [name for name in os.listdir(os.fsencode(tree)) if name.startswith(odd)]


def test_create_write_read_back(session: Session, root: int, tree: Path) -> None:
    """A new file has the mode asked for, and the content that was written."""
    created = session.create(Place(root, b"new"), os.O_RDWR, 0o640, None)
    assert stat.S_IMODE(created.inode.stat.mode) == 0o640 & ~_umask()
    assert session.write(created.opened, 0, memoryview(b"content")) == 7
    assert (tree / "new").read_bytes() == b"content"
    assert session.stat(created.inode.fid).size == 7
    assert created.inode.stat.ino == (tree / "new").stat().st_ino


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_create_never_opens_what_is_there(session: Session, root: int) -> None:
    """EEXIST for a file, a directory, a symbolic link, even a dangling one."""
    for name in (b"hello", b"dir", b"link", b"out", b"loop", b"fifo"):
        with fails(errno.EEXIST):
            session.create(Place(root, name), os.O_RDWR, 0o644, None)


def test_truncate_and_append(session: Session, root: int, tree: Path) -> None:
    """O_TRUNC empties; O_APPEND writes at the end whatever the offset."""
    control = walk(session, root, b"hello")
    append = session.open(control, os.O_WRONLY | os.O_APPEND).fid
    session.write(append, 0, memoryview(b"more"))
    assert (tree / "hello").read_bytes() == b"hello, world\nmore"
    session.open(control, os.O_WRONLY | os.O_TRUNC)
    assert (tree / "hello").read_bytes() == b""


def test_holes(session: Session, root: int, tree: Path) -> None:
    """Writing far out makes a hole, which reads as zeros."""
    fid = create(session, root, b"sparse")
    session.write(fid, 1 << 32, memoryview(b"end"))
    assert (tree / "sparse").stat().st_size == (1 << 32) + 3
    assert bytes(session.read(fid, 1 << 20, 4096)) == bytes(4096)
    assert bytes(session.read(fid, (1 << 32) - 2, 100)) == b"\0\0end"


def test_getdents_lists_all_with_any_limit(session: Session, root: int, tree: Path) -> None:
    """1000 entries come over once each, in one call or many, without `.` and `..`."""
    many = tree / "many"
    many.mkdir()
    names = {b"%04d" % number + b"x" * (number % 250) for number in range(1000)}
    for name in names:
        os.close(os.open(os.path.join(os.fsencode(many), name), os.O_CREAT))
    fid = opened(session, root, b"many")
    for limit, stats in ((4096, False), (4096, True), (1 << 20, False), (1 << 20, True)):
        found = listing(session, fid, limit, stats)
        assert len(found) == 1000
        assert {dent.name for dent in found} == names
        assert all((dent.stat is not None) is stats for dent in found)


def test_getdents_replies_within_the_limit(session: Session, root: int, tree: Path) -> None:
    """The encoded entries are never longer than asked for."""
    import msgspec

    many = tree / "many"
    many.mkdir()
    for number in range(300):
        (many / f"{number}").touch()
    fid = opened(session, root, b"many")
    for limit in (2048, 4096, 10000):
        for stats in (False, True):
            dents = session.getdents(fid, 0, limit, stats)
            assert len(msgspec.msgpack.encode(dents.entries)) <= limit


def test_getdents_kinds_and_inodes(session: Session, root: int, tree: Path) -> None:
    """An entry's kind and inode number are those of lstat."""
    for dent in listing(session, session.open(root, os.O_RDONLY).fid, stats=True):
        info = os.lstat(os.path.join(os.fsencode(tree), dent.name))
        assert dent.kind in (0, stat.S_IFMT(info.st_mode) >> 12)
        assert dent.ino == info.st_ino
        assert dent.stat is not None
        assert dent.stat.mode == info.st_mode


def test_getdents_refuses_what_is_no_directory(session: Session, root: int) -> None:
    """ENOTDIR for a file; EBADF for a control FID; EINVAL for no room."""
    with fails(errno.ENOTDIR):
        session.getdents(opened(session, root, b"hello"), 0, 4096, False)
    with fails(errno.EBADF):
        session.getdents(root, 0, 4096, False)
    for limit in (-1, 0, 100):
        with fails(errno.EINVAL):
            session.getdents(session.open(root, os.O_RDONLY).fid, 0, limit, False)


def test_mkdir_rename_unlink(session: Session, root: int, tree: Path) -> None:
    """A directory is made, filled, renamed into another, emptied and removed."""
    made = session.mkdir(Place(root, b"made"), 0o755, None)
    create(session, made.fid, b"inside", b"x")
    dir_fid = walk(session, root, b"dir")
    session.rename(Place(root, b"made"), Place(dir_fid, b"moved"), 0)
    assert (tree / "dir/moved/inside").read_bytes() == b"x"
    with fails(errno.ENOTEMPTY):
        session.unlink(Place(dir_fid, b"moved"), True)
    session.unlink(Place(made.fid, b"inside"), False)  # the FID follows the directory, not its name
    session.unlink(Place(dir_fid, b"moved"), True)
    assert not (tree / "dir/moved").exists()


def test_unlink_wants_the_right_kind(session: Session, root: int) -> None:
    """A directory is not unlinked as a file, nor a file as a directory; a link goes, not its target."""
    with fails(errno.EISDIR):
        session.unlink(Place(root, b"dir"), False)
    with fails(errno.ENOTDIR):
        session.unlink(Place(root, b"hello"), True)
    session.unlink(Place(root, b"link"), False)
    assert session.walk(root, [b"hello"]).stop is Stop.DONE


def test_rename_over(session: Session, root: int, tree: Path) -> None:
    """What the new name stood for is replaced; a file does not replace a directory."""
    session.rename(Place(root, b"hello"), Place(root, b"empty"), 0)
    assert (tree / "empty").read_bytes() == b"hello, world\n"
    with fails(errno.EISDIR):
        session.rename(Place(root, b"empty"), Place(root, b"dir"), 0)
    with fails(errno.ENOENT):
        session.rename(Place(root, b"hello"), Place(root, b"x"), 0)


def test_an_open_file_outlives_its_name(session: Session, root: int) -> None:
    """Unlinked while open: it still reads, as any open file."""
    fid = opened(session, root, b"hello")
    session.unlink(Place(root, b"hello"), False)
    assert bytes(session.read(fid, 0, 5)) == b"hello"
    assert session.stat(fid).nlink == 0


def test_fsync_many(session: Session, root: int) -> None:
    """All are synchronised; a bad one is reported, after the others."""
    fids = [create(session, root, b"%d" % number, b"x") for number in range(3)]
    session.fsync(fids, False)
    session.fsync(fids, True)
    with fails(errno.EBADF):
        session.fsync([root, *fids], False)


def test_read_only(make_session: Callable[..., Session], tree: Path) -> None:
    """Every operation that would change something is EROFS; reading works."""
    session = make_session(read_only=True)
    root = session.mount().root.fid
    before = sorted(os.listdir(os.fsencode(tree)))
    control = walk(session, root, b"hello")
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
        with fails(errno.EROFS):
            session.open(control, flags)
    for flags in (os.O_RDONLY, os.O_RDWR):
        with fails(errno.EROFS):
            session.create(Place(root, b"new"), flags, 0o644, None)
    with fails(errno.EROFS):
        session.mkdir(Place(root, b"new"), 0o755, None)
    with fails(errno.EROFS):
        session.unlink(Place(root, b"hello"), False)
    with fails(errno.EROFS):
        session.rename(Place(root, b"hello"), Place(root, b"new"), 0)
    reading = session.open(control, os.O_RDONLY).fid
    with fails(errno.EBADF):
        session.write(reading, 0, memoryview(b"x"))
    assert bytes(session.read(reading, 0, 5)) == b"hello"
    assert sorted(os.listdir(os.fsencode(tree))) == before


def test_disconnect_closes_everything(make_session: Callable[..., Session]) -> None:
    """Nothing of a session is left when its client is gone (the leak check of every test looks too)."""
    session = make_session()
    root = session.mount().root.fid
    for name in (b"hello", b"dir", LATIN1):
        opened(session, root, name)
    session.on_disconnect()
    assert len(session._fids) == 0
    with fails(errno.EBADF):
        session.stat(root)
    with fails(errno.EBADF):
        session.mount()


def test_walk_open_with_content(session: Session, root: int, tree: Path) -> None:
    """A small file comes with its content, if it is opened for reading and asked for; a longer one without."""
    (tree / "large").write_bytes(bytes(100))
    (tree / "larger").write_bytes(bytes(MAX_AHEAD + 1))
    for names, flags, ahead, data in [
        ([b"hello"], os.O_RDONLY, 100, b"hello, world\n"),
        ([b"dir", b"deep", b"file"], os.O_RDONLY, 4, b"deep"),
        ([b"hello"], os.O_RDONLY, 0, b""),
        ([b"hello"], os.O_RDWR, 100, b""),
        ([b"empty"], os.O_RDONLY, 100, b""),
        ([b"large"], os.O_RDONLY, 99, b""),
        ([b"larger"], os.O_RDONLY, 1 << 40, b""),
        ([b"dir"], os.O_RDONLY | os.O_DIRECTORY, 1 << 16, b""),
        ([b"fifo"], os.O_RDONLY, 100, b""),
    ]:
        found = session.walk_open(root, names, flags, ahead)
        assert found.data == data, names
        assert found.stat.ino == (tree / os.fsdecode(b"/".join(names))).stat().st_ino
    with fails(errno.EINVAL):
        session.walk_open(root, [b"hello"], os.O_RDONLY, -1)


def test_walk_list(session: Session, root: int, tree: Path) -> None:
    """A directory listed by its names is as it is when opened, a stretch at a time; and no FID is left."""
    for number in range(100):
        (tree / "dir" / f"{number}").touch()
    fid = opened(session, root, b"dir", os.O_RDONLY | os.O_DIRECTORY)
    whole = listing(session, fid, stats=True)
    listed = session.walk_list(root, [b"dir"], 65536, 0)
    assert (listed.dents.entries, listed.dents.end) == (whole, True)
    assert listed.stat.ino == (tree / "dir").stat().st_ino
    part = session.walk_list(root, [b"dir"], 4096, 0).dents
    assert (part.entries, part.end) == (whole[: len(part.entries)], False)
    rest = session.getdents(fid, part.next, 65536, True)
    assert part.entries + rest.entries == whole
    assert session.walk_list(root, [], 65536, 0).stat.ino == tree.stat().st_ino
    for names, code in [([b"hello"], errno.ENOTDIR), ([b"dirlink"], errno.ENOTDIR), ([b"no"], errno.ENOENT)]:
        with fails(code):
            session.walk_list(root, names, 65536, 0)
    with fails(errno.ELOOP):
        session.walk_list(root, [b"dirlink", b"deep"], 65536, 0)
    with fails(errno.EINVAL):
        session.walk_list(root, [], 100, 0)


def test_walk_lists(session: Session, root: int, tree: Path) -> None:
    """Directories listed together are as listed alone; None where one cannot be had or is too long."""
    for number in range(100):
        (tree / "dir" / f"{number}").touch()
    names = [b"dir", b"hello", b"dirlink", b"no", b"dir"]
    found = session.walk_lists(root, [], names, 65536, 0)
    alone = session.walk_list(root, [b"dir"], 65536, 0)
    assert [None if listed is None else listed.dents for listed in found] == [
        alone.dents, None, None, None, alone.dents
    ]  # fmt: skip
    assert session.walk_lists(root, [], [b"dir", b"dir"], 24_000, 0)[1:] == [None]
    below = session.walk_lists(root, [b"dir"], [b"deep"], 65536, 1 << 16)[0]
    assert below is not None
    assert below.contents == session.walk_list(root, [b"dir", b"deep"], 65536, 1 << 16).contents
    for wrong in ([b".."], [b"a/b"], [b""]):
        with fails(errno.EINVAL):
            session.walk_lists(root, [], wrong, 65536, 0)
    assert session.walk_lists(root, [b"hello"], [b"x"], 65536, 0) == [None]


def test_walk_look(session: Session, root: int, tree: Path) -> None:
    """A name comes with its directory. That it is not there is an answer; that the directory is not, an error."""
    looked = session.walk_look(root, [b"dir"], b"deep")
    assert looked.found is not None
    assert (looked.directory.ino, looked.found.ino) == (
        (tree / "dir").stat().st_ino,
        (tree / "dir" / "deep").stat().st_ino,
    )
    link = session.walk_look(root, [], b"dirlink").found
    assert link is not None
    assert stat.S_ISLNK(link.mode)
    assert session.walk_look(root, [b"dir"], b"no").found is None
    for names, name, code in [
        ([b"no"], b"x", errno.ENOENT),
        ([b"hello"], b"x", errno.ENOTDIR),
        ([b"dirlink"], b"deep", errno.ENOTDIR),
        ([], b"..", errno.EINVAL),
        ([], b"x" * 256, errno.ENAMETOOLONG),
    ]:
        with fails(code):
            session.walk_look(root, names, name)


def test_walk_list_with_contents(session: Session, root: int, tree: Path) -> None:
    """Small files' contents come along in the order of the entries, as far as they were asked for."""
    for number in range(50):
        (tree / "dir" / f"{number}").write_bytes(bytes(number))
    listed = session.walk_list(root, [b"dir"], 65536, 500)
    dents = listed.dents.entries
    assert 0 < len(listed.contents) < len(dents)
    for dent, data in zip(dents, listed.contents, strict=False):
        assert data is None or data == (tree / "dir" / os.fsdecode(dent.name)).read_bytes()
    had = [data for data in listed.contents if data is not None]
    assert had
    assert sum(map(len, had)) <= 500
    assert session.walk_list(root, [b"dir"], 65536, 0).contents == []


def test_walk_read(session: Session, root: int, tree: Path) -> None:
    """Small files of a directory, each with the stat that fits; None for what is no such file, wherever it is."""
    (tree / "larger").write_bytes(bytes(MAX_AHEAD + 1))
    names = [b"hello", b"nothing", b"empty", b"dir", b"link", b"out", b"absolute", b"fifo", b"larger", LATIN1]
    found = session.walk_read(root, [], names, 1 << 20)
    assert [content and content.data for content in found] == [
        b"hello, world\n", None, b"", None, None, None, None, None, None, b"latin",
    ]  # fmt: skip
    assert found[0] is not None
    assert found[0].stat.ino == (tree / "hello").stat().st_ino
    assert (
        session.walk_read(root, [b"dir", b"deep"], [b"file"], 4)[0]
        == session.walk_read(root, [b"dir", b"deep"], [b"file"], 100)[0]
    )
    assert session.walk_read(root, [b"dir", b"deep"], [b"file"], 3) == [None]
    assert [content and content.data for content in session.walk_read(root, [], [b"hello", LATIN1], 14)] == [
        b"hello, world\n", None,
    ]  # fmt: skip
    with fails(errno.EINVAL):
        session.walk_read(root, [], [b"../secret"], 100)
    with fails(errno.ELOOP):
        session.walk_read(root, [b"dirlink", b"deep"], [b"file"], 100)
    assert session.walk_read(root, [b"hello"], [b"x"], 100) == [None]
