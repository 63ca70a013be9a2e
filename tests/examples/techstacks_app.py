"""What the tests of the techstacks server share: the server as a process, and TAP.

Every wait asks again until a deadline, and fails the test when nothing came.  A test is run
as SCRIPT [SERVER]; without an argument the server is taken from $BGMQ_BUILD_ROOT.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.request

SCALE = float(os.environ.get("CK_TIMEOUT_MULTIPLIER") or 1)


def until(what, condition, seconds=20):
    """Calls CONDITION until it gives something true, and returns that."""
    end = time.monotonic() + seconds * SCALE
    never = threading.Event()
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        never.wait(0.01)
    raise AssertionError("waited in vain: " + what)


def equal(got, wanted, what="value"):
    assert got == wanted, "%s: got %r, wanted %r" % (what, got, wanted)


class Server:
    """The server, on a port of its own choice, with its data in FOLDER/data."""

    started = []  # processes, so that a test that fails leaves none

    def __init__(self, program, folder, *flags):
        self.folder = folder
        self.log = os.path.join(folder, "server.log")
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [program, "--port", "0", "--data", os.path.join(folder, "data")] + list(flags),
                stdout=subprocess.PIPE, stderr=log)
        Server.started.append(self.process)
        line = self.process.stdout.readline().decode().strip()
        found = re.match(r"listening on http://127\.0\.0\.1:(\d+)$", line)
        if not found:
            self.end(signal.SIGKILL)
            raise AssertionError("the server did not start: %r" % line)
        self.port = int(found.group(1))

    def ask(self, method, path, body=None, headers=None):
        """Returns (status, text)."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request("http://127.0.0.1:%d%s" % (self.port, path), data,
                                         headers or {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30 * SCALE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def get(self, path):
        status, text = self.ask("GET", path)
        equal(status, 200, path)
        return json.loads(text)

    def post(self, path, body=None, status=None):
        got, text = self.ask("POST", path, {} if body is None else body)
        equal(got, status or (201 if body is not None else 200), "%s: %s" % (path, text))
        return json.loads(text)

    def add_users(self, names):
        """An organization with these subscribers; returns its id and theirs."""
        organization = self.post("/organizations", {"name": "Of " + names[0]})["id"]
        users = {}
        for name in names:
            users[name] = self.post("/users", {"name": name, "email": name + "@example.org"})["id"]
            self.post("/subscriptions", {"organization_id": organization, "user_id": users[name]})
        return organization, users

    def add_post(self, organization, title="Hello"):
        """Returns the id of the notification."""
        return self.post("/posts", {"organization_id": organization, "user_id": 1, "type": "Question",
                                    "title": title, "content": "Content."})["notification_id"]

    def ended(self, notification, seconds=20):
        """Waits until the notification is completed or failed, and returns it."""
        def row():
            row = self.get("/notifications/%d" % notification)
            return row if row["completed"] or row["failed"] else None
        return until("notification %d to end" % notification, row, seconds)

    def end(self, how):
        """Ends the process; returns its status."""
        self.process.send_signal(how)
        try:
            status = self.process.wait(timeout=60 * SCALE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the server did not end")
        finally:
            self.process.stdout.close()
        return status

    def stop(self):
        equal(self.end(signal.SIGTERM), 0, "status of the server")

    def outbox(self):
        """{(notification or "system", user or message id): number of files}"""
        mails = {}
        for name in os.listdir(os.path.join(self.folder, "data", "outbox")):
            found = re.match(r"(\w+)-(\d+)-\d+-\d+\.eml$", name)
            if found:
                mails[found.groups()] = mails.get(found.groups(), 0) + 1
        return mails

    def mail(self, notification, user):
        """The text of the one mail to USER."""
        folder = os.path.join(self.folder, "data", "outbox")
        start = "%s-%d-" % (notification, user)
        names = [name for name in os.listdir(folder) if name.startswith(start)]
        equal(len(names), 1, "mails to user %d" % user)
        with open(os.path.join(folder, names[0]), "rb") as file:
            return file.read()


def server_program():
    """The first argument, or where the build puts it; None when it was not built."""
    if len(sys.argv) > 1:
        return os.path.abspath(sys.argv[1])
    built = os.path.join(os.environ.get("BGMQ_BUILD_ROOT", "."), "examples", "techstacks")
    return os.path.abspath(built) if os.access(built, os.X_OK) and os.path.isfile(built) else None


def skip_all(reason):
    print("1..0 # SKIP " + reason)
    sys.exit(0)


def run(tests):
    """Runs each function with the program and a scratch folder; one TAP point each."""
    program = server_program()
    if not program:
        skip_all("the techstacks server was not built; it needs libcurl")
    print("1..%d" % len(tests), flush=True)
    failed = 0
    for number, test in enumerate(tests, 1):
        folder = tempfile.mkdtemp(prefix="techstacks-test.")
        try:
            test(program, folder)
            print("ok %d - %s" % (number, test.__name__), flush=True)
        except Exception:
            failed += 1
            print("not ok %d - %s" % (number, test.__name__))
            log = os.path.join(folder, "server.log")
            for line in traceback.format_exc().splitlines():
                print("# " + line)
            if os.path.exists(log):
                with open(log, errors="replace") as file:
                    for line in file.read().splitlines()[-40:]:
                        print("# server: " + line)
            sys.stdout.flush()
        finally:
            for process in Server.started:
                process.kill()
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if failed else 0)
