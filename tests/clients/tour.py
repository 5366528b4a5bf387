"""A tour of the service with unmodified clients: python-zaqarclient and openstacksdk.

    tour.py path/to/roundelay

Starts the service on a free port, once for anybody and once with a stand-in for Keystone.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openstack
from zaqarclient.queues import client


class Service:
    """A running service; ends with the block."""

    def __init__(self, program, config):
        self.file = tempfile.NamedTemporaryFile("w", suffix=".toml")
        self.file.write(config)
        self.file.flush()
        command = [program, "serve", "--listen", "127.0.0.1:0", "--config", self.file.name]
        clean = {k: v for k, v in os.environ.items() if not k.startswith("ROUNDELAY_")}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=clean)
        line = self.process.stderr.readline()
        found = re.search(r"listening on (http://[^ ,]+)", line)
        assert found, line
        self.url = found[1]

    def __enter__(self):
        return self.url

    def __exit__(self, *_):
        self.process.terminate()
        assert self.process.wait(20) == 0
        self.process.stderr.close()
        self.file.close()


class Keystone(BaseHTTPRequestHandler):
    """Hands out and validates tokens; its catalogue leads to the service."""

    protocol_version = "HTTP/1.1"
    service = None
    tokens = {}

    def log_message(self, *_):
        pass

    def answer(self, status, document, headers=()):
        body = json.dumps(document).encode()
        self.send_response(status)
        for name, value in (("Content-Length", str(len(body))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path.rstrip("/") == "/v3":
            address = "http://%s:%d/v3/" % self.server.server_address
            link = {"rel": "self", "href": address}
            version = {"id": "v3.14", "status": "stable", "links": [link]}
            return self.answer(200, {"version": version})
        if self.headers.get("X-Auth-Token") not in self.tokens:
            return self.answer(401, {})
        token = self.tokens.get(self.headers.get("X-Subject-Token"))
        return self.answer(200, {"token": token}) if token else self.answer(404, {})

    def do_POST(self):
        auth = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["auth"]
        user = auth["identity"]["password"]["user"]
        if user["password"] != "secret of " + user["name"]:
            return self.answer(401, {})
        domain = {"id": "default", "name": "Default"}
        project = auth["scope"]["project"]["name"]
        endpoints = [
            {"id": kind, "interface": kind, "region": "r", "region_id": "r", "url": self.service}
            for kind in ("public", "internal", "admin")
        ]
        name = "token-%d" % len(self.tokens)
        self.tokens[name] = {
            "methods": ["password"],
            "user": {"id": user["name"], "name": user["name"], "domain": domain},
            "project": {"id": "id of " + project, "name": project, "domain": domain},
            "roles": [{"id": "m", "name": "member"}],
            "issued_at": "2020-01-01T00:00:00.000000Z",
            "expires_at": "2099-01-01T00:00:00.000000Z",
            "catalog": [{"id": "z", "type": "messaging", "name": "zaqar", "endpoints": endpoints}],
        }
        return self.answer(201, {"token": self.tokens[name]}, [("X-Subject-Token", name)])


def bodies(messages):
    return [message.body for message in messages]


def with_zaqarclient(url):
    options = {"backend": "noauth", "options": {"os_project_id": "demo"}}
    zaqar = client.Client(url, version=2, conf={"auth_opts": options})
    queue = zaqar.queue("tour", force_create=True)
    queue.metadata(new_meta={"team": "a"})
    assert queue.metadata()["team"] == "a"
    posted = queue.post([{"body": {"n": n}, "ttl": 300} for n in range(5)])
    assert len(posted["resources"]) == 5
    numbers = [{"n": n} for n in range(5)]
    assert bodies(queue.messages(echo=True)) == numbers
    # Its own messages are not shown to a client that does not ask for them.
    assert bodies(queue.messages()) == []
    assert queue.stats["messages"]["total"] == 5

    claim = queue.claim(ttl=60, grace=60, limit=2)
    claimed = list(claim)
    assert bodies(claimed) == numbers[:2]
    claim.update(ttl=120, grace=60)
    claimed[0].delete()
    claim.delete()
    assert bodies(queue.pop(2)) == numbers[1:3]
    first = next(iter(queue.messages(echo=True)))
    assert queue.message(first.id).body == numbers[3]

    signed = queue.signed_url(paths=["messages"], methods=["GET"])
    options = {"backend": "signed-url", "options": {
        "signature": signed["signature"], "expires": signed["expires"],
        "methods": signed["methods"], "paths": signed["paths"],
        "os_project_id": signed["project"],
    }}
    holder = client.Client(url, version=2, conf={"auth_opts": options})
    shared = holder.queue("tour", auto_create=False)
    assert bodies(shared.messages(echo=True)) == numbers[3:]

    queue.delete_messages(first.id)
    queue.purge()
    assert queue.stats["messages"]["total"] == 0
    queues, _ = zaqar.queues()
    assert [found.name for found in queues] == ["tour"]
    queue.delete()


def with_openstacksdk(keystone, project):
    cloud = openstack.connect(
        auth={
            "auth_url": keystone, "username": "user", "password": "secret of user",
            "project_name": project, "user_domain_name": "Default",
            "project_domain_name": "Default",
        },
        region_name="r", identity_api_version="3",
    )
    messaging = cloud.message
    messaging.create_queue(name="sdk")
    assert [queue.name for queue in messaging.queues()] == ["sdk"]
    assert messaging.get_queue("sdk").name == "sdk"
    for start in (0, 10, 20):
        numbers = range(start, start + 10)
        messaging.post_message("sdk", [{"body": n, "ttl": 120} for n in numbers])
    # More than a page: it takes the last message's id for a marker.
    assert bodies(messaging.messages("sdk", echo=True)) == list(range(30))
    # Its create_claim puts the cloud's location in the place of the answer's, and fails on that.
    headers = {"Client-ID": "3381af92-2b9e-11e3-b191-71861300734c"}
    made = messaging.post("/queues/sdk/claims", json={"ttl": 60, "grace": 60}, headers=headers)
    claim = messaging.get_claim("sdk", made.headers["Location"].split("claims/")[1])
    assert [message["body"] for message in claim.messages] == list(range(10))
    messaging.update_claim("sdk", claim, ttl=120, grace=60)
    messaging.delete_claim("sdk", claim)
    first = next(iter(messaging.messages("sdk", echo=True)))
    assert messaging.get_message("sdk", first).body == 0
    messaging.delete_message("sdk", first)
    assert bodies(messaging.messages("sdk", echo=True)) == list(range(1, 30))
    return messaging


def main(program):
    with Service(program, "[auth]\nsigned_url_secret_key = 'a key of sixteen bytes'\n") as url:
        with_zaqarclient(url)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Keystone)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    keystone = "http://%s:%d/v3" % server.server_address
    user = "{username = 'zaqar', password = 'secret of zaqar', project_name = 'service'}"
    with Service(program, f"[auth.keystone]\nurl = '{keystone}'\nuser = {user}\n") as url:
        Keystone.service = url
        first = with_openstacksdk(keystone, "one")
        # The other project starts with nothing, and takes nothing from the first.
        with_openstacksdk(keystone, "two").delete_queue("sdk")
        assert len(list(first.messages("sdk", echo=True))) == 29
    print("clients: all well")


main(sys.argv[1])
