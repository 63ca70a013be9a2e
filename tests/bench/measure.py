"""Runs commands in turns."""

import contextlib
import os
import pathlib
import shutil
import sqlite3
import tempfile
import threading
import time

import peers
from lines import COMMANDS, GROUPS
from shell import BUILD, Failure, Missing, progress, say, sh


class Unavailable(Exception):
    """In place of results: why a command has none."""

    def __init__(self, reason, failed):
        super().__init__(reason)
        self.failed = failed  # it was there, and went wrong


def check_gone(path, values, stored, done):
    """A fast queue that forgets is no queue: looks into the database it left behind."""
    db = sqlite3.connect(path)
    left = db.execute("SELECT (SELECT count(*) FROM bgmq_job)"
                      " + (SELECT count(*) FROM bgmq_backlog)").fetchone()[0]
    history = db.execute("SELECT count(*) FROM bgmq_history").fetchone()[0]
    db.close()
    if left != stored + values["n"] - done or history != (done if values["history"] else 0):
        raise Failure(f"{left} messages and {history} rows of history are in the database after"
                      f" {done:.0f} of {stored} + {values['n']} were handled")


def value_of(pair, quick):
    return pair[1 if quick else 0] if isinstance(pair, tuple) else pair


def lay_in(stored, options, folder):
    """Copies a database that already has messages into FOLDER; it is filled once an invocation.
    Its writer has died with it open: what follows begins like a start after a crash."""
    n, delay = value_of(stored[0], options.quick), stored[1]
    if not n:
        return 0
    made = pathlib.Path(options.dir) / f"stored-{n}-{delay}"
    if made not in options.made:
        progress(f"filling a database with {n:,} messages")
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()
        options.made.append(made)
        sh([str(BUILD / "bench-ours"), "fill", f"db={made}/bench.db", f"n={n}", f"delay={delay}"],
           timeout=1800)
    for path in made.iterdir():
        if not path.name.endswith("-shm"):
            shutil.copyfile(path, folder / path.name)
            (folder / path.name).chmod(0o600)
    os.sync()  # else the copy is written to the disk while we measure
    return n


def run_in(command, options, folder, sockets):
    values = {k: value_of(v, options.quick) for k, v in command.arguments.items()}
    path = folder / "bench.db"
    stored = lay_in(command.stored, options, folder) if command.stored else 0
    with contextlib.ExitStack() as stack:
        more = [f"db={path}", f"socket={sockets}/admin"]
        if command.server:
            address = stack.enter_context(peers.running(command.server, folder, sockets))
            more.append(f"address={address}")
        out = sh([str(BUILD / f"bench-{command.program}"), command.scenario, *more] +
                 [f"{k}={v}" for k, v in values.items()], timeout=900)
    result = {}
    for line in out.splitlines():
        key, _, value = line.partition(" ")
        result[key] = float(value)
    if command.program == "ours" and command.scenario == "lifecycle":
        check_gone(path, values, stored, result["done"])
    return result


def run_command(name, options):
    # Paths of sockets are short: they do not live beside the data.
    with tempfile.TemporaryDirectory(prefix="run-", dir=options.dir) as folder, \
            tempfile.TemporaryDirectory(prefix="bgmq-") as sockets:
        return run_in(COMMANDS[name], options, pathlib.Path(folder), pathlib.Path(sockets))


def idle_share(seconds):
    """The share of the processors that nobody used for a while."""
    def look():
        ticks = [int(t) for t in pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
        return ticks[3] + ticks[4], sum(ticks[:8])
    idle, total = look()
    threading.Event().wait(seconds)
    idle_then, total_then = look()
    return (idle_then - idle) / max(1, total_then - total)


def wait_for_quiet(seconds):
    """Waits up to SECONDS for the rest of the machine to be idle; goes on in any case."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and idle_share(0.5) < 0.9:
        progress("waiting for the machine")


def measure_group(group, names, results, options):
    rounds = min(group.rounds, options.pairs)
    warm = 0 if group.rounds == 1 else 1  # one round that does not count
    for number in range(-warm, rounds):
        wait_for_quiet(options.wait)
        for name in names:
            if isinstance(results[name], Unavailable):
                continue
            progress(f"{name}: round {number + 1} of {rounds}")
            try:
                result = run_command(name, options)
            except (Failure, Missing) as why:
                results[name] = Unavailable(str(why), isinstance(why, Failure))
                say(f"{'FAILED' if results[name].failed else 'SKIP'} {name}: {why}")
                continue
            if number >= 0:
                results[name].append(result)


def measure(wanted, without, options):
    """Returns command -> list of results, one a round, or why there is none."""
    results = {}
    for name in wanted:
        program = COMMANDS[name].program
        results[name] = Unavailable(without[program], False) if program in without else []
    groups = [(group, [name for name in group.names if name in wanted]) for group in GROUPS]
    groups = [(group, names) for group, names in groups if names]
    began = time.monotonic()
    try:
        for number, (group, names) in enumerate(groups, 1):
            say(f"[{number}/{len(groups)}] {time.monotonic() - began:.0f} s: {', '.join(names)}")
            measure_group(group, names, results, options)
    finally:
        progress("")
        for made in options.made:
            shutil.rmtree(made, ignore_errors=True)
    return results
