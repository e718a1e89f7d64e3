"""The command `pzc`: finds the subcommand, and turns whatever goes wrong into one message and an exit code."""

from __future__ import annotations

import importlib
import io
import os
import re
import sys
from pathlib import Path
from typing import NoReturn

import click

from pzc.cli.console import errors, fail
from pzc.compiler.load import MetricNotFound
from pzc.grammar.diagnostics import SourceError, did_you_mean

COMMANDS: dict[str, tuple[str, str]] = {
    "check": ("pzc.cli.metrics.check", "Check metrics and report every error."),
    "explain": ("pzc.cli.metrics.explain", "Explain a metric, or a code of `pzc check`."),
    "equiv": ("pzc.cli.metrics.equiv", "Say whether two metrics prune alike, with a proof or a counterexample."),
    "simplify": ("pzc.cli.metrics.simplify", "Print the shortest metric that prunes alike."),
    "fmt": ("pzc.cli.metrics.fmt", "Print metrics in the canonical layout."),
    "compile": ("pzc.cli.metrics.compile", "Compile a metric to JSON, Python, a program, a formula or a drawing."),
    "import": ("pzc.cli.metrics.import_tree", "Turn a tree of Pruner-Zero's release into a metric."),
    "conformance": ("pzc.cli.metrics.conformance", "Run the conformance suite against every target."),
    "zoo": ("pzc.cli.metrics.zoo", "List and show the published metrics."),
    "plan": ("pzc.cli.models.plan", "Say what pruning would do and take: passes, memory, time."),
    "prune": ("pzc.cli.models.prune", "Prune a model with a metric and save it."),
    "apply": ("pzc.cli.models.apply", "Put a file of masks on a model and save it."),
    "eval": ("pzc.cli.models.evaluate", "Measure a model's perplexity, or its distance to another."),
    "inspect": ("pzc.cli.models.inspect", "Say what is zero in a saved model, and verify N:M patterns."),
    "diff": ("pzc.cli.models.diff", "Say how much two metrics' masks differ on a model."),
    "compare": ("pzc.cli.models.compare", "Prune one model with several metrics and compare."),
    "search": ("pzc.cli.search.search", "Search for a better metric."),
    "report": ("pzc.cli.search.report", "Write what a search found as one page with figures."),
    "lsp": ("pzc.cli.metrics.lsp", "Start the language server, for editors."),
}
"""The commands in the order in which help lists them: name, module, summary. A module is imported when it is used."""

EPILOG = """\b
Exit codes: 0 fine; 1 the input has errors (a metric, a model, data), or `equiv` found a
difference; 2 wrong usage; 4 `equiv` does not know; 130 interrupted, what is settled is kept."""


class Commands(click.Group):
    """A group that imports a command's module only when the command runs, so that `pzc check` starts at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            hint = did_you_mean(args[0], COMMANDS)
            raise click.UsageError(f"there is no command `{args[0]}`" + (f"; {hint}" if hint else ""), ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pzc", prog_name="pzc")
def pzc() -> None:
    """The language, compiler, runtime and search engine for pruning metrics.

    \b
    pzc zoo                                              published metrics
    pzc check my.pzm                                     find every error
    pzc prune --metric wanda --model pocket --output out/wanda50
    pzc search --model pocket --time 5m --seed-zoo
    """


def main() -> NoReturn:
    """Run the command line; never returns, never shows a traceback for a user's mistake."""
    prepare_streams()
    try:
        code = pzc.main(standalone_mode=False, prog_name="pzc")
        sys.stdout.flush()  # a reader that has gone away shows here, not when Python ends
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "", err=True)
        code = 2
    except click.ClickException as error:
        fail(error.format_message(), _see(error))
        code = 2
    except (click.Abort, KeyboardInterrupt):
        errors.print("interrupted")
        code = 130
    except SourceError as error:
        from pzc.cli.diagnostics import show

        show(error.diagnostics, error.source, error.filename)
        code = 1
    except MetricNotFound as error:
        fail(str(error))
        code = 1
    except (BrokenPipeError, SystemExit):  # click ends with the latter when the reader of a pipe has gone away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        code = _known(error)
    sys.exit(code if isinstance(code, int) else 0)


def prepare_streams() -> None:
    """Let output that a shell has closed lead nowhere, and write what its encoding lacks as an escape."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - for good
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _see(error: click.ClickException) -> str | None:
    if isinstance(error, click.NoSuchOption) and any(re.match(r"-\w[^=]*[ (*/^]", word) for word in sys.argv[1:]):
        return "a metric that begins with a minus stands in parentheses, or behind `--`"
    ctx = getattr(error, "ctx", None)
    return f"see {ctx.command_path} --help" if ctx is not None else None


def _known(error: Exception) -> int:
    """The exit code of an error that a user can cause; any other is a defect and keeps its traceback."""
    from pzc.cli.errors import described

    found = described(error)
    if found is None:
        raise error
    fail(*found)
    return 1
