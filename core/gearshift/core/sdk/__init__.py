"""The official SDKs, off the hot path: what commands ask a provider about its models.

Rules: each SDK is imported in one file here and nowhere else in the core; both load Rust, so only a command may import
these files, never the service. No file here is imported by another part of the core.
"""
