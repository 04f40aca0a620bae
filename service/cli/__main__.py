"""`python -m service.cli`: the same as `tydzen`, where no script is installed."""

from service.cli.app import main

main()
