"""The file `.env`: names and values as they are written, and what keeps it from being read, said instead of skipped."""

from __future__ import annotations

from pathlib import Path

from dotenv.parser import parse_stream


def read(path: Path, *, needed: bool = False) -> tuple[dict[str, str], str]:
    """Return the values of the file by their names, and what is wrong with it or nothing.

    No file is an empty one, unless it is `needed`. `${NAME}` is no reference: a value is the same in the file and in
    the environment. No sentence shows a line, for it may hold a secret.
    """
    if not path.exists():
        return {}, f"ENV_FILE={path} is not there" if needed else ""
    try:
        with path.open(encoding="utf-8-sig") as file:
            lines = [*parse_stream(file)]
    except OSError as failure:
        return {}, f"{path} cannot be read: {failure.strerror}"
    except UnicodeDecodeError:
        return {}, f"{path} is not a text in UTF-8"
    values = {line.key: line.value for line in lines if line.key is not None and line.value is not None}
    broken = [str(line.original.line + _leading(line.original.string)) for line in lines if line.error]
    if broken:
        return values, f"{path} has no NAME=value at line {', '.join(broken)}"
    return values, ""


def _leading(text: str) -> int:
    """Return how many lines of white space the text begins with."""
    return text[: len(text) - len(text.lstrip())].count("\n")
