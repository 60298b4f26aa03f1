"""OpenAI's HTTP API: chat completions, embeddings, models, for clients that know only that.

Rules: one way for a request. `bodies.py` says what may come, `request.py` makes a core request of it, `answer.py` and
`chunks.py` make JSON of what the router gives, `errors.py` of its errors; all of these are pure. `routes.py` does the I/O.
docs/openai-http.md tells callers what is honoured, ignored and refused.
"""
