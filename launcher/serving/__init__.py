"""A service that answers with what extractors find, on Ray Serve.

    client ──HTTP──▶ proxy of Ray Serve (one process)                  replicas of a model (processes)
                     guard.py   token, size, how many at once
                     app.py     JSON, limits, errors, OpenAPI   ──▶    replica.py   batches of texts ──▶ Extractor
                     proxy.py   routes, tries again if a replica dies

service.py starts, updates and ends all of it. The application runs inside Serve's proxy, through the callback that Serve
has for this, because only there can it refuse a body before it is read, and repeat a request whose replica was killed.
"""
