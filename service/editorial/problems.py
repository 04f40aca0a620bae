"""What is wrong in the files that people write: path, line and message, all of it reported at once."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.domain.errors import InvalidInputError


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing to mend. `line` counts from 1; 0 where the whole file is meant."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}" if self.line else f"{self.path}: {self.message}"


class BadFilesError(InvalidInputError):
    """Files that cannot be taken as they are; its message lists every problem, one a line."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(slots=True)
class Problems:
    """The problems met so far in a file or a folder."""

    found: list[Problem] = field(default_factory=list)

    def add(self, path: object, line: int, message: str) -> None:
        """Note one."""
        self.found.append(Problem(str(path), line, message))

    def stop_if_any(self) -> None:
        """Raise BadFilesError with all of them, if there are any."""
        if self.found:
            raise BadFilesError(self.found)
