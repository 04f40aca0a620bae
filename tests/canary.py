"""The canary grep: unique addresses go through the whole life, and are then looked for wherever they must not be.

    reader = canary("import")          # an address nobody has ever had
    ...                                # import it, send to it, crash on it, erase it
    assert_no_trace([reader], paths=[data_dir, tmp], text=captured_output, valkey=server)

An address is looked for in every encoding in which programs write text down. Its local part alone counts, too.
"""

from __future__ import annotations

import base64
import gzip
import re
import secrets
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, quote_plus

_CHUNK = 4 * 1024 * 1024
_LONGEST_NEEDLE = 2048
# What a file begins with that is compressed.
_GZIP = b"\x1f\x8b"


class LeakError(AssertionError):
    """An address was found where none may be."""


# Every canary of this process holds it, before the @ and after it: one mark is looked for, however many there are.
RUN = secrets.token_hex(8)


def canary(part: str = "reader") -> str:
    """A new address that nobody has ever had; `part` says in a report what it was for. 64 random bits and the run's 64."""
    return f"{part}.{RUN}Z+q{secrets.token_hex(5)}@{RUN}{secrets.token_hex(3)}.reader.test"


def _spellings(address: str) -> Iterator[str]:
    local, _, domain = address.rpartition("@")
    # A domain of its own is a name, too: for pacing, only its keyed hash is kept.
    for part in (address, local, domain) if RUN in domain else (address, local):
        yield part
        yield part.lower()
        yield part.upper()


def _encodings(text: str) -> Iterator[tuple[str, bytes]]:
    raw = text.encode()
    yield "plain", raw
    for safe in ("", "@", "+", ".@+"):
        escaped = quote(text, safe=safe)
        yield "percent", escaped.encode()
        yield "percent", re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), escaped).encode()
        yield "double percent", quote(escaped, safe="").encode()
    yield "percent", quote_plus(text).encode()
    yield "percent of every octet", "".join(f"%{octet:02X}" for octet in raw).encode()
    yield "quoted-printable of every octet", "".join(f"={octet:02X}" for octet in raw).encode()
    yield "quoted-printable", text.replace("=", "=3D").replace("@", "=40").encode()
    yield "quoted-printable", text.replace("+", "=2B").replace("@", "=40").replace(".", "=2E").encode()
    yield "json escapes", "".join(f"\\u{ord(letter):04x}" for letter in text).encode()
    yield "json escapes", text.replace("@", "\\u0040").replace("+", "\\u002b").encode()
    yield "html entities", text.replace("@", "&#64;").replace("+", "&#43;").encode()
    yield "html entities", text.replace("@", "&#x40;").replace("+", "&#x2b;").encode()
    for codec in ("utf-16-le", "utf-16-be", "utf-32-le"):
        yield codec, text.encode(codec)
    yield "hex", raw.hex().encode()
    yield "hex", raw.hex().upper().encode()
    yield "hex with blanks", raw.hex(" ").encode()
    for written in (raw, text.encode("utf-16-le"), text.encode("utf-16-be")):
        for offset in range(3):
            # The letters at both ends depend on their neighbours; those between are always the same.
            first, last = (8 * offset + 5) // 6, (offset + len(written)) * 8 // 6
            yield f"base64 at offset {offset}", base64.b64encode(b"\0" * offset + written)[first:last]
            yield f"base64url at offset {offset}", base64.urlsafe_b64encode(b"\0" * offset + written)[first:last]
    for offset in range(5):
        encoded = base64.b32encode(b"\0" * offset + raw)
        first, last = (8 * offset + 4) // 5, (offset + len(raw)) * 8 // 5
        yield "base32", encoded[first:last]
        yield "base32", encoded[first:last].lower()


