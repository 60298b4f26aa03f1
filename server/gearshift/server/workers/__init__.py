"""Several processes that serve one port, under one supervisor, and the bus that joins them.

    supervisor ── placeholders of the ports, the embedded model's process, the configuration in force
        │  a Unix socket pair for each worker: frames of MessagePack (messages.py, link.py)
        ├─ worker 0 ── Member ── App: gRPC and HTTP on the shared ports
        └─ worker 1 ── …

Rules: the supervisor loads no gRPC and answers no call. A worker is a fresh interpreter (nothing is forked once gRPC is
loaded) and ends when its supervisor does. Workers speak to each other through the supervisor only; who asks waits for a
second at most, and is told who did not answer.
"""
