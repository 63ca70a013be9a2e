"""Servers of the durable peers: each is started for one run with its data in that run's folder,
listens on a unix socket or on loopback, and is ended by its own process id."""

import contextlib
import os
import pathlib
import pwd
import signal
import socket
import subprocess
import threading
import time

from build import find_postgres, find_tool
from shell import Failure, Missing, sh

READY = 20  # seconds until a server has to answer


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def answers(name, address):
    if name == "postgres":  # its socket is there before it lets anybody in
        return not subprocess.run([find_postgres("pg_isready"), "-q", "-h", address],
                                  stderr=subprocess.DEVNULL).returncode
    kind = socket.AF_UNIX if address.startswith("/") else socket.AF_INET
    to = address if address.startswith("/") else ("127.0.0.1", int(address))
    with socket.socket(kind) as s:
        try:
            s.connect(to)
            return True
        except OSError:
            return False


def beanstalkd(folder, sockets, sync):
    """SYNC: milliseconds between two syncs of the binlog; 0: each write."""
    data = folder / "binlog"
    data.mkdir()
    address = f"{sockets}/beanstalkd"
    return [find_tool("beanstalkd"), "-l", f"unix:{address}", "-b", str(data), f"-f{sync}"], address


def redis(folder, sockets, sync):
    address = f"{sockets}/redis"
    return [find_tool("redis-server"), "--port", "0", "--unixsocket", address,
            "--dir", str(folder), "--save", "", "--appendonly", "yes", "--appendfsync", sync,
            "--daemonize", "no"], address


def gearmand(folder, sockets):
    port = str(free_port())
    return [find_tool("gearmand"), "--listen=127.0.0.1", f"--port={port}",
            "--queue-type=libsqlite3", f"--libsqlite3-db={folder}/gearman.db",
            f"--log-file={folder}/gearmand.log", f"--pid-file={folder}/gearmand.pid"], port


def postgres(folder, sockets):
    data = folder / "postgres"
    user = server_user()
    sh([find_postgres("initdb"), "-D", str(data), "-U", "bench", "-A", "trust", "-N"],
       **user, cwd=folder)
    return [find_postgres("postgres"), "-D", str(data), "-k", str(sockets), "-c",
            "listen_addresses="], str(sockets)


# name -> (how it is started, its arguments, the signal that ends it soon)
SERVERS = {
    "beanstalkd-f0": (beanstalkd, (0,), signal.SIGTERM),
    "beanstalkd-f50": (beanstalkd, (50,), signal.SIGTERM),
    "redis-always": (redis, ("always",), signal.SIGTERM),
    "redis-everysec": (redis, ("everysec",), signal.SIGTERM),
    "gearmand": (gearmand, (), signal.SIGTERM),
    "postgres": (postgres, (), signal.SIGINT),
}


def server_user():
    """PostgreSQL refuses to be root: then it runs as the user that its package has made."""
    if os.geteuid() != 0:
        return {}
    try:
        who = pwd.getpwnam("postgres")
    except KeyError:
        raise Missing("PostgreSQL does not run as root, and there is no user postgres")
    return {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}


def give(user, *folders):
    """Lets another user in, where the server needs one."""
    for folder in folders:
        os.chown(folder, user["user"], user["group"])
    if subprocess.run(["test", "-w", str(folders[0])], **user).returncode:
        raise Missing(f"user postgres cannot reach {folders[0]}; --dir names another folder")


def wait_ready(name, process, address, log):
    deadline = time.monotonic() + READY
    while not answers(name, address):
        if process.poll() is not None or time.monotonic() > deadline:
            lines = log.read_text(errors="replace").strip().splitlines()
            raise Missing(f"{pathlib.Path(process.args[0]).name} does not start: "
                          f"{lines[-1] if lines else 'no word why'}")
        threading.Event().wait(0.01)


def end(process, how):
    process.send_signal(how)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def running(name, folder, sockets):
    """Yields the address that its client is given."""
    start, arguments, how = SERVERS[name]
    user = server_user() if name == "postgres" else {}
    if user:
        give(user, folder, sockets)
    try:
        command, address = start(folder, sockets, *arguments)
    except Failure as failure:
        raise Missing(str(failure))
    log = folder / "server.log"
    with open(log, "wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                                   cwd=folder, **user)
    try:
        wait_ready(name, process, address, log)
        yield address
    finally:
        end(process, how)
