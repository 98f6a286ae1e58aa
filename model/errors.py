"""What can go wrong with a model, one class for each thing a caller can do something about."""

from __future__ import annotations

from dataclasses import dataclass


class ModelError(Exception):
    """The root of every error this package raises on purpose."""


@dataclass
class SpecError(ModelError):
    """A spec file cannot be used as written.

    Attributes:
        path: the spec file.
        line: 1-based line of the offending key or table, or None when the whole file is meant.
        reason: what is wrong and what to write instead, in one sentence.
    """

    path: str
    line: int | None
    reason: str

    def __str__(self) -> str:
        """Return `file:line: reason`, the form editors and terminals turn into a link."""
        place = self.path if self.line is None else f"{self.path}:{self.line}"
        return f"{place}: {self.reason}"


@dataclass
class DataError(ModelError):
    """A CSV file does not hold what the spec or the manifest asks for.

    Attributes:
        path: the CSV file.
        line: 1-based line in the file (the header is line 1), or None when the whole file is meant.
        column: name of the column, or None when the whole line is meant.
        reason: what is wrong, in one sentence.
    """

    path: str
    line: int | None
    column: str | None
    reason: str

    def __str__(self) -> str:
        """Return `file:line: column "name": reason` with the parts that are known."""
        place = self.path if self.line is None else f"{self.path}:{self.line}"
        column = "" if self.column is None else f'column "{self.column}": '
        return f"{place}: {column}{self.reason}"


@dataclass
class CompileError(ModelError):
    """A model cannot be converted, or its converted form cannot be proven equal.

    Attributes:
        reason: what is wrong and what to do, in one sentence, with the largest difference and its row if one was found.
    """

    reason: str

    def __str__(self) -> str:
        """Return the reason."""
        return self.reason


@dataclass
class QualityError(ModelError):
    """A model is worse than the bar in `slo.toml`; no bundle was written.

    Attributes:
        reason: which measure missed which bar, by how much.
    """

    reason: str

    def __str__(self) -> str:
        """Return the reason."""
        return self.reason


@dataclass
class BundleError(ModelError):
    """A bundle is not what it claims to be and must not be served.

    Attributes:
        code: stable reason code, `snake_case`, for machines (readiness, logs, runbooks).
        reason: the same for people, in one sentence.
    """

    code: str
    reason: str

    def __str__(self) -> str:
        """Return `code: reason`."""
        return f"{self.code}: {self.reason}"


@dataclass
class KeyFileError(ModelError):
    """A public key cannot be used.

    Attributes:
        reason: what is wrong and what to do, in one sentence.
    """

    reason: str

    def __str__(self) -> str:
        """Return the reason."""
        return self.reason


@dataclass
class EngineError(ModelError):
    """An engine is not there, or refuses the model or the matrix it was given.

    Attributes:
        reason: what is wrong and what to do, in one sentence.
    """

    reason: str

    def __str__(self) -> str:
        """Return the reason."""
        return self.reason
