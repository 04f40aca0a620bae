import os
import subprocess
import sys

import pytest

from service.embedded.programs import PROJECT


def demo(folder, *words: str, **environment: str) -> subprocess.CompletedProcess:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TYDZEN_")}
    return subprocess.run(
        [sys.executable, "-m", "service.cli", "demo", *words],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(PROJECT), "CI": "true", **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.slow
def test_the_demo_sends_to_all_sample_readers_and_shows_numbers_that_add_up(tmp_path):
    # Settings of a real installation beside: none of them may reach the demo.
    (tmp_path / ".env").write_text(
        "TYDZEN_SMTP_URL=smtp://relay.invalid\nTYDZEN_DATABASE_URL=postgresql://nowhere.invalid/x\n"
    )
    ended = demo(tmp_path, "--readers", "200", "--rate", "0", TYDZEN_REDIS_URL="redis://nowhere.invalid")
    assert ended.returncode == 0, ended.stderr
    total = next(line.split() for line in ended.stdout.splitlines() if line.startswith("all"))
    assert total == ["all", "200", "0", "0", "200", "0", "0", "0", "0", "0"]
    assert (
        sum(
            line.split()[0] in {"be", "be,ru", "ru", "ru,be", "en", "en,be", "be,en,ru"}
            for line in ended.stdout.splitlines()
        )
        == 7
    )
    assert "checked: 200 readers, 200 mails in the inbox" in ended.stderr
    assert "mailing ledger 1" in ended.stderr
    assert len(list((tmp_path / "var/demo/inbox/new").iterdir())) == 200


def test_the_services_of_another_demo_are_not_pulled_away(tmp_path):
    from service.embedded.programs import only_one

    with only_one(tmp_path / "var" / "demo"):
        (tmp_path / "var" / "demo" / "precious").touch()
        ended = demo(tmp_path)
    assert ended.returncode == 5
    assert (tmp_path / "var" / "demo" / "precious").exists()
