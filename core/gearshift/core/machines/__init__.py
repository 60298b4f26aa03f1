"""Own machines: what they are busy with, what stands in their queues, and what their time costs (design 11)."""
