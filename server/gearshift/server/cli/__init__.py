"""The server half of the command line: serve, check, models, demo. Found through entry points `gearshift.commands`."""
