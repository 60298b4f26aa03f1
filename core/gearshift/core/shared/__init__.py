"""Limits and breakers that several processes share, over Redis or Valkey.

    ChainRunner ─▶ SharedAdmission ─▶ SharedStore ─▶ RedisConnection ─▶ one script an operation
                                          └▶ StoreHealth: away? then every bucket keeps this process's share

Rules: nothing here is imported, and redis-py is not loaded, unless a configuration names a Redis (`shared.redis`).
"""
