#!/usr/bin/python3
"""The routes of the techstacks server, with mails as files.

usage: test_techstacks_routes.py [SERVER]
"""
import email
import email.policy
import os
import re
import signal
import subprocess

from techstacks_app import Server, equal, run, until


def parsed(mail):
    return email.message_from_bytes(mail, policy=email.policy.default)


def demo_data_is_there_at_once(program, folder):
    server = Server(program, folder)
    status, text = server.ask("GET", "/")
    equal(status, 200)
    assert "curl $U/posts -d" in text, "no curl lines in the help"
    equal(server.get("/posts"), [])
    answer = server.post("/posts", {"organization_id": 1, "user_id": 1, "type": "Announcement",
                                    "title": "First", "content": "x"})
    row = server.ended(answer["notification_id"])
    equal((row["sent"], row["total"], row["failed"]), (4, 4, None))
    equal(len(server.get("/posts")), 1)
    server.stop()


def only_subscribers_of_the_type_get_the_mail(program, folder):
    server = Server(program, folder)
    organization = server.post("/organizations", {"name": "Bakers"})["id"]
    ids = [server.post("/users", {"name": n, "email": n + "@example.org"})["id"]
           for n in ("all", "questions", "news", "nothing")]
    for user, types in zip(ids, (None, ["Question"], ["Announcement", "Release"])):
        body = {"organization_id": organization, "user_id": user}
        server.post("/subscriptions", dict(body, types=types) if types else body)
    notification = server.add_post(organization)
    row = server.ended(notification)
    equal([r["user_id"] for r in row["recipients"]], ids[:2])
    sent = {user for (n, user) in server.outbox() if n == str(notification)}
    equal(sent, {str(ids[0]), str(ids[1])}, "users in the outbox")
    server.stop()


def the_mail_is_escaped_and_whole(program, folder):
    server = Server(program, folder)
    organization, users = server.add_users(["reader"])
    title = "<b>\u00e4 & \"b\"\r\nBcc: evil@example.org " + "long " * 20
    notification = server.add_post(organization, title)
    server.ended(notification)
    text = server.mail(notification, users["reader"])
    mail = parsed(text)
    assert all(len(line) <= 998 for line in text.split(b"\r\n")), "a line is too long"
    assert text.count(b"\n") == text.count(b"\r\n"), "a line end without CR"
    equal(mail["Bcc"], None)
    equal(mail["To"], "reader <reader@example.org>")
    equal(mail["Message-ID"], "<%d-%d@techstacks.example>" % (notification, users["reader"]))
    assert "\u00e4 & \"b\"" in mail["Subject"], "the subject came out as " + mail["Subject"]
    html = mail.get_content()
    assert "&lt;b&gt;\u00e4 &amp; &quot;b&quot;" in html, "not escaped: " + html
    assert "<b>\u00e4" not in html, "markup got through: " + html
    server.stop()


def no_name_ends_a_line_of_the_mail(program, folder):
    server = Server(program, folder)
    name = "a\nX-Evil: b" + "\r\n c" * 20
    organization = server.post("/organizations", {"name": "Bakers"})["id"]
    user = server.post("/users", {"name": name, "email": "baker@example.org"})["id"]
    server.post("/subscriptions", {"organization_id": organization, "user_id": user})
    for title in ("one\ntwo", "one\r\ntwo", "one\rtwo", "tab\there", "\u00e9" * 90):
        notification = server.add_post(organization, title)
        server.ended(notification)
        text = server.mail(notification, user)
        head = text.split(b"\r\n\r\n")[0].split(b"\r\n")
        names = [line.split(b":")[0] for line in head if not line.startswith(b" ")]
        equal(names, [b"Date", b"From", b"To", b"Subject", b"Message-ID", b"MIME-Version",
                      b"Content-Type", b"Content-Transfer-Encoding"])
        for line in head:
            assert len(line) <= 78 and all(0x20 <= byte < 0x7f for byte in line), line
    server.stop()


