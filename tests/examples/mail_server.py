"""A mail server for tests: aiosmtpd on a thread, with recipients told "later" or "never".

aiosmtpd comes as a package for the system's own Python: with another one first in the path, the
test starts itself again with that.
"""
import asyncio
import collections
import email
import email.policy
import importlib.util
import os
import sys
import threading

import techstacks_app

SYSTEM_PYTHON = "/usr/bin/python3"

if not importlib.util.find_spec("aiosmtpd"):
    if os.path.exists(SYSTEM_PYTHON) and not os.environ.get("BGMQ_SYSTEM_PYTHON"):
        os.environ["BGMQ_SYSTEM_PYTHON"] = "1"
        os.execv(SYSTEM_PYTHON, [SYSTEM_PYTHON] + sys.argv)
    techstacks_app.skip_all("aiosmtpd is missing (Debian: python3-aiosmtpd)")

from aiosmtpd.smtp import SMTP  # noqa: E402

Mail = collections.namedtuple("Mail", "to key subject html")


class MailServer:
    """Listens on 127.0.0.1:self.port from the first line of a with statement to its end."""

    def __init__(self, port=0):
        self.port = port
        self.lock = threading.Lock()
        self.later = collections.Counter()  # address: how many times it still gets 451
        self.never = set()                  # addresses that get 550
        self.asked = collections.Counter()  # address: RCPT commands seen
        self.mails = []                     # every mail whose text came in whole
        self.holding = False                # 1: no answer to a mail before the end
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)

    def __enter__(self):
        started = asyncio.run_coroutine_threadsafe(self.start(), self.loop)
        self.thread.start()
        started.result(30)
        return self

    def __exit__(self, *_):
        asyncio.run_coroutine_threadsafe(self.finish(), self.loop).result(30)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    async def start(self):
        self.released = asyncio.Event()
        self.server = await self.loop.create_server(
            lambda: SMTP(self, enable_SMTPUTF8=False, loop=self.loop), "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def finish(self):
        self.released.set()
        self.server.close()
        await self.server.wait_closed()
        tasks = [t for t in asyncio.all_tasks(self.loop) if t is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def url(self):
        return "smtp://127.0.0.1:%d" % self.port

    async def handle_RCPT(self, smtp, peer, envelope, address, options):
        with self.lock:
            self.asked[address] += 1
            if address in self.never:
                return "550 5.1.1 no such user here"
            if self.later[address] > 0:
                self.later[address] -= 1
                return "451 4.3.0 not now, try later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, smtp, peer, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        with self.lock:
            self.mails.append(Mail(envelope.rcpt_tos[0], message["Message-ID"], message["Subject"],
                                   message.get_content()))
            holding = self.holding
        if holding:
            await self.released.wait()
        return "250 OK"

    def hold(self):
        """From now on mails come in, but the sender is not told so until release."""
        with self.lock:
            self.holding = True

    def release(self):
        with self.lock:
            self.holding = False
        self.loop.call_soon_threadsafe(self.released.set)

    def received(self, address=None):
        """The mails so far, to ADDRESS or to everybody but the operator."""
        with self.lock:
            return [m for m in self.mails
                    if (m.to == address if address else not m.to.startswith("system@"))]

    def copies(self):
        """{(address, Message-ID): number of copies} of all mails but the operator's."""
        return collections.Counter((m.to, m.key) for m in self.received())

    def times_asked(self, address):
        with self.lock:
            return self.asked[address]
