"""`pzc lsp`."""

from __future__ import annotations

import os
import sys

import click

from pzc.cli.console import fail


@click.command("lsp")
@click.pass_context
def command(ctx: click.Context) -> None:
    """Start the language server: for editors, over standard input and output.

    Errors as you type, hover, completion, definitions, references, rename, formatting. docs/editors.md says how to
    set up an editor.
    """
    try:
        from pzc.lsp.server import server
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("pygls", "lsprotocol"):
            raise
        fail("the language server needs the package `pygls`", "pip install 'pzc[lsp]'")
        ctx.exit(1)
    server.start_io(stdout=os.fdopen(os.dup(sys.stdout.fileno()), "wb"))  # pygls closes what it writes to