def a_report_goes_to_the_administrators(program, folder):
    server = Server(program, folder)
    server.ended(server.add_post(1))
    answer = server.post("/posts/1/report", status=201)
    row = server.ended(answer["notification_id"])
    equal((row["event"], row["ref_urn"]), ("UserPostReport", "urn:Post:1"))
    equal([r["email"] for r in row["recipients"]], ["ada@example.org"])
    assert b"Reported: Hello" in server.mail(answer["notification_id"], 1)
    equal(server.ask("POST", "/posts/99/report")[0], 404)
    server.stop()


def a_new_user_is_told_to_the_operator(program, folder):
    server = Server(program, folder)
    server.post("/users", {"name": "new", "email": "new@example.org"})
    mails = until("the system mail", lambda: [m for m in server.outbox() if m[0] == "system"])
    mail = parsed(server.mail("system", int(mails[0][1])))
    equal(mail["To"], "system@techstacks.example")
    assert "new &lt;new@example.org&gt;" in mail.get_content()
    server.stop()


def bad_requests_change_nothing(program, folder):
    server = Server(program, folder)
    good = {"organization_id": 1, "user_id": 1, "type": "Question", "title": "t", "content": "c"}
    user = {"name": "n", "email": "n@example.org"}
    cases = [
        ("POST", "/posts", b"{", 400), ("POST", "/posts", b"[]", 400), ("POST", "/posts", {}, 400),
        ("POST", "/posts", dict(good, title=""), 400), ("POST", "/posts", dict(good, title=7), 400),
        ("POST", "/posts", dict(good, organization_id="1"), 400),
        ("POST", "/posts", dict(good, organization_id=99), 404),
        ("POST", "/posts", dict(good, content="x" * 70000), 413),
        ("POST", "/posts", b'{"a":1,"a":2}', 400), ("POST", "/posts", b"\xff", 400),
        ("POST", "/users", dict(user, email="two@at@signs"), 400),
        ("POST", "/users", dict(user, email="a b@example.org"), 400),
        ("POST", "/users", dict(user, email="a@b\r\nRCPT TO:<c@d>"), 400),
        ("POST", "/users", dict(user, email="ada@example.org"), 409),
        ("POST", "/organizations", {"name": "Gardeners"}, 409),
        ("POST", "/subscriptions", {"organization_id": 1, "user_id": 99}, 404),
        ("POST", "/subscriptions", {"organization_id": 1, "user_id": 1, "types": "all"}, 400),
        ("POST", "/subscriptions", {"organization_id": 1, "user_id": 1, "types": []}, 400),
        ("GET", "/nothing", None, 404), ("GET", "/posts/", None, 404), ("GET", "//posts", None, 404),
        ("GET", "/notifications/1", None, 404), ("GET", "/notifications/01", None, 404),
        ("DELETE", "/posts", None, 405), ("GET", "/users", None, 405),
        ("POST", "/notifications/1/replay", {}, 409)]
    for method, path, body, status in cases:
        equal(server.ask(method, path, body)[0], status, "%s %s %r" % (method, path, body and body[:60]
              if isinstance(body, bytes) else body and list(body.items())[:2]))
    equal(server.get("/posts"), [])
    equal(server.get("/notifications"), [])
    server.stop()


def web_pages_are_refused(program, folder):
    server = Server(program, folder)
    body = {"name": "Bakers"}
    equal(server.ask("POST", "/organizations", body, {"Host": "evil.example"})[0], 421)
    equal(server.ask("POST", "/organizations", body, {"Origin": "http://evil.example"})[0], 403)
    equal(server.ask("POST", "/organizations", body, {"Host": "localhost:%d" % server.port})[0], 201)
    server.stop()


def stop_queues_and_start_sends(program, folder):
    server = Server(program, folder)
    equal(server.ask("POST", "/mq/stop"), (200, "OK\n"))
    notification = server.add_post(1)
    status, text = server.ask("GET", "/mq/status")
    equal((status, "STATUS: Stopped" in text), (200, True))
    row = server.get("/notifications/%d" % notification)
    equal((row["total"], row["completed"]), (0, None))
    equal(server.post("/notifications/retry", status=200),
          {"resent_ids": [], "already_queued_ids": [notification]})
    equal(server.ask("POST", "/mq/start"), (200, "OK\n"))
    equal(server.ended(notification)["sent"], 3)
    status, text = server.ask("GET", "/mq/status")
    equal(text.count("  mq:SendNotification.inq\n"), 4, "workers of SendNotification")
    equal(text.count("  mq:SendSystemEmail.inq\n"), 1, "workers of SendSystemEmail")
    server.stop()


