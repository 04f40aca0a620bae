import pytest

from service.pace.bucket import PaceAwayError, ValkeyPace
from tests.fakes import reserve
from tests.servers import valkey_server


@pytest.mark.parametrize("tcp", [False, True])
def test_tokens_are_given_over_a_socket_and_over_a_port(tmp_path, tcp):
    with valkey_server(tmp_path / "v", tcp=tcp) as server:
        pace = ValkeyPace(server.url)
        first = reserve(pace, "b", 10, 10)
        second = reserve(pace, "b", 10, 10)
        assert second - first == pytest.approx(1, abs=0.3)
        pace.close()


def test_a_valkey_that_is_away_is_said_and_waited_for(valkey):
    pace = ValkeyPace(valkey.url)
    valkey.kill()
    with pytest.raises(PaceAwayError):
        reserve(pace, "b", 10, 1)
    valkey.start()
    assert reserve(pace, "b", 10, 1) <= 0.2
    pace.close()