class Grep:
    """Finds addresses in octets, in any spelling and encoding, whole or only one side of the @."""

    def __init__(self, addresses: Iterable[str]) -> None:
        self._needles: dict[bytes, tuple[str, str]] = {}
        for address in addresses:
            for spelling in _spellings(address):
                for encoding, needle in _encodings(spelling):
                    self._needles.setdefault(needle, (address, encoding))
        assert self._needles, "nothing to look for"
        assert max(map(len, self._needles)) < _LONGEST_NEEDLE
        marked = all(RUN in address for address, _ in self._needles.values())
        marks = [needle for spelling in (RUN, RUN.upper()) for _, needle in _encodings(spelling)]
        self._marks = list(dict.fromkeys(marks)) if marked else list(self._needles)

    def leaks(self, octets: bytes, where: str) -> Iterator[str]:
        """What was found and where, in words; lines that were folded are looked at whole, too."""
        views = {"": octets}
        if b"\n" in octets:
            views[", folded"] = _unfolded(octets)
        for view, searched in views.items():
            said = set()
            for place in self._marked_places(searched):
                near = searched[max(0, place - _LONGEST_NEEDLE) : place + _LONGEST_NEEDLE]
                found = {self._needles[needle] for needle in self._needles if needle in near}
                for address, encoding in sorted(found - said):
                    yield f"{where}: {address} in {encoding}{view} near octet {place}"
                said |= found

    def _marked_places(self, octets: bytes) -> Iterator[int]:
        for mark in self._marks:
            place = octets.find(mark)
            while place >= 0:
                yield place
                place = octets.find(mark, place + _LONGEST_NEEDLE // 2)

    def file_leaks(self, path: Path) -> Iterator[str]:
        """The same for a file of any size, its name included, and for what is compressed in it with gzip."""
        # Opened once: a server that is still running renames and removes files of its log while they are read.
        with path.open("rb") as file:
            yield from self.leaks(str(path).encode(), f"the name of {path}")
            kept = b""
            while part := file.read(_CHUNK):
                yield from self.leaks(kept + part, str(path))
                kept = part[-_LONGEST_NEEDLE:]
            yield from self._compressed_leaks(file, path)

    def _compressed_leaks(self, file: BinaryIO, path: Path) -> Iterator[str]:
        file.seek(0)
        if file.read(len(_GZIP)) != _GZIP:
            return
        file.seek(0)
        try:
            yield from self.leaks(gzip.decompress(file.read()), f"{path}, unzipped")
        except (OSError, EOFError, zlib.error):
            return


def _unfolded(octets: bytes) -> bytes:
    """Without the line ends of base64 and the soft ones of quoted-printable."""
    return re.sub(rb"=?\r?\n[ \t]?", b"", octets)


def files_below(paths: Iterable[Path | str]) -> Iterator[Path]:
    """Every regular file there, hidden ones included; sockets and pipes are passed over."""
    for path in map(Path, paths):
        found = [path] if path.is_file() else path.rglob("*")
        yield from (one for one in found if one.is_file() and not one.is_symlink())


def valkey_octets(server) -> bytes:
    """Everything a Valkey holds in memory: each key with its value as DUMP writes it, and what clients and logs keep."""
    import redis

    client = redis.Redis.from_url(server if isinstance(server, str) else server.url)
    parts = []
    try:
        for number in range(16):
            client.execute_command("SELECT", number)
            for key in client.scan_iter(count=1000):
                parts += [key, client.dump(key) or b"", _value(client, key)]
        client.execute_command("SELECT", 0)
        for command in ("CLIENT LIST", "SLOWLOG GET 128", "INFO", "CONFIG GET *", "LATENCY LATEST", "MODULE LIST"):
            parts.append(repr(client.execute_command(*command.split())).encode())
    finally:
        client.close()
    return b"\n".join(parts)


def _value(client, key: bytes) -> bytes:
    """The value in plain: DUMP compresses long ones."""
    commands = {
        b"string": ("GET", key),
        b"list": ("LRANGE", key, 0, -1),
        b"set": ("SMEMBERS", key),
        b"zset": ("ZRANGE", key, 0, -1),
        b"hash": ("HGETALL", key),
        b"stream": ("XRANGE", key, "-", "+"),
    }
    found = client.execute_command(*commands[client.type(key)])
    return b"\n".join(_flat(found))


def _flat(value) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _flat(key)
            yield from _flat(one)
    elif isinstance(value, list | tuple | set):
        for one in value:
            yield from _flat(one)
    else:
        yield str(value).encode()


def database_octets(database) -> bytes:
    """Every row of every table, as text and as raw octets: what a dump would hold."""
    import sqlalchemy as sa

    from service.store.tables import metadata

    parts = []
    with database.read() as session:
        for table in metadata.sorted_tables:
            for row in session.execute(sa.select(table)):
                parts.append(repr(tuple(row)).encode())
                parts += [bytes(cell) for cell in row if isinstance(cell, bytes | memoryview)]
    assert parts, "an empty database proves nothing"
    return b"\n".join(parts)


def find_traces(addresses, *, paths=(), text="", octets=b"", valkey=None, database=None) -> list[str]:
    """Every place where one of the addresses stands, in words; empty where there is none."""
    grep = Grep(addresses)
    found = list(grep.leaks(text.encode("utf-8", "surrogateescape"), "text"))
    found += grep.leaks(octets, "octets")
    if valkey is not None:
        found += grep.leaks(valkey_octets(valkey), "valkey")
    if database is not None:
        found += grep.leaks(database_octets(database), "database")
    for path in files_below(paths):
        found += grep.file_leaks(path)
    return found


def assert_no_trace(addresses, *, paths=(), text="", octets=b"", valkey=None, database=None) -> None:
    """Fail, saying where, if one of the addresses stands in a file below `paths`, in `text`, in Valkey or the database."""
    found = find_traces(addresses, paths=paths, text=text, octets=octets, valkey=valkey, database=database)
    if found:
        more = f"\n… and {len(found) - 20} more" if len(found) > 20 else ""
        raise LeakError("an address leaked:\n" + "\n".join(found[:20]) + more)