def a_stopped_queue_survives_a_restart(program, folder):
    server = Server(program, folder)
    server.ask("POST", "/mq/stop")
    ids = [server.add_post(1, "Post %d" % i) for i in range(3)]
    equal(server.end(signal.SIGKILL), -signal.SIGKILL)
    server = Server(program, folder)
    for notification in ids:
        equal(server.ended(notification)["sent"], 3)
    equal(set(server.outbox().values()), {1}, "copies of each mail")
    server.stop()


def what_was_never_published_is_found_at_start(program, folder):
    """As after a crash between the commit of the post and the publish."""
    server = Server(program, folder)
    server.ask("POST", "/mq/stop")
    notification = server.add_post(1)
    server.stop()
    for name in os.listdir(os.path.join(folder, "data")):
        if name.startswith("bgmq.db"):
            os.remove(os.path.join(folder, "data", name))
    server = Server(program, folder)
    equal(server.ended(notification)["sent"], 3)
    with open(server.log) as log:
        assert '"resent_ids":[%d]' % notification in log.read(), "nothing was said of it"
    server.stop()


def an_end_in_the_middle_goes_on_without_duplicates(program, folder):
    """SIGTERM, unlike SIGKILL, lets each worker record the mail it has just sent."""
    server = Server(program, folder, "--send-delay-ms", "20")
    organization, users = server.add_users(["user%d" % i for i in range(10)])
    ids = [server.add_post(organization, "Post %d" % i) for i in range(4)]
    until("some mails", lambda: sum(n != "system" for n, _ in server.outbox()) >= 8)
    server.stop()
    before = {mail for mail in server.outbox() if mail[0] != "system"}
    assert len(before) < 40, "the end came too late to show anything"
    server = Server(program, folder)
    with open(server.log) as log:
        found = re.findall(r'"resent_ids":\[(.*?)\]', log.read())
    equal(found, ["", ""], "published anew at the two starts: the queue kept them by itself")
    for notification in ids:
        equal(server.ended(notification)["sent"], 10)
    mails = {mail: n for mail, n in server.outbox().items() if mail[0] != "system"}
    equal(len(mails), 40, "mails")
    equal(set(mails.values()), {1}, "copies of each mail")
    server.stop()


def a_second_server_on_the_same_data_is_refused(program, folder):
    server = Server(program, folder)
    second = subprocess.run([program, "--port", "0", "--data", os.path.join(folder, "data")],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    equal(second.returncode, 1)
    assert b"queue: " in second.stderr, second.stderr
    server.ended(server.add_post(1))
    server.stop()


def bad_flags_are_refused(program, folder):
    for flags in (["--port", "x"], ["--port", "65536"], ["--port", "-1"], ["--smtp", "http://x"],
                  ["--none"], ["word"], ["--retry-ms", ""]):
        done = subprocess.run([program] + flags, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=60, cwd=folder)
        equal(done.returncode, 2, " ".join(flags))
    done = subprocess.run([program, "--help"], stdout=subprocess.PIPE, timeout=60)
    equal((done.returncode, b"--send-delay-ms" in done.stdout), (0, True))


run([demo_data_is_there_at_once, only_subscribers_of_the_type_get_the_mail,
     the_mail_is_escaped_and_whole, no_name_ends_a_line_of_the_mail, a_report_goes_to_the_administrators,
     a_new_user_is_told_to_the_operator, bad_requests_change_nothing, web_pages_are_refused,
     stop_queues_and_start_sends, a_stopped_queue_survives_a_restart,
     what_was_never_published_is_found_at_start, an_end_in_the_middle_goes_on_without_duplicates,
     a_second_server_on_the_same_data_is_refused, bad_flags_are_refused])
