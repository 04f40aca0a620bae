from concurrent.futures import ThreadPoolExecutor

import pytest

from service.domain.errors import ConfigurationError
from service.domain.keys import Keyring
from service.embedded.keyring_file import KeyringFile

ONE, TWO = Keyring({1: bytes(32)}), Keyring({1: bytes(32), 2: b"2" * 32})


class Seconds:
    """A clock that a test sets."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "secret.key"
    path.write_text(ONE.render())
    return path


def test_it_is_read_once_a_second_at_the_most(path):
    seconds = Seconds()
    file = KeyringFile(path, seconds)
    assert file() == ONE
    path.write_text(TWO.render())
    seconds.now = 0.9
    with ThreadPoolExecutor(8) as threads:
        assert all(found == ONE for found in threads.map(lambda _: file(), range(64)))
    seconds.now = 1.0
    assert file() == TWO


def test_what_is_wrong_with_it_is_said_each_time_and_looked_at_again_after_a_second(path):
    seconds = Seconds()
    path.write_text("half")
    file = KeyringFile(path, seconds)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="not a keyring"):
            file()
    path.write_text(TWO.render())
    with pytest.raises(ConfigurationError, match="not a keyring"):
        file()
    seconds.now = 1.0
    assert file() == TWO
