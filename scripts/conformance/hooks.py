"""What schemathesis does not know by itself: how to write newline-delimited JSON."""

import json

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(ctx, value):
    records = value if isinstance(value, list) else [value]
    return "\n".join(json.dumps(record) for record in records).encode()
