"""A file as it lies on disk, made plain UTF-8 text: unpacked, decoded and known to be whole.

What is in the text is the domain's work. What cannot be made text is refused here.
"""

import gzip
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tidemill.errors import InputError, TidemillError, UnfinishedError

UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".filepart")
BLANKS = b"\xef\xbb\xbf \r\n\t"
GZIP, ZIPS = b"\x1f\x8b", (b"PK\x03\x04", b"PK\x05\x06")
OTHER_KINDS = (
    (b"PAR1", "a Parquet file"),
    (b"ORC", "an ORC file"),
    (b"ARROW1", "an Arrow file"),
    (b"%PDF", "a PDF"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"SQLite format", "an SQLite database"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook; save it as CSV"),
    (b"BZh", "a bzip2 file; unpack it first"),
    (b"\xfd7zXZ", "an xz file; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd file; unpack it first"),
    (b"7z\xbc\xaf", "a 7z file; unpack it first"),
    (b"Rar!", "a RAR file; unpack it first"),
    (b"version https://git-lfs", "a Git LFS pointer, not the data it points to; fetch that"),
)


Rewritten = tuple[Path, tuple[str, ...] | None, str | None, tuple[str, ...]]
"""A text made of a JSON document, its columns' names, what the document is of, and notes."""

AsCsv = Callable[[Path, Path, str], Rewritten]
"""Takes a JSON document, a path to write to, and what messages call the file."""


@dataclass(frozen=True)
class Text:
    """The plain text of a file.

    Attributes:
        path: UTF-8, a row a line.
        shown: What messages call the file.
        folder: For what has to be rewritten; gone when the file is done with.
        hints: Names that may tell what the file is of, the surest first.
        names: Column names that stand outside the text, as in JSON records.
        notes: What a reader of the report should know.
        stamp: Size (bytes), time of change (ns) and inode of the file before it was read.
    """

    path: Path
    shown: Path
    folder: Path
    hints: tuple[str, ...]
    names: tuple[str, ...] | None
    notes: tuple[str, ...]
    stamp: tuple[int, int, int]

    def keep_still(self) -> None:
        """Refuse the file if it has changed since it was opened, or if someone writes to it.

        Raises:
            UnfinishedError: It is still being written.
        """
        now = _stamp(self.shown)
        if now != self.stamp:
            raise UnfinishedError(
                f"{self.shown}: the file is still being written ({self.stamp[0]} bytes at the "
                f"start, {now[0]} now); nothing was taken, try again when it is complete"
            )
        process = writer(self.shown)
        if process is not None:
            raise UnfinishedError(
                f"{self.shown}: the file is still being written (process {process} has it open for "
                "writing); nothing was taken, try again when it is complete"
            )


@contextmanager
def plain(path: Path, taken: str, as_csv: AsCsv | None = None) -> Iterator[Text]:
    """The plain text of a file, unpacked and decoded where it must be.

    Args:
        path: A CSV or JSON file, or one of them in gzip or in a zip of one member.
        taken: What messages say is taken.
        as_csv: Rewrites a JSON document; None refuses it.

    Raises:
        InputError: It is missing, unreadable, empty, of another type, or cut short.
    """
    if re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", str(path)):
        raise InputError(f"{str(path)!r}: rename it; its path has characters that cannot be shown")
    stamp = _stamp(path)
    if stamp[0] == 0:
        raise InputError(f"{path}: the file is empty (0 bytes)")
    if path.suffix.lower() in UNFINISHED:
        raise InputError(
            f"{path}: {path.suffix} is the ending of a download under way; "
            "nothing was taken, try again when it is complete"
        )
    with TemporaryDirectory(prefix="tidemill-ingest-") as folder:
        work = Path(folder)
        found, members = _unpacked(path, work, taken)
        start = _start(found, path)
        hints, names = [*members, path.name], None
        notes: tuple[str, ...] = ()
        if start.startswith((b"\xff\xfe", b"\xfe\xff")):
            found = _recoded(found, work / "utf8")
            start = _start(found, path)
        _refuse_other_kinds(start, path, taken)
        if b"\r" in start and b"\n" not in start:
            found = _with_newlines(found, work / "newlines")
        if start.lstrip(BLANKS)[:1] in (b"{", b"["):
            if as_csv is None:
                raise InputError(f"{path}: this is JSON; {taken}")
            found, names, of, notes = as_csv(found, work / "rows.csv", str(path))
            hints = [of, *hints] if of else hints
        yield Text(found, path, work, tuple(hints), names, notes, stamp)


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if stat.S_ISDIR(found.st_mode):
        raise InputError(f"{path}: this is a folder; name the files in it")
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path}: expected a file, found a device or a pipe")
    return found.st_size, found.st_mtime_ns, found.st_ino


