"""A journal that fails while a reply is written down: every letter still has its outcome."""

import pytest

from service.domain.errors import UnavailableError
from service.mail.journal import Journal
from tests.smtp_sink import Rule
from tests.unit.mail.sending import letter, local, send

WAYS = [frozenset(), frozenset({"CHUNKING"}), frozenset({"CHUNKING", "PIPELINING"})]


@pytest.mark.parametrize("hide", WAYS)
@pytest.mark.parametrize("failure", [UnavailableError("the disk has no room"), MemoryError()], ids=["disk", "memory"])
def test_a_reply_that_nothing_could_be_written_of_is_told(loop, sink, tmp_path, monkeypatch, hide, failure):
    def fail(*_record):
        raise failure

    monkeypatch.setattr(Journal, "reply", fail)
    loop.set_exception_handler(lambda *_: None)
    server = sink(Rule("DOT", "451 4.3.0 later"), hide=hide)
    run = send(loop, local(server.port), [letter(n) for n in range(1, 6)], tmp_path)

    assert sorted(run.outcomes) == [1, 2, 3, 4, 5]
    assert run.outcomes[1].reply_class.value == "transient"
    # Its session ends with it: of what was behind it and past its dot nobody read a reply.
    assert set(run.classes()) <= {"transient", "uncertain"}
