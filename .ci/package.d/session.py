"""The session of session.sql: `statements` prints what a shell runs, `check VERSION` compares what a host printed.

A host prints the columns of each row, joined by |, and for a statement that fails `error: ` and the message.
`--no-errors` leaves out what is to fail.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

SESSION = Path(__file__).with_name("session.sql")


def read(errors: bool = True) -> Iterator[tuple[str, list[str]]]:
    """Each statement, with the lines that are expected of it."""
    statements: list[tuple[list[str], list[str]]] = []
    complete = True
    for line in SESSION.read_text().splitlines():
        if line.startswith(("--> ", "--! ")):
            statements[-1][1].append(line)
        elif line and not line.startswith("--"):
            if complete:
                statements.append(([], []))
            statements[-1][0].append(line)
            complete = line.endswith(";")
    for lines, expected in statements:
        if errors or not any(each.startswith("--!") for each in expected):
            yield "\n".join(lines), expected


def check(version: str, lines: list[str], errors: bool) -> bool:
    """Whether a host printed what is expected; says where not."""
    wanted = [line.replace("VERSION", version) for _, expected in read(errors) for line in expected]
    for number in range(max(len(wanted), len(lines))):
        want = wanted[number] if number < len(wanted) else "nothing more"
        got = lines[number] if number < len(lines) else "nothing more"
        same = want[4:] == got if want.startswith("--> ") else got.startswith("error: ") and want[4:] in got
        if not same:
            print(f"line {number + 1} of the session: expected {want!r}, got {got!r}")
            return False
    return True


def main(arguments: list[str]) -> int:
    """Runs."""
    errors = "--no-errors" not in arguments
    arguments = [each for each in arguments if each != "--no-errors"]
    if arguments == ["statements"]:
        print("\n".join(statement for statement, _ in read(errors)))
        return 0
    if len(arguments) == 2 and arguments[0] == "check":
        return 0 if check(arguments[1], sys.stdin.read().splitlines(), errors) else 1
    print(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
