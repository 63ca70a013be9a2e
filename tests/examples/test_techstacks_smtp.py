#!/usr/bin/python3
"""The techstacks server against a real mail server, which says "later" and "never" to some.

usage: test_techstacks_smtp.py [SERVER]
"""
import re
import signal
import socket

from mail_server import MailServer
from techstacks_app import Server, equal, run, until

NAMES = ["ann", "bob", "cid", "dot"]


def address(name):
    return name + "@example.org"


def dead(server):
    """Messages in the dlq of SendNotification, by the status page."""
    status, text = server.ask("GET", "/mq/status")
    equal(status, 200)
    line = [line for line in text.splitlines() if line.startswith("  mq:SendNotification.dlq:")]
    return int(line[0].split()[1])


def everybody_gets_the_same_mail_once(program, folder):
    with MailServer() as mail:
        server = Server(program, folder, "--smtp", mail.url)
        organization, users = server.add_users(NAMES)
        row = server.ended(server.add_post(organization, "Gr\u00fc\u00dfe"))
        equal((row["sent"], row["total"], row["error"]), (4, 4, None))
        equal(sorted(m.to for m in mail.received()), [address(n) for n in NAMES])
        equal({m.subject for m in mail.received()}, {"[Question] Gr\u00fc\u00dfe"})
        equal(len({m.html for m in mail.received()}), 1, "versions of the mail")
        until("the operator's mails", lambda: len(mail.received("system@techstacks.example")) == 4)
        server.stop()


def told_later_means_again(program, folder):
    """451 for two of four: the others get it in the first run, and only then."""
    with MailServer() as mail:
        server = Server(program, folder, "--smtp", mail.url, "--retry-ms", "5")
        organization, users = server.add_users(NAMES)
        mail.later.update({address("bob"): 3, address("dot"): 5})
        row = server.ended(server.add_post(organization))
        equal((row["sent"], row["refused"], row["failed"]), (4, 0, None))
        equal(sorted(m.to for m in mail.received()), [address(n) for n in NAMES])
        equal([mail.times_asked(address(n)) for n in NAMES], [1, 4, 1, 6], "attempts")
        equal(dead(server), 0, "dead messages")
        server.stop()


def told_never_leaves_the_others(program, folder):
    with MailServer() as mail:
        server = Server(program, folder, "--smtp", mail.url, "--retry-ms", "5")
        organization, users = server.add_users(NAMES)
        mail.never.update({address("ann"), address("cid")})
        mail.later.update({address("dot"): 2})
        row = server.ended(server.add_post(organization))
        equal((row["sent"], row["refused"], row["failed"]), (2, 2, None))
        errors = {r["email"]: r["error"] for r in row["recipients"]}
        assert "550 5.1.1 no such user" in errors[address("ann")], errors
        equal(errors[address("bob")], None)
        equal(sorted(m.to for m in mail.received()), [address("bob"), address("dot")])
        equal([mail.times_asked(address(n)) for n in NAMES], [1, 1, 1, 3], "attempts")
        server.stop()


def refused_by_all_fails_and_is_replayed(program, folder):
    with MailServer() as mail:
        server = Server(program, folder, "--smtp", mail.url, "--retry-ms", "5")
        organization, users = server.add_users(NAMES)
        mail.never.update(address(n) for n in NAMES)
        notification = server.add_post(organization)
        row = server.ended(notification)
        assert row["failed"] and "every recipient was refused" in row["error"], row
        until("the message to be dead", lambda: dead(server) == 1)
        until("the operator to be told", lambda: [m for m in mail.received("system@techstacks.example")
                                                 if "failed" in m.subject])
        equal(server.post("/notifications/retry", status=200)["resent_ids"], [])
        mail.never.clear()
        server.post("/notifications/%d/replay" % notification, status=200)
        row = server.ended(notification)
        equal((row["sent"], row["refused"], row["failed"], row["error"]), (4, 0, None, None))
        equal(set(mail.copies().values()), {1}, "copies of each mail")
        equal(dead(server), 0, "dead messages")
        equal(server.ask("POST", "/notifications/%d/replay" % notification)[0], 409)
        server.stop()


def later_for_ever_fails_and_the_replay_mails_the_rest(program, folder):
    with MailServer() as mail:
        server = Server(program, folder, "--smtp", mail.url, "--retry-ms", "1")
        organization, users = server.add_users(NAMES)
        mail.later.update({address("cid"): 10})
        notification = server.add_post(organization)
        row = server.ended(notification, 60)
        assert row["failed"] and "451 4.3.0" in row["error"], row
        equal((row["sent"], row["refused"], row["total"]), (3, 0, 4))
        equal(mail.times_asked(address("cid")), 10, "attempts")
        until("the message to be dead", lambda: dead(server) == 1)
        server.post("/notifications/%d/replay" % notification, status=200)
        equal(server.ended(notification)["sent"], 4)
        equal(set(mail.copies().values()), {1}, "copies of each mail")
        server.stop()


def a_server_that_is_down_is_waited_for(program, folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Server(program, folder, "--smtp", "smtp://127.0.0.1:%d" % port, "--retry-ms", "200")
    organization, users = server.add_users(NAMES)
    notification = server.add_post(organization)
    until("a retry of the notification", lambda: any(
        int(n) for n in re.findall(r"STATS for SendNotification[^-]*TotalRetries: +(\d+)",
                                   server.ask("GET", "/mq/status")[1])))
    equal(server.get("/notifications/%d" % notification)["sent"], 0)
    with MailServer(port) as mail:
        equal(server.ended(notification, 60)["sent"], 4)
        equal(set(mail.copies().values()), {1}, "copies of each mail")
        server.stop()


def a_kill_repeats_one_mail_for_each_busy_worker(program, folder):
    """The worst moment: four mails are in, and the sender has not yet been told so."""
    with MailServer() as mail:
        server = Server(program, folder, "--smtp", mail.url)
        organization, users = server.add_users(NAMES)
        until("the operator's mails", lambda: len(mail.received("system@techstacks.example")) == 4)
        mail.hold()
        ids = [server.add_post(organization, "Post %d" % i) for i in range(6)]
        until("four mails to be held", lambda: len(mail.received()) == 4)
        equal(server.end(signal.SIGKILL), -signal.SIGKILL)
        held = set(mail.copies())
        equal(len(held), 4, "different mails held")
        mail.release()
        server = Server(program, folder, "--smtp", mail.url)
        for notification in ids:
            equal(server.ended(notification)["sent"], 4)
        wanted = {(address(name), "<%d-%d@techstacks.example>" % (n, users[name]))
                  for n in ids for name in NAMES}
        equal(set(mail.copies()), wanted, "mails")
        equal({key for key, n in mail.copies().items() if n > 1}, held, "mails that came twice")
        equal(sum(mail.copies().values()), len(wanted) + 4, "copies altogether")
        server.stop()


run([everybody_gets_the_same_mail_once, told_later_means_again, told_never_leaves_the_others,
     refused_by_all_fails_and_is_replayed, later_for_ever_fails_and_the_replay_mails_the_rest,
     a_server_that_is_down_is_waited_for, a_kill_repeats_one_mail_for_each_busy_worker])
