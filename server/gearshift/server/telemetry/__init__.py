"""Traces and metrics for OpenTelemetry.

Rules: `names.py` has every name, `upstreams.py` says who was called and `spans.py` what a call comes to (both pure), `otlp.py`
alone knows the SDK and sends it, from threads of its own. Nothing of this is loaded unless a configuration names a collector.
"""
