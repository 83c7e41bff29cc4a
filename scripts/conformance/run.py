"""Sends what the OpenAPI document allows, and what it does not, to a real server, and compares the answers with the document.

A fresh server gets one of everything, so that generated requests reach more than "not found". It fails on any status of 5xx, on
a status, type or body that the document does not know, and on requests the document allows that cannot be made.

    WEFT_BIN              the program to test
    CONFORMANCE_SECONDS   how long, 300 when absent
    SEED                  where chance begins, 1 when absent
"""

import http.server
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

import requests

HERE = pathlib.Path(__file__).parent
CREDENTIALS = {"email": "administrator@example.com", "password": "Correct-horse-9-battery"}
MANIFEST = {
    "appId": "crm",
    "name": "CRM",
    "version": "1.0.0",
    "actions": [{"id": "greet", "name": "Greet"}],
    "webhooks": ["changed"],
    "crons": [{"name": "nightly", "schedule": "0 3 * * *", "payload": {"kind": "report"}}],
    "dataContract": [
        {
            "entityName": "contacts",
            "fields": [
                {"name": "email", "type": "text", "required": True, "unique": True},
                {"name": "name", "type": "text"},
                {"name": "age", "type": "number"},
                {"name": "born", "type": "date"},
                {"name": "seen", "type": "timestamp"},
                {"name": "extra", "type": "json"},
                {"name": "tags", "type": "[text]"},
                {"name": "vip", "type": "boolean"},
                {"name": "stage", "type": "text", "enumValues": ["new", "won"]},
            ],
        }
    ],
}
ACTION = {
    "id": "list_things",
    "name": "List things",
    "inputSchema": {"type": "object", "properties": {"page": {"type": "integer"}}, "additionalProperties": False},
    "recipe": {"method": "GET", "path": "/things", "query": {"page": "{{ input.page }}"}},
}
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
# They end the session, or never end.
LEFT_OUT = ["POST /api/v1/auth/logout", "GET /api/v1/apps/{app_id}/logs"]
# What part of the time is for requests that delete, which come last: they remove what the other requests are about.
DELETING = 0.15


class Vendor(http.server.BaseHTTPRequestHandler):
    """Whom the integration calls: agrees to everything."""

    def answer(self):
        self.rfile.read(int(self.headers.get("content-length") or 0))
        body = b'{"things": [{"id": 1}]}'
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def log_message(self, *_):
        pass


