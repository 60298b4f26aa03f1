"""Traces and metrics for OpenTelemetry.

Rules: `names.py` has every name, `spans.py` (pure) says what a call comes to, `otlp.py` alone knows the SDK
and sends it, from threads of its own. Nothing of this is loaded unless a configuration names a collector.
"""
