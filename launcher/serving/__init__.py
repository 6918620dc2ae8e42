"""A service that answers with what extractors find, on Ray Serve.

    client ──HTTP──▶ proxy of Ray Serve (one process)                  replicas of a model (processes)
                     guard.py   token, size, how many at once
                     app.py     JSON, limits, errors, OpenAPI   ──▶    replica.py   a batch ──▶ Extractor
                     proxy.py   batches, another try if a replica dies

service.py starts, updates and ends all of it. The application runs in Serve's proxy, by the callback that Serve has for
this: only there can it refuse a body before it is read, collect batches over all requests, and repeat a call to a
replica that was killed.
"""
