"""The two ways to make a call: awaited, and blocking. What decides is elsewhere."""
