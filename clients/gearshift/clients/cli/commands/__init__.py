"""The commands that talk to a running server, one file each; imported when they are used."""
