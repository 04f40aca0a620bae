"""The machine runs out of ports, or of memory for sockets, while an issue is sent."""

from __future__ import annotations

import contextlib
import shutil
import subprocess

import pytest

from tests.chaos.hosts import hindrance, hosts
from tests.chaos.proxy import Proxy
from tests.chaos.test_faults import is_sent, url_of
from tests.chaos.test_full_disk import stands_still
from tests.chaos.test_scarcity import everybody_has_one, sending

pytestmark = pytest.mark.long


def test_too_few_ports_cost_connections_and_no_letters(postgresql_database, tmp_path):
    why = hindrance()
    if why:
        pytest.skip(why)
    with (
        sending(tmp_path / "run", url_of(postgresql_database), 600) as made,
        hosts(1) as (host,),
        Proxy(("127.0.0.1", made.sink.port), host=host.gateway) as relay,
    ):
        # Four connections to any one place, of the eighteen that are wanted.
        few = ("sysctl", "-q", "-w", "net.ipv4.ip_local_port_range=40000 40003")
        subprocess.run([*host.within, *few], check=True)
        url = f"smtp://{host.gateway}:{relay.port}?tls=none&connections=6"
        worker = made.start_worker("-Q", "bulk", concurrency=3, within=host.within, smtp_url=url)
        mailing = made.send()
        # Who has sessions keeps them; who has none holds what it had claimed, until there are ports.
        made.wait_for(made.taken, 60)
        stands_still(made)
        assert 0 < relay.connections <= 4
        assert "Cannot assign requested address" in worker.log.read_text("utf-8", "replace")
        subprocess.run([*host.within, *(word.replace("40003", "49999") for word in few)], check=True)
        made.wait_for(lambda: is_sent(made, mailing), 150)
        everybody_has_one(made, mailing, 600)


@contextlib.contextmanager
def no_memory_for_sockets(pids, record):
    """Each of these, and whom they fork, is told so by the kernel's side of every call for a socket; each is recorded."""
    words = ["-f", "-qq", "-o", record, "-e", "trace=socket", "-e", "inject=socket:error=ENOBUFS"]
    for pid in pids:
        words += ["-p", str(pid)]
    with subprocess.Popen(["strace", *words]) as strace:
        try:
            yield
        finally:
            strace.terminate()


def test_where_there_is_no_memory_for_a_socket_nothing_is_sent_until_there_is(postgresql_database, tmp_path):
    if shutil.which("strace") is None:
        pytest.skip("there is no `strace` here")
    record = tmp_path / "refused"
    with sending(tmp_path / "run", url_of(postgresql_database), 600) as made:
        before = made.start_worker(concurrency=2)
        mailing = made.send()
        made.wait_for(made.taken, 60)
        made.control("pause", mailing)
        before.end()
        taken = made.taken()
        worker = made.start_worker("-Q", "bulk", concurrency=3)
        made.wait_for(lambda: len(worker.children()) == 3, 60)
        with no_memory_for_sockets(worker.children(), record):
            made.wait_for(record.exists, 60)
            made.control("resume", mailing)
            made.wait_for(lambda: record.read_text().count("ENOBUFS") >= 3, 90)
            assert stands_still(made) == taken < 600
        made.wait_for(lambda: is_sent(made, mailing), 150)
        everybody_has_one(made, mailing, 600)
