"""A server that speaks the JSON API of Google Cloud Storage as the unmodified google-cloud-storage client uses it.

For tests and benchmarks: with a round trip, a bandwidth and faults that can be set while it runs. It knows nothing of
fsd, and nothing in fsd knows it.

    http        requests and answers of HTTP/1.1 on a trio stream
    link        the network in between: round trips and bandwidth
    contents    where the bytes of objects are: memory, a folder, made up on demand
    objects     buckets, generations, preconditions, listings
    uploads     what arrives: multipart bodies, resumable sessions
    faults      what is to go wrong, and whether it did
    access      who may ask
    counters    what was asked and answered
    api         from a request to an answer
    server      the loop over connections, in a thread of its own
"""
