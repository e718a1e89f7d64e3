"""Draw the live table of a finished search as the picture in the README.

pzc search --model pocket --windows 8 --fitness-windows 16 --length 64 --time 4m --seed-zoo --run runs/readme
python scripts/search_svg.py runs/readme docs/search.svg
"""

from __future__ import annotations

import io
from pathlib import Path

import click
from rich.console import Console

from pzc.cli.console import THEME
from pzc.cli.search.live import STOPS, View
from pzc.search.place import Place
from pzc.search.prepare import open_store
from pzc.search.replay import stored_state
from pzc.search.settings import plan_of


@click.command()
@click.argument("run", type=click.Path(exists=True, path_type=Path))
@click.argument("svg", type=click.Path(path_type=Path))
def main(run: Path, svg: Path) -> None:
    """Draw RUN's live table to SVG."""
    store, settings = open_store(Place(run), None)
    state = stored_state(store, plan_of(settings))
    console = Console(record=True, width=112, theme=THEME, highlight=False, emoji=False, file=io.StringIO())
    console.print(View(state.standing(), settings, str(run), store.workers.spent(), STOPS))
    console.save_svg(str(svg), title="pzc search")


if __name__ == "__main__":
    main()
