"""Files as streams of plain bytes: names and globs, standard input, compression, content hash. All of it blocks."""

from __future__ import annotations

import glob
import gzip
import hashlib
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, Protocol

import msgspec

from promptmill.errors import InputError

STDIN: Final = "-"
COMPRESSED: Final = (".gz", ".zst")
CHUNK_BYTES: Final = 256 * 1024

_ZSTD_READ_BYTES: Final = 4096
"""Compressed bytes taken at once. A block of 4 bytes may stand for 128 KB, so this bounds the memory to 128 MB."""


_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
"""Sources: RFC 1952, 2.3.1; RFC 8878, 3.1.1."""


class ByteStream(Protocol):
    """What is read: a file, or a decompressor that looks like one."""

    def read(self, size: int, /) -> bytes: ...

    def close(self) -> object: ...


class InputFile(msgspec.Struct, frozen=True):
    """One file of input. ``name`` is what messages call it, as the user wrote it."""

    name: str
    path: Path


def suffix_of(path: str) -> str:
    """The ending that tells the format, in lower case: ``.jsonl`` for ``a.jsonl`` and for ``a.JSONL.gz``."""
    plain = Path(path.lower())
    return plain.with_suffix("").suffix if plain.suffix in COMPRESSED else plain.suffix


def find_files(patterns: Sequence[str], base_dir: Path, spool: Path | None = None) -> list[InputFile]:
    """The files the patterns name, in the order given, each pattern's matches sorted; ``spool`` is standard input.

    Raises:
        InputError: a pattern names no file (E0301).
    """
    found: list[InputFile] = []
    for pattern in patterns:
        if pattern == STDIN and spool is not None:
            found.append(InputFile("<stdin>", spool))
            continue
        path = base_dir / Path(pattern).expanduser()
        # Path.glob takes no absolute pattern. A name that exists is taken literally, brackets and all.
        names = [pattern] if path.exists() else sorted(glob.glob(pattern, root_dir=base_dir, recursive=True))  # noqa: PTH207
        files = [InputFile(name, base_dir / Path(name).expanduser()) for name in names]
        files = [file for file in files if not file.path.is_dir()]
        if not files:
            raise _not_found(pattern, path)
        found += files
    return found


def _not_found(pattern: str, path: Path) -> InputError:
    if path.is_dir():
        return InputError(
            f"the input {pattern!r} is a directory", code="E0301", hint=f"name the files in it: {pattern}/*.jsonl"
        )
    what = "matches no file" if glob.has_magic(pattern) else "does not exist"
    return InputError(
        f"the input {pattern!r} {what} (looked for {str(path)!r})",
        code="E0301",
        hint="paths are relative to the job file",
    )


@contextmanager
def open_bytes(file: InputFile) -> Iterator[ByteStream]:
    """Open a file for reading, decompressed by its first bytes (gzip, zstd), else by its ending (``.gz``, ``.zst``).

    Raises:
        InputError: it cannot be read (E0302), the compressed data is damaged (E0303), or the zstd package is missing
            (E0311). Errors while reading are turned into these too.
    """
    try:
        with closing(_opener(file)) as stream:
            yield stream
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile):
            raise _damaged(file, error) from error
        reason = error.strerror or type(error).__name__
        raise InputError(f"the input {file.name!r} cannot be read: {reason}", code="E0302") from error
    except (EOFError, zlib.error) as error:
        raise _damaged(file, error) from error
    except _zstd_errors() as error:
        raise _damaged(file, error) from error


def _damaged(file: InputFile, error: Exception) -> InputError:
    return InputError(
        f"the compressed input {file.name!r} is damaged or cut short: {error}",
        code="E0303",
        hint="compress or download it again",
    )


def content_hash(files: Sequence[InputFile]) -> str:
    """BLAKE2b over the decompressed bytes of all files and the borders between them, in hexadecimal."""
    whole = hashlib.blake2b(digest_size=16)
    for file in files:
        one = hashlib.blake2b(digest_size=32)
        with open_bytes(file) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                one.update(chunk)
        whole.update(one.digest())
    return whole.hexdigest()


def _opener(file: InputFile) -> ByteStream:
    with file.path.open("rb") as plain:
        magic = plain.read(len(_ZSTD_MAGIC))
    suffix = file.path.suffix.lower()
    if magic.startswith(_GZIP_MAGIC) or suffix == ".gz":
        return gzip.open(file.path, "rb")
    if magic == _ZSTD_MAGIC or suffix == ".zst":
        return _open_zstd(file)
    return file.path.open("rb")


if sys.version_info >= (3, 14):
    from compression import zstd

    def _open_zstd(file: InputFile) -> ByteStream:
        return zstd.open(file.path, "rb")

    def _zstd_errors() -> tuple[type[Exception], ...]:
        return (zstd.ZstdError,)

else:

    class _ZstdStream:
        """Decompresses frame after frame. The package's own stream takes a file that is cut short for a whole one."""

        def __init__(self, file: InputFile) -> None:
            try:
                import zstandard
            except ImportError as error:
                raise InputError(
                    f"the input {file.name!r} is compressed with zstd, and the package for it is not installed",
                    code="E0311",
                    hint="pip install 'promptmill[zstd]'",
                ) from error
            self._decompressor = zstandard.ZstdDecompressor()
            self._frame = self._decompressor.decompressobj()
            self._between_frames = True
            self._file = file.path.open("rb")
            self._left = b""

        def read(self, _size: int, /) -> bytes:
            """Any number of bytes: what the next few bytes of the file give."""
            while compressed := self._left or self._file.read(_ZSTD_READ_BYTES):
                plain = self._frame.decompress(compressed)
                self._left = self._frame.unused_data
                self._between_frames = self._frame.eof
                if self._frame.eof:
                    self._frame = self._decompressor.decompressobj()
                if plain:
                    return plain
            if not self._between_frames:
                raise EOFError("the last frame has no end")
            return b""

        def close(self) -> None:
            self._file.close()

    def _open_zstd(file: InputFile) -> ByteStream:
        return _ZstdStream(file)

    def _zstd_errors() -> tuple[type[Exception], ...]:
        loaded = sys.modules.get("zstandard")
        return () if loaded is None else (loaded.ZstdError,)
