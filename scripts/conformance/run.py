"""Sends what the OpenAPI document allows, and what it does not, to a real server, and compares the answers with the document.

A fresh server gets one of everything, so that generated requests reach more than "not found". It fails on any status of 5xx, on
a status, type or body that the document does not know, and on requests the document allows that cannot be made.

    WEFT_BIN              the program to test
    CONFORMANCE_SECONDS   how long, 300 when absent
    SEED                  where chance begins, 1 when absent
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
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
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
# These would end the run early: they end the session, remove what the other requests are about, or never end.
LEFT_OUT = [
    "POST /api/v1/auth/logout",
    "DELETE /api/v1/apps/{app_id}",
    "DELETE /api/v1/users/{id}",
    "GET /api/v1/apps/{app_id}/logs",
]


class Server:
    def __init__(self, folder):
        self.log = folder / "server.log"
        data = folder / "data"
        command = [os.environ["WEFT_BIN"], "serve", "--listen", "127.0.0.1:0", "--data-dir", str(data)]
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

    def post(self, path, body):
        answer = self.session.post(self.url + path, json=body, timeout=30)
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
    names = {
        "app_id": "crm",
        "entity": "contacts",
        "msg_id": str(job["msg_id"]),
        "cron_id": crons[0]["id"],
        "namespace_id": namespace["id"],
        "department_id": department["id"],
        "user_id": user["user"]["id"],
    }
    return names, contact["id"]


def configuration(names, contact, document):
    lines = [f'"path.{name}" = "{value}"' for name, value in names.items()]
    record = "/api/v1/apps/{app_id}/collections/{entity}/{id}"
    operations = [f'[[operations]]\ninclude-path = "{record}"\nparameters = {{ "path.id" = "{contact}" }}\n']
    known = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    if unknown := set(LEFT_OUT) - known:
        sys.exit(f"the document has no {', '.join(unknown)} to leave out")
    operations += [f'[[operations]]\ninclude-name = "{name}"\nenabled = false\n' for name in LEFT_OUT]
    return "[parameters]\n" + "\n".join(lines) + "\n\n" + "\n".join(operations)


def main():
    with tempfile.TemporaryDirectory(prefix="weft-conformance.") as folder:
        folder = pathlib.Path(folder)
        folder.chmod(0o755)
        server = Server(folder)
        try:
            names, contact = one_of_everything(server)
            document = server.session.get(server.url + "/api/openapi.json", timeout=30).json()
            (folder / "schemathesis.toml").write_text(configuration(names, contact, document))
            command = [
                str(pathlib.Path(sys.executable).with_name("schemathesis")),
                *("--config-file", str(folder / "schemathesis.toml")),
                *("run", server.url + "/api/openapi.json", "--checks", CHECKS, "--continue-on-failure"),
                *("--phases", "examples,coverage,fuzzing", "--max-time", os.environ.get("CONFORMANCE_SECONDS", "300")),
                *("--request-timeout", "20", "--seed", os.environ.get("SEED", "1"), "--warnings", "off"),
                *("--header", f"Authorization: {server.session.headers['authorization']}"),
            ]
            environment = {**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE)}
            return subprocess.run(command, env=environment, cwd=folder, check=False).returncode
        finally:
            server.stop()


sys.exit(main())
