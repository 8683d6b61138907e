"""`python -m fnn`: the command `fnn`, where its script is not on the path."""

from fnn.run.cli import main

main()
