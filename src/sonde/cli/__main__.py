"""python -m sonde.cli is sonde."""

from sonde.cli import main

main()
