"""The contract: generated stubs of gearshift.v1."""
