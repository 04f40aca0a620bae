"""A real IMAP server for tests: Dovecot, with a configuration, users, ports and mails of its own in a temporary folder.

with imap_server(capability=WITHOUT_IDLE) as server:
    server.deliver(message)
    server.url("leave@weekly.example.org")
    server.restart()
"""

from __future__ import annotations

import base64
import contextlib
import grp
import imaplib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.servers import free_port, wait_for_port
from tests.smtp_sink import Certificates, make_certificates

USER, PASSWORD = "reader.of.leavings", "pa:ss/w@rd? кот"
EVERYTHING = "IMAP4rev1 SASL-IR LITERAL+ ENABLE IDLE UIDPLUS UNSELECT"
_numbers = itertools.count()


@dataclass(frozen=True)
class Filed:
    """A mail in the folder, as the server tells of it."""

    flags: frozenset[str]
    octets: bytes


class ImapServer:
    """See the module's text."""

    def __init__(self, folder: Path, certificates: Certificates, capability: str) -> None:
        self.folder, self.certificates = folder, certificates
        self.port, self.tls_port = free_port(), free_port()
        self.maildir = folder / "mail"
        self._log = folder / "dovecot.log"
        self._user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        (folder / "dovecot.conf").write_text(self._configuration(capability))
        self.set_password(PASSWORD)
        for part in ("new", "cur", "tmp"):
            (self.maildir / part).mkdir(parents=True)
        if os.geteuid() == 0:
            # Dovecot reads mails as this user; the folder above is root's.
            folder.chmod(0o755)
            for path in (self.maildir, *self.maildir.iterdir()):
                shutil.chown(path, self._user)
        self.process: subprocess.Popen | None = None
        self.start()

    def _configuration(self, capability: str) -> str:
        group = grp.getgrgid(pwd.getpwnam(self._user).pw_gid).gr_name
        # A user who was refused is made to wait by this one.
        penalty = "service anvil {\n  unix_listener anvil-auth-penalty {\n    mode = 0\n  }\n}"
        ours = "" if os.geteuid() == 0 else (
            f"default_internal_user = {self._user}\ndefault_internal_group = {group}\ndefault_login_user = {self._user}\n"
            "service anvil {\n  chroot =\n}\nservice imap-login {\n  chroot =\n}\nservice stats {\n  chroot =\n}\n"
        )  # fmt: skip
        return f"""
base_dir = {self.folder}/run
state_dir = {self.folder}/run
log_path = {self._log}
protocols = imap
listen = 127.0.0.1
{penalty}
{ours}
ssl = yes
ssl_cert = <{self.certificates.chain}
ssl_key = <{self.certificates.key}
disable_plaintext_auth = no
auth_mechanisms = plain
auth_failure_delay = 0
mail_location = maildir:{self.maildir}
mail_uid = {self._user}
mail_gid = {group}
first_valid_uid = 1
first_valid_gid = 1
imap_capability = {capability}
shutdown_clients = yes
passdb {{
  driver = passwd-file
  args = scheme=PLAIN {self.folder}/users
}}
userdb {{
  driver = static
  args = uid={self._user} gid={group} home={self.maildir}
}}
service imap-login {{
  inet_listener imap {{
    port = {self.port}
  }}
  inet_listener imaps {{
    port = {self.tls_port}
    ssl = yes
  }}
}}
"""

    # Its life

    def start(self) -> None:
        self.process = subprocess.Popen(
            [_program(), "-F", "-c", self.folder / "dovecot.conf"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            wait_for_port(self.port, self.process)
        except BaseException as error:
            error.add_note(self.log())
            raise

    def stop(self) -> None:
        """As a restart of the machine does it: it ends its sessions, too."""
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self, number: int = signal.SIGSTOP) -> None:
        """Have it fall silent, sessions and all; SIGCONT ends that."""
        os.killpg(self.process.pid, number)

    def set_password(self, password: str) -> None:
        self.password = password
        # A passwd file has a meaning for `:`.
        coded = base64.b64encode(password.encode()).decode()
        (self.folder / "users").write_text(f"{USER}:{{PLAIN.b64}}{coded}\n")

    # Its mails

    def url(
        self, address: str, *, scheme: str = "imaps", password: str = PASSWORD, folder: str = "INBOX", **options: str
    ) -> str:
        """As TYDZEN_INBOUND_URL takes it; over `imaps` with the authority that signed its certificate."""
        port = self.tls_port if scheme == "imaps" else self.port
        if scheme == "imaps":
            options.setdefault("ca", str(self.certificates.authority))
        query = "&".join(f"{name}={value}" for name, value in {"address": address, **options}.items() if value)
        return f"{scheme}://{USER}:{quote(password, safe='')}@127.0.0.1:{port}/{folder}?{query}"

    def deliver(self, message: bytes) -> None:
        """File a mail as a delivery agent does."""
        name = f"{time.time():.6f}.{os.getpid()}_{next(_numbers)}.test"
        path = self.maildir / "tmp" / name
        path.write_bytes(message)
        if os.geteuid() == 0:
            shutil.chown(path, self._user)
        path.rename(self.maildir / "new" / name)

    @contextlib.contextmanager
    def client(self) -> Iterator[imaplib.IMAP4]:
        """Somebody else who uses the mailbox."""
        with imaplib.IMAP4("127.0.0.1", self.port, timeout=30) as client:
            client.authenticate("PLAIN", lambda _: f"\0{USER}\0{PASSWORD}".encode())
            client.select("INBOX")
            yield client

    def mails(self) -> dict[int, Filed]:
        """What is in the folder, by UID, without changing it."""
        with self.client() as client:
            client.select("INBOX", readonly=True)
            kind, found = client.uid("FETCH", "1:*", "(FLAGS BODY.PEEK[])")
            assert kind == "OK", found
        mails = {}
        for item in found:
            if isinstance(item, tuple):
                head = item[0].decode()
                flags = head.partition("FLAGS (")[2].partition(")")[0].split()
                mails[int(head.partition("UID ")[2].split()[0])] = Filed(frozenset(flags) - {"\\Recent"}, item[1])
        return mails

    def clear(self) -> None:
        """Delete every mail."""
        with self.client() as client:
            if self.count():
                client.store("1:*", "+FLAGS", r"(\Deleted)")
                client.expunge()

    def count(self) -> int:
        """How many mails there are, as the files say."""
        return sum(len(list((self.maildir / part).iterdir())) for part in ("new", "cur"))

    def log(self) -> str:
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""


def _program() -> str | None:
    return shutil.which("dovecot", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def without(*names: str) -> str:
    """What a server offers that has none of those."""
    return " ".join(name for name in EVERYTHING.split() if name not in names)


@contextlib.contextmanager
def imap_server(*, capability: str = EVERYTHING) -> Iterator[ImapServer]:
    """A running ImapServer; where Dovecot is not installed, the test is skipped."""
    if _program() is None or not Path("/usr/lib/dovecot/imap").exists():
        pytest.skip("needs dovecot-imapd")
    # Outside pytest's own folder, which is closed to the user that it reads mails as; and its sockets need a short path.
    with tempfile.TemporaryDirectory(prefix="tydzen-imap-") as name:
        folder = Path(name)
        server = ImapServer(folder, make_certificates(folder), capability)
        try:
            yield server
        finally:
            with contextlib.suppress(ProcessLookupError):
                server.freeze(signal.SIGCONT)
            server.stop()
