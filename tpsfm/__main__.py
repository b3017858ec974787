"""`python -m tpsfm`: the command line."""

from tpsfm.cli import main

main()
