"""What schemathesis is told so that it reaches more of the service: two formats that it does not know,
and requests that meet each other, since a queue that nobody else knows has nothing in it.
"""

import json
import os
import random
import re
from collections import defaultdict, deque

import msgpack
import requests
import schemathesis
from schemathesis import DeserializationContext, SerializationContext

PATCH = "application/openstack-messaging-v2.0-json-patch"
PACKED = "application/msgpack"
URL = os.environ["FUZZ_URL"]
MINE = {
    "Client-ID": "3381af92-2b9e-11e3-b191-71861300734c", "X-Project-Id": "fuzz", "X-Roles": "admin",
}
QUEUES = ("one", "two", "three.x-y_z")
# The latest ids, by queue and kind.
seen = defaultdict(lambda: deque(maxlen=10))


@schemathesis.serializer(PATCH)
def as_patch(_: SerializationContext, value):
    return value if isinstance(value, bytes) else json.dumps(value).encode()


@schemathesis.serializer(PACKED)
def as_msgpack(_: SerializationContext, value):
    if isinstance(value, bytes):
        return value
    try:
        return msgpack.packb(value)
    except (OverflowError, ValueError):
        # It has no integers beyond 64 bits, and no more levels than there is stack.
        return b"\xc1"


@schemathesis.deserializer(PACKED)
def from_msgpack(_: DeserializationContext, response):
    return msgpack.unpackb(response.content)


@schemathesis.deserializer("application/json-home")
def from_json_home(_: DeserializationContext, response):
    return json.loads(response.content)


@schemathesis.hook
def before_call(_, case, kwargs):
    """Half of the requests come from one client of one project, which has three queues, and are about
    messages and claims that were seen there."""
    chance = random.Random(repr((case.path_parameters, case.query, dict(case.headers), case.body)))
    if chance.random() < 0.1:
        case.headers["Accept"] = PACKED
    if chance.random() < 0.5:
        return
    case.headers.pop("URL-Signature", None)
    case.headers.update(MINE)
    if "queue" not in case.path_parameters:
        return
    # Most of what empties a queue is about one of them, or there would never be anything in the others.
    empties = case.operation.definition.raw["operationId"] in ("deleteQueue", "purgeQueue")
    queue = QUEUES[0] if empties else chance.choice(QUEUES)
    case.path_parameters["queue"] = queue
    if chance.random() < 0.3:
        fill(queue)
    for kind in ("message", "claim"):
        if kind in case.path_parameters and seen[queue, kind]:
            case.path_parameters[kind] = chance.choice(seen[queue, kind])


def fill(queue):
    """Posts three messages and claims one."""
    path = f"{URL}/v2/queues/{queue}/"
    messages = {"messages": [{"body": n, "ttl": 300} for n in range(3)]}
    for resource, body in (("messages", messages), ("claims?limit=1", {})):
        answer = requests.post(path + resource, json=body, headers=MINE, timeout=10)
        remember(answer.headers.get("location", "") + answer.text)


@schemathesis.hook
def after_call(_, case, response):
    remember(response.headers.get("location", [""])[0] + response.content.decode(errors="replace"))


def remember(text):
    """Takes the messages and claims out of an answer."""
    for queue, kind, name in re.findall(r"/v2/queues/([\w.-]+)/(message|claim)s/([\w-]+)", text):
        seen[queue, kind].append(name)