def writer(path: Path) -> int | None:
    """A process that has the file open for writing, where the system tells (Linux), or None."""
    try:
        wanted = path.stat()
        processes = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()]
    except OSError:
        return None
    for process in processes:
        with suppress(OSError):  # it ended, or it is another user's
            for opened in Path(f"/proc/{process}/fd").iterdir():
                with suppress(OSError):
                    if not os.path.samestat(opened.stat(), wanted):
                        continue
                    told = Path(f"/proc/{process}/fdinfo/{opened.name}").read_text()
                    flags = int(told.partition("flags:")[2].split()[0], 8)
                    if flags & os.O_ACCMODE != os.O_RDONLY:
                        return process
    return None


def _start(path: Path, shown: Path) -> bytes:
    try:
        with path.open("rb") as handle:
            return handle.read(1 << 16)
    except OSError as error:
        raise InputError(f"{shown}: cannot be read ({error.strerror})") from error


def _unpacked(path: Path, folder: Path, taken: str) -> tuple[Path, list[str]]:
    """The file with no gzip or zip around it, and the names of the zip members on the way."""
    found = path
    members: list[str] = []
    for depth in range(3):
        start = _start(found, path)
        target = folder / f"unpacked{depth}"
        if start.startswith(GZIP):
            _gunzip(found, target, path)
        elif start.startswith(ZIPS):
            members.insert(0, _unzip(found, target, path, taken))
        else:
            return found, members
        if target.stat().st_size == 0:
            raise InputError(f"{path}: the file is empty once unpacked")
        found = target
    raise InputError(f"{path}: expected text in it, found archives in archives; unpack it first")


def _gunzip(path: Path, target: Path, shown: Path) -> None:
    try:
        with gzip.open(path) as packed:
            _copy(packed, target)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"{shown}: the gzip file is damaged or cut short after {target.stat().st_size} "
            f"unpacked bytes ({error}); fetch it again"
        ) from error


def _unzip(path: Path, target: Path, shown: Path, taken: str) -> str:
    """Unpack the only member, and tell its name."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [
                m
                for m in archive.infolist()
                if not m.is_dir() and not m.filename.startswith("__MACOSX/")
            ]
            names = [m.filename for m in members]
            if "[Content_Types].xml" in names:
                raise InputError(f"{shown}: this is an Excel workbook; save it as CSV ({taken})")
            if len(members) != 1:
                listed = f" ({', '.join(names[:5])}{', ...' * (len(names) > 5)})" * bool(names)
                raise InputError(
                    f"{shown}: expected a zip with one file, found {len(members)}{listed}; "
                    "unpack it and use each file"
                )
            name = names[0]
            if "/" in name or "\\" in name or ":" in name or name.startswith("."):
                raise InputError(
                    f"{shown}: expected a plain file name in the zip, found {name!r}; "
                    "unpack it and use the file itself"
                )
            with archive.open(members[0]) as packed:
                _copy(packed, target)
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise InputError(f"{shown}: the zip file is damaged ({error}); fetch it again") from error
    except RuntimeError as error:  # a password, or a way of packing that Python does not know
        raise InputError(f"{shown}: the zip file cannot be unpacked here ({error})") from error
    return name


def _copy(source: Any, target: Path) -> None:
    with target.open("wb") as out:
        while block := source.read1(1 << 20):  # read() keeps back what a cut file still gives
            try:
                out.write(block)
            except OSError as error:
                raise TidemillError(
                    f"{target.parent}: cannot unpack into it ({error.strerror}); TMPDIR may name a "
                    "folder with more room"
                ) from error


def _recoded(path: Path, target: Path) -> Path:
    with (
        path.open(encoding="utf-16", errors="replace", newline="") as text,
        target.open("w", encoding="utf-8", newline="") as out,
    ):
        while block := text.read(1 << 20):
            out.write(block)
    return target


def _with_newlines(path: Path, target: Path) -> Path:
    """A text whose lines end in CR alone, as old Mac programs write it, with LF."""
    with path.open("rb") as text, target.open("wb") as out:
        while block := text.read(1 << 20):
            out.write(block.replace(b"\r", b"\n"))
    return target


def _refuse_other_kinds(start: bytes, shown: Path, taken: str) -> None:
    for magic, kind in OTHER_KINDS:
        if start.startswith(magic):
            raise InputError(f"{shown}: this is {kind}; {taken}")
    if start.lstrip(BLANKS).lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise InputError(f"{shown}: this is a web page or XML; {taken}")
    nul = start.find(b"\x00")
    if nul >= 0 and start.count(b"\x00") * 8 > len(start):
        raise InputError(f"{shown}: byte {nul} and many more are NUL, so this is no text; {taken}")
    if not start.strip(BLANKS):
        raise InputError(f"{shown}: the file is empty: nothing but blanks and line ends")
