"""What `pzc check` says of the programs in tests/invalid, against the texts beside them.

python -m scripts.invalid_texts            shows what differs; exits with 1 when something does
python -m scripts.invalid_texts --write    the same, and writes it; read the difference before you commit it
python -m scripts.invalid_texts --write per_in two_axes
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

import click
import pytest

from tests.terminal import Terminal, terminal_of

FOLDER = Path(__file__).parent.parent / "tests" / "invalid"


def shown(terminal: Terminal, name: str) -> str:
    """The text of a program: the exit code, then stderr."""
    done = terminal("check", f"{name}.pzm")
    return f"### {done.code}\n{done.err}"


@click.command()
@click.argument("names", nargs=-1)
@click.option("--write", is_flag=True, help="Write the texts.")
def main(names: tuple[str, ...], write: bool) -> None:
    """Show how the texts of NAMES, or of all programs, differ from what is printed now."""
    os.chdir(FOLDER)
    differ = 0
    with pytest.MonkeyPatch.context() as m:
        terminal = terminal_of(m)
        for name in names or sorted(path.stem for path in Path().glob("*.pzm")):
            path = Path(f"{name}.txt")
            before = path.read_text(encoding="utf-8") if path.exists() else ""
            now = shown(terminal, name)
            lines = difflib.unified_diff(
                before.splitlines(), now.splitlines(), f"{path} before", str(path), lineterm=""
            )
            click.echo("".join(f"{line}\n" for line in lines), nl=False)
            differ += now != before
            if write:
                path.write_text(now, encoding="utf-8")
    click.echo(f"{differ} texts differ")
    raise SystemExit(1 if differ and not write else 0)


if __name__ == "__main__":
    main()
