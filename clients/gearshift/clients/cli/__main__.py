"""Runs the command line as `python -m gearshift.clients.cli`."""

import sys

from gearshift.clients.cli.program import main

sys.exit(main())
