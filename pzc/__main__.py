"""The command `pzc`, and `python -m pzc`: an interrupt finds it ready before the rest is imported."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line."""
    try:
        from pzc.cli.main import main as run
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
