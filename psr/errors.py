"""The two errors this project raises on purpose: one clear line each, never a bare traceback in a terminal."""

from typing import Any


class PsrError(Exception):
    """Something a user can mend: what happened, where, what was expected, what came, what to do.

    `str(error)` is one line. Commands print it and exit with status 2.
    """

    def __init__(self, what: str, *, where: object = "", expected: object = "", got: object = "", do: str = "") -> None:
        self.what, self.where, self.expected, self.got, self.do = what, str(where), str(expected), str(got), do
        super().__init__(self._line())

    def _line(self) -> str:
        parts = [f"{self.what} ({self.where})" if self.where else self.what]
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.got:
            parts.append(f"got {self.got}")
        line = ", ".join(parts)
        return " ".join(f"{line}. {self.do}".split()) if self.do else " ".join(line.split())

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the fields, so that the error survives a trip between processes."""
        return _rebuild, (type(self), dict(self.__dict__))


class JudgeError(PsrError):
    """A judge could not judge. `retryable` says whether asking again may help."""

    def __init__(self, what: str, *, retryable: bool, **context: object) -> None:
        self.retryable = retryable
        super().__init__(what, **context)  # type: ignore[arg-type]


def _rebuild(cls: type[PsrError], fields: dict[str, object]) -> PsrError:
    error = cls.__new__(cls)
    error.__dict__.update(fields)
    Exception.__init__(error, error._line())
    return error
