#!/usr/bin/python3
"""Kills the techstacks server with kill -9 while it sends mails, starts it again, and counts.

usage: demo.py [--posts N] [--subscribers N] [--kills N] SERVER

SERVER is the built program.  Everything happens in a scratch folder.  Exits 0 when every
subscriber got every mail, and no kill made more duplicates than there were busy workers.
"""
import argparse
import collections
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
import urllib.request

WORKERS = 4


class Failure(Exception):
    """Something was not as promised."""


def until(what, condition, seconds=60):
    """Calls CONDITION until it gives something true, and returns that."""
    end = time.monotonic() + seconds
    never = threading.Event()
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        never.wait(0.01)
    raise Failure("waited %d s in vain: %s" % (seconds, what))


class Server:
    """The server as a process, on a port of its own choice."""

    def __init__(self, program, folder):
        self.command = [program, "--port", "0", "--send-delay-ms", "20",
                        "--data", os.path.join(folder, "data")]
        self.log = os.path.join(folder, "server.log")
        self.start()

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=log)
        line = self.process.stdout.readline().decode()
        found = re.match(r"listening on (http://127\.0\.0\.1:\d+)$", line.strip())
        if not found:
            self.process.kill()
            raise Failure("the server did not start: " + repr(line))
        self.url = found.group(1)

    def call(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data), timeout=10) as r:
            return json.load(r)

    def post(self, path):
        with urllib.request.urlopen(urllib.request.Request(self.url + path, b""), timeout=10) as r:
            return r.read()

    def end(self, how):
        self.process.send_signal(how)
        status = self.process.wait(timeout=60)
        self.process.stdout.close()
        return status


def outbox(folder):
    """The mails as [(notification or "system", user or message id), ...], one for each file."""
    names = os.listdir(os.path.join(folder, "data", "outbox"))
    found = [re.match(r"(\w+)-(\d+)-\d+-\d+\.eml$", name) for name in names]
    return [match.groups() for match in found if match]


def to_subscribers(folder):
    return [mail for mail in outbox(folder) if mail[0] != "system"]


def set_up(server, subscribers):
    """An organization with that many subscribers to everything."""
    organization = server.call("/organizations", {"name": "Night owls"})["id"]
    users = []
    for i in range(subscribers):
        user = server.call("/users", {"name": "Owl %d" % i, "email": "owl%d@example.org" % i})["id"]
        server.call("/subscriptions", {"organization_id": organization, "user_id": user})
        users.append(user)
    return organization, users


def kill_half_way(server, folder, share, total):
    """Kills SERVER when SHARE of TOTAL mails is out."""
    until("%d mails" % (share * total), lambda: len(to_subscribers(folder)) >= share * total)
    server.end(signal.SIGKILL)
    sent = len(set(to_subscribers(folder)))
    print("killed -9 with %d of %d mails in the outbox" % (sent, total))
    if sent >= total:
        raise Failure("the kill came too late to show anything")


def start_again(server):
    """A queue whose process died too often is not started by the boot: an operator does that."""
    server.start()
    if server.call("/mq/stats?format=json")["breaker"]:
        print("the queue did not start by itself after so many deaths: POST /mq/start")
        server.post("/mq/start")


def all_over(server):
    rows = server.call("/notifications")
    return rows if all(row["completed"] or row["failed"] for row in rows) else None


def judge(folder, rows, wanted, users, kills):
    mails = collections.Counter(to_subscribers(folder))
    system = collections.Counter(mail for mail in outbox(folder) if mail[0] == "system")
    missing = wanted - set(mails)
    duplicates = sum(mails.values()) - len(mails)
    failed = [row for row in rows if row["failed"]]
    print("%d mails wanted, %d missing, %d strange, %d duplicates (at most %d for %d kills)" %
          (len(wanted), len(missing), len(set(mails) - wanted), duplicates, WORKERS * kills, kills))
    print("%d of %d notifications completed; %d system mails for %d new users" %
          (len(rows) - len(failed), len(rows), len(system), len(users)))
    if missing or set(mails) != wanted:
        raise Failure("a subscriber did not get a mail, or somebody else did")
    if duplicates > WORKERS * kills:
        raise Failure("more duplicates than busy workers")
    if failed or any(row["sent"] != row["total"] for row in rows):
        raise Failure("a notification was not completed")
    if len(system) != len(users):
        raise Failure("a system mail is missing")


def play(options, folder, server):
    organization, users = set_up(server, options.subscribers)
    notifications = []
    for i in range(options.posts):
        answer = server.call("/posts", {"organization_id": organization, "user_id": 1,
                                        "type": "Announcement", "title": "Post %d" % i,
                                        "content": "To be read by all owls."})
        notifications.append(answer["notification_id"])
    wanted = {(str(n), str(u)) for n in notifications for u in users}
    print("%d posts, %d subscribers, %d workers" % (options.posts, len(users), WORKERS))
    for kill in range(options.kills):
        kill_half_way(server, folder, (kill + 1) / (options.kills + 1), len(wanted))
        start_again(server)
    rows = until("all notifications to end", lambda: all_over(server))
    until("the system mails", lambda: len(outbox(folder)) >= len(wanted) + len(users))
    status = server.end(signal.SIGTERM)
    judge(folder, rows, wanted, users, options.kills)
    if status != 0:
        raise Failure("the server ended with status %d" % status)


def run(options, folder):
    server = Server(options.server, folder)
    try:
        play(options, folder, server)
    finally:
        server.process.kill()  # does nothing to one that has ended


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--posts", type=int, default=8)
    parser.add_argument("--subscribers", type=int, default=12)
    parser.add_argument("--kills", type=int, default=1)
    parser.add_argument("server")
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="techstacks-demo.")
    try:
        run(options, folder)
    except (Failure, OSError, subprocess.SubprocessError) as failure:
        print("FAILED: %s\nwhat is left of it: %s" % (failure, folder))
        return 1
    shutil.rmtree(folder)
    print("every subscriber got every mail")
    return 0


if __name__ == "__main__":
    sys.exit(main())
