"""The gRPC front: translate, delegate, configure, serve."""