def vendor():
    """Starts one and says where it is."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Vendor)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def integration(address):
    key = {"type": "object", "properties": {"key": {"type": "string", "secret": True}}, "required": ["key"]}
    auth = {"type": "bearer", "token": "{{ credentials.key }}"}
    return {
        "appId": "vendor",
        "name": "Vendor",
        "version": "1.0.0",
        "type": "integration",
        "configSchema": {"type": "object", "properties": {"region": {"type": "string"}}},
        "userAuth": {"type": "credentials", "schema": key, "required": False},
        "http": {"baseUrl": address, "auth": auth},
        "actions": [ACTION],
    }


class Server:
    def __init__(self, folder):
        self.log = folder / "server.log"
        data = folder / "data"
        command = [os.environ["WEFT_BIN"], "serve", "--listen", "127.0.0.1:0", "--data-dir", str(data)]
        command += ["--egress-allow", "127.0.0.1"]
        self.process = subprocess.Popen(command, stdout=self.log.open("w"), stderr=subprocess.STDOUT)
        self.url = self.address()
        self.session = requests.Session()

    def address(self):
        for _ in range(600):
            found = re.search(r"ready at (http://\S+?)/?\s", self.log.read_text())
            if found:
                return found.group(1)
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        sys.exit("the server did not start:\n" + self.log.read_text())

    def post(self, path, body=None, **more):
        answer = self.session.post(self.url + path, json=body, timeout=30, **more)
        if answer.status_code >= 300:
            sys.exit(f"POST {path} was answered with {answer.status_code}: {answer.text}")
        return answer.json()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def one_of_everything(server):
    """Makes what the paths speak of, and says what it is called."""
    server.post("/api/v1/auth/register", CREDENTIALS)
    token = server.post("/api/v1/auth/login", CREDENTIALS)["accessToken"]
    server.session.headers["authorization"] = f"Bearer {token}"
    server.post("/api/v1/apps", MANIFEST)
    contact = server.post("/api/v1/apps/crm/collections/contacts", {"email": "ada@example.com"})
    job = server.post("/api/v1/apps/crm/jobs", {"payload": {}, "delaySeconds": 86_400})
    crons = server.session.get(server.url + "/api/v1/apps/crm/crons", timeout=30).json()
    namespace = server.post("/api/v1/namespaces", {"id": "sales", "name": "Sales"})
    department = server.post(f"/api/v1/namespaces/{namespace['id']}/departments", {"name": "North"})
    user = server.post("/api/v1/users", {"email": "member@example.com", "password": CREDENTIALS["password"]})
    account = server.post("/api/v1/service-accounts", {"slug": "robot"})
    key = server.post(f"/api/v1/service-accounts/{account['id']}/credentials", {"name": "first"})
    on_new = {"entity": "contacts", "operation": "INSERT", "action_type": "job"}
    hook = server.post("/api/v1/apps/crm/hooks", on_new)
    file = server.post("/api/v1/apps/crm/storage/upload", files={"file": ("a.txt", b"some text", "text/plain")})
    server.post("/api/v1/apps", integration(vendor()))
    entered = {"credentials": {"key": "a key for the vendor"}}
    connection = server.post("/api/v1/integrations/vendor/auth/credentials", entered)
    named = server.post("/api/v1/integrations/vendor/configs", {"label": "eu", "credentials": {"region": "eu"}})
    call = server.url + "/api/v1/integrations/vendor/actions/list_things"
    run = server.session.post(call, json={}, timeout=30).headers["x-weft-run-id"]
    names = {
        "app_id": "crm",
        "entity": "contacts",
        "msg_id": str(job["msg_id"]),
        "cron_id": crons[0]["id"],
        "namespace_id": namespace["id"],
        "department_id": department["id"],
        "user_id": user["user"]["id"],
        "hook_id": hook["id"],
        "file_id": file["file_id"],
        "integration_id": "vendor",
        "action_id": "list_things",
        "connection_id": connection["connectionId"],
        "configuration_id": named["id"],
        "credential_id": key["id"],
        "run_id": run,
        "role_name": "editor",
        "path": "things",
    }
    ids = {
        "/api/v1/apps/{app_id}/collections/{entity}/{id}": contact["id"],
        "/api/v1/users/{id}": user["user"]["id"],
        "/api/v1/integrations/catalog/{id}/deploy": "github",
        "/api/v1/service-accounts/{id}": account["id"],
    }
    server.post("/api/v1/roles", {"name": "editor", "permissions": ["app:crm:contacts.read"]})
    return names, ids


def configuration(names, ids, document):
    lines = [f'"path.{name}" = "{value}"' for name, value in names.items()]
    operations = []
    for path in document["paths"]:
        if found := [value for start, value in ids.items() if path == start or path.startswith(start + "/")]:
            operations.append(f'[[operations]]\ninclude-path = "{path}"\nparameters = {{ "path.id" = "{found[0]}" }}\n')
    known = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    if unknown := set(LEFT_OUT) - known:
        sys.exit(f"the document has no {', '.join(unknown)} to leave out")
    if unknown := set(names) - set(re.findall(r"{\*?(\w+)}", " ".join(document["paths"]))):
        sys.exit(f"no path of the document has a parameter {', '.join(unknown)}")
    operations += [f'[[operations]]\ninclude-name = "{name}"\nenabled = false\n' for name in LEFT_OUT]
    return "[parameters]\n" + "\n".join(lines) + "\n\n" + "\n".join(operations)


def send(server, folder, seconds, *selection):
    """Sends generated requests to the operations that are selected; true when every answer was as the document says."""
    command = [
        str(pathlib.Path(sys.executable).with_name("schemathesis")),
        *("--config-file", str(folder / "schemathesis.toml")),
        *("run", server.url + "/api/openapi.json", "--checks", CHECKS, "--continue-on-failure"),
        *("--phases", "examples,coverage,fuzzing", "--max-time", str(seconds), *selection),
        *("--request-timeout", "20", "--seed", os.environ.get("SEED", "1"), "--warnings", "off"),
        *("--header", f"Authorization: {server.session.headers['authorization']}"),
    ]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE)}
    return subprocess.run(command, env=environment, cwd=folder, check=False).returncode == 0


def main():
    with tempfile.TemporaryDirectory(prefix="weft-conformance.") as folder:
        folder = pathlib.Path(folder)
        folder.chmod(0o755)
        server = Server(folder)
        try:
            names, ids = one_of_everything(server)
            document = server.session.get(server.url + "/api/openapi.json", timeout=30).json()
            (folder / "schemathesis.toml").write_text(configuration(names, ids, document))
            seconds = int(os.environ.get("CONFORMANCE_SECONDS", "300"))
            last = max(30, int(seconds * DELETING))
            right = [
                send(server, folder, max(30, seconds - last), "--exclude-method", "DELETE"),
                send(server, folder, last, "--include-method", "DELETE"),
            ]
            return 0 if all(right) else 1
        finally:
            server.stop()


sys.exit(main())
