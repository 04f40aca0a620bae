"""Stand-ins that keep the contracts of the real parts; tests/contract/ runs both through the same tests."""

from __future__ import annotations


class FakeBell:
    """Writes down what was rung; with `away`, it loses every hint, as a bell does whose broker is gone."""

    def __init__(self):
        self.rung: list[tuple] = []
        self.away = False

    def ring(self, job: str, *ids: int | str) -> bool:
        if self.away:
            return False
        self.rung.append((job, *ids))
        return True

    def heard(self, job: str) -> list:
        """The first id of every ring of that job, in order."""
        return [ids[0] for name, *ids in self.rung if name == job]
