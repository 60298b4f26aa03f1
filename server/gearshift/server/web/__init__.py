"""The HTTP port: who may speak to it, and what it serves.

Rules: `port.py` listens, `guarding.py` says who may come in, and every other file is one thing that is served, which
gives its routes. Nothing here decides about models.
"""
