"""`python -m pzc`."""

from pzc.cli.main import main

main()
