"""What is run and what is reported.

COMMANDS: one run of one side each.  GROUPS: commands that take turns.  LINES: what the table shows
of them, with the bars.  No figure that is measured stands here.
"""

from typing import NamedTuple, Optional, Union


class Command(NamedTuple):
    program: str
    scenario: str
    arguments: dict  # a pair of numbers is full, quick
    server: Optional[str] = None
    stored: Optional[tuple] = None  # messages in the database before it, and their delay in ms


class Group(NamedTuple):
    names: list
    rounds: int = 1000  # at most, whatever --pairs says


class Line(NamedTuple):
    """A bar is "ratio >= 1.5" or "ours <= 96".  PEER may be several: the best of them counts."""
    name: str
    unit: str
    ours: str  # command:key
    peer: Union[str, tuple, None] = None
    tier1: str = ""
    tier2: str = ""


COMMANDS, GROUPS, LINES = {}, [], []


def group(commands, rounds=1000):
    COMMANDS.update(commands)
    GROUPS.append(Group(list(commands), rounds))


# ---- in memory ---------------------------------------------------------------------------

POOLS = {"glib": "GLib", "tbb": "oneTBB", "pool": "mutex pool", "libdispatch": "libdispatch"}
# shape -> peer -> bars; "best" is the best of all that are there.
DISPATCH_BARS = {
    "1x1": {"glib": ("ratio >= 0.8", "ratio >= 1.5"), "tbb": ("", "ratio >= 1.0")},
    "1x4": {"glib": ("ratio >= 2", "ratio >= 5"), "best": ("", "ratio >= 1.5")},
    "2x2": {"glib": ("ratio >= 0.8", "ratio >= 1.5"), "best": ("", "ratio >= 1.2")},
    "4x4": {"best": ("", "ratio >= 1.5")},
}


def dispatch():
    for shape, bars in DISPATCH_BARS.items():
        producers, workers = map(int, shape.split("x"))
        values = {"n": (1_000_000, 200_000), "producers": producers, "workers": workers}
        ours = {f"ours-{shape}": Command("ours", "dispatch", {**values, "types": 1, "spread": 0})}
        group({**ours, **{f"{peer}-{shape}": Command(f"peer_{peer}", "dispatch", values)
                          for peer in POOLS}})
        for peer, called in POOLS.items():
            LINES.append(Line(f"dispatch {shape} / {called}", "jobs/s", f"ours-{shape}:rate",
                              f"{peer}-{shape}:rate", *bars.get(peer, ())))
        LINES.append(Line(f"dispatch {shape} / best peer", "jobs/s", f"ours-{shape}:rate",
                          tuple(f"{peer}-{shape}:rate" for peer in POOLS),
                          *bars.get("best", ())))


def wake():
    sides = ["ours", "glib", "tbb", "pool"]
    group({f"{side}-wake": Command(side if side == "ours" else f"peer_{side}", "wake",
                                   {"n": (2000, 500), "types": 1}) for side in sides})
    for peer in sides[1:]:
        for key in ("p50", "p99"):
            bars = ("ratio <= 1.5", "ratio <= 1.0") if peer == "glib" else ()
            LINES.append(Line(f"wake {key} / {POOLS[peer]}", "us", f"ours-wake:{key}",
                              f"{peer}-wake:{key}", *bars))


def memory():
    group({f"{side}-memory": Command(side if side == "ours" else f"peer_{side}", "memory",
                                     {"n": (500_000, 100_000)}) for side in ("ours", "glib")})
    LINES.append(Line("memory a message / GLib", "bytes", "ours-memory:bytes", "glib-memory:bytes",
                      "ours <= 200", "ours <= 96"))


# ---- with a database ---------------------------------------------------------------------

def ours_life(level, n, producers=1, workers=1, history=1, window=0, types=1, stored=None):
    return Command("ours", "lifecycle",
                   {"level": level, "n": n, "producers": producers, "workers": workers,
                    "history": history, "window": window, "types": types}, None, stored)


def bare_life(n, batch, sync, history=1):
    return Command("peer_sqlite", "lifecycle",
                   {"n": n, "batch": batch, "sync": sync, "history": history})


MANY = (500_000, 100_000)


def behind():
    group({
        "ours-behind": ours_life("behind", MANY),
        "sqlite-4096": bare_life(MANY, 4096, "normal"),
        # The window holds all of it: nothing is moved to the database while it waits.
        "ours-behind-wide": ours_life("behind", MANY, window=1_000_000),
    })
    group({
        "ours-behind-off": ours_life("behind", MANY, history=0),
        "sqlite-4096-off": bare_life(MANY, 4096, "normal", history=0),
    })
    LINES.extend([
        Line("behind, history / SQLite", "jobs/s", "ours-behind:rate", "sqlite-4096:rate",
             "ratio >= 0.25", "ratio >= 1.0"),
        Line("behind, wide window / SQLite", "jobs/s", "ours-behind-wide:rate",
             "sqlite-4096:rate"),
        Line("behind, no history / SQLite", "jobs/s", "ours-behind-off:rate",
             "sqlite-4096-off:rate"),
    ])


PUBLISHERS = {1: (10_000, 2_000), 4: (32_000, 6_400), 16: (64_000, 16_000), 64: (128_000, 32_000)}


def disk():
    group({
        **{f"ours-disk-{p}": ours_life("disk", n, producers=p, workers=1 if p == 1 else 2)
           for p, n in PUBLISHERS.items()},
        "sqlite-full-1": bare_life((10_000, 2_000), 1, "full"),
        "sqlite-commit": Command("peer_sqlite", "commit", {"n": (5_000, 1_000), "sync": "full"}),
        "sqlite-full-16": bare_life((64_000, 16_000), 16, "full"),
    })
    LINES.extend([
        Line("disk 1 publisher / SQLite 1", "jobs/s", "ours-disk-1:rate", "sqlite-full-1:rate"),
        Line("disk 16 publishers / SQLite 16", "jobs/s", "ours-disk-16:rate",
             "sqlite-full-16:rate", "ratio >= 0.2", "ratio >= 0.5"),
        Line("disk growth 4/1", "jobs/s", "ours-disk-4:rate", "ours-disk-1:rate"),
        Line("disk growth 16/1", "jobs/s", "ours-disk-16:rate", "ours-disk-1:rate",
             "ratio >= 6", "ratio >= 8"),
        Line("disk growth 64/1", "jobs/s", "ours-disk-64:rate", "ours-disk-1:rate",
             "", "ratio >= 15"),
        Line("disk publish p50 / SQLite", "us", "ours-disk-1:p50", "sqlite-commit:p50",
             "ratio <= 1.8", "ratio <= 1.3"),
        Line("disk publish p99 / SQLite", "us", "ours-disk-1:p99", "sqlite-commit:p99"),
    ])
    for p in list(PUBLISHERS)[1:]:
        LINES.extend(Line(f"disk publish {key}, {p} publishers", "us", f"ours-disk-{p}:{key}")
                     for key in ("p50", "p99"))


# Servers: as many clients that publish as ours has publishers, and as many again that work.
# name -> (what the table calls it, program, server, jobs, ours of the same promise, bars)
SERVERS = {
    "beanstalkd-f0": ("beanstalkd -f0", "peer_beanstalk", "beanstalkd-f0", (16_000, 3_200),
                      "disk", ("", "ratio >= 10")),
    "redis-always": ("Redis AOF always", "peer_redis", "redis-always", (48_000, 9_600),
                     "disk", ("", "ratio >= 1.5")),
    "gearmand": ("gearmand SQLite", "peer_gearman", "gearmand", (2_000, 400), "disk", ()),
    "postgres": ("PostgreSQL", "peer_postgres", "postgres", (16_000, 3_200), "disk", ()),
    "beanstalkd-f50": ("beanstalkd -f50", "peer_beanstalk", "beanstalkd-f50", (96_000, 19_200),
                       "behind", ()),
    "redis-everysec": ("Redis AOF everysec", "peer_redis", "redis-everysec", (96_000, 19_200),
                       "behind", ()),
}


def servers():
    clients = {"producers": 16, "workers": 16}
    group({
        "ours-server-disk": ours_life("disk", (64_000, 16_000), producers=16, workers=2),
        "ours-server-behind": ours_life("behind", MANY, producers=16, workers=2),
        **{name: Command(program, "lifecycle", {"n": n, **clients}, server)
           for name, (_, program, server, n, _, _) in SERVERS.items()},
    })
    for name, (called, _, _, _, level, bars) in SERVERS.items():
        LINES.append(Line(f"{level} / {called}", "jobs/s", f"ours-server-{level}:rate",
                          f"{name}:rate", *bars))
        if level == "disk":
            LINES.append(Line(f"publish p50 / {called}", "us", "ours-server-disk:p50",
                              f"{name}:p50"))


def transactions():
    n = (5_000, 1_000)
    group({f"tx-{with_}": Command("ours", "tx-cost", {"n": n, "with": with_})
           for with_ in ("publish", "nothing", "insert")})
    group({"ours-tx": Command("ours", "tx", {"n": (2000, 500)})}, 3)
    LINES.extend([
        Line("transaction with publish / without", "us", "tx-publish:p50", "tx-nothing:p50",
             "", "ratio <= 1.3"),
        Line("transaction with publish / own insert", "us", "tx-publish:p50", "tx-insert:p50"),
        Line("transaction to start p50", "us", "ours-tx:p50", None, "ours <= 30"),
        Line("transaction to start p99", "us", "ours-tx:p99"),
    ])


# ---- what it costs to have more ------------------------------------------------------------

DAY = 86_400_000  # ms
TYPES = [1, 100, 10_000]
WAITING = {"1 k": (1_000, 1_000), "100 k": (100_000, 100_000), "10 M": (10_000_000, 1_000_000)}


def growth_types():
    one = {"n": (1_000_000, 200_000), "producers": 1, "workers": 1}
    for spread, what in ((0, "registered"), (1, "in use")):
        group({f"ours-types-{what[:2]}-{types}": Command(
            "ours", "dispatch", {**one, "types": types, "spread": spread}) for types in TYPES})
    group({f"ours-types-life-{types}": ours_life("behind", MANY, types=types) for types in TYPES})
    group({f"ours-types-disk-{types}": ours_life("disk", PUBLISHERS[16], 16, types=types)
           for types in TYPES})
    group({f"ours-types-wake-{types}": Command("ours", "wake", {"n": (2000, 500), "types": types})
           for types in TYPES})
    for types in TYPES[1:]:
        LINES.extend([
            Line(f"{types:,} types / 1, dispatch", "jobs/s", f"ours-types-re-{types}:rate",
                 "ours-types-re-1:rate", "", "ratio >= 0.8" if types == 10_000 else ""),
            Line(f"{types:,} types in use / 1, dispatch", "jobs/s", f"ours-types-in-{types}:rate",
                 "ours-types-in-1:rate"),
            Line(f"{types:,} types / 1, behind", "jobs/s", f"ours-types-life-{types}:rate",
                 "ours-types-life-1:rate"),
            Line(f"{types:,} types / 1, disk", "jobs/s", f"ours-types-disk-{types}:rate",
                 "ours-types-disk-1:rate"),
            Line(f"{types:,} types / 1, wake p50", "us", f"ours-types-wake-{types}:p50",
                 "ours-types-wake-1:p50"),
        ])


def growth_waiting():
    """Messages that may start now stand before those of the run; delayed ones rest beside them."""
    for what, delay in (("waiting", 0), ("delayed", DAY)):
        group({f"ours-{what}-{called}": ours_life("behind", MANY, history=0, stored=(n, delay))
               for called, n in WAITING.items()}, 3)
        for called in list(WAITING)[1:]:
            LINES.append(Line(f"{called} {what} / 1 k, behind", "jobs/s",
                              f"ours-{what}-{called}:rate", f"ours-{what}-1 k:rate", "",
                              "ratio >= 0.7" if called == "10 M" else ""))
    group({f"ours-waiting-disk-{called}": ours_life("disk", PUBLISHERS[16], 16, 2, stored=(n, 0))
           for called, n in WAITING.items()}, 3)
    group({f"ours-open-{called}": Command("ours", "backlog", {"n": n, "all": 0}, None, (n, 0))
           for called, n in WAITING.items()}, 3)
    for called in list(WAITING)[1:]:
        LINES.extend([
            Line(f"{called} waiting / 1 k, disk", "jobs/s", f"ours-waiting-disk-{called}:rate",
                 "ours-waiting-disk-1 k:rate"),
            Line(f"{called} waiting / 1 k, open to handler", "ms", f"ours-open-{called}:first",
                 "ours-open-1 k:first"),
            Line(f"{called} waiting / 1 k, memory", "MiB", f"ours-open-{called}:resident",
                 "ours-open-1 k:resident"),
        ])


def replay():
    million = (1_000_000, 200_000)
    group({"ours-backlog": Command("ours", "backlog", {"n": million, "all": 1}, None,
                                   (million, 0))}, 3)
    LINES.extend([
        Line("1 M waiting, open to handler", "ms", "ours-backlog:first", None, "ours <= 300",
             "ours <= 300"),
        Line("1 M waiting, memory", "MiB", "ours-backlog:resident", None, "ours <= 64",
             "ours <= 64"),
        Line("1 M waiting, all run", "jobs/s", "ours-backlog:rate"),
    ])


def admin():
    jobs = {"n": (3_000_000, 600_000), "seconds": 0}
    group({
        "ours-admin-none": Command("ours", "admin", {**jobs, "clients": 0, "pause": 0}),
        "ours-admin-paced": Command("ours", "admin", {**jobs, "clients": 1, "pause": 10}),
        "ours-admin-full": Command("ours", "admin", {**jobs, "clients": 4, "pause": 0}),
        "ours-admin-only": Command("ours", "admin", {"n": 0, "seconds": (3, 1), "clients": 4,
                                                     "pause": 0}),
    })
    LINES.extend([
        Line("jobs, page each 10 ms / none", "jobs/s", "ours-admin-paced:rate",
             "ours-admin-none:rate"),
        Line("jobs, 4 clients at the page / none", "jobs/s", "ours-admin-full:rate",
             "ours-admin-none:rate"),
        Line("status page, jobs run / idle", "1/s", "ours-admin-full:requests",
             "ours-admin-only:requests"),
        Line("status page p99, jobs run / idle", "us", "ours-admin-full:p99",
             "ours-admin-only:p99"),
    ])


def rest():
    group({"ours-cursor": Command("ours", "cursor", {"n": (2_000_000, 400_000)})}, 3)
    still = {"seconds": (60, 10), "guests": 0, "types": 1, "workers": 5}
    group({"ours-idle": Command("ours", "idle", still),
           "ours-idle-types": Command("ours", "idle", {**still, "types": 10_000, "workers": 1}),
           "ours-idle-guests": Command("ours", "idle", {**still, "guests": 1})}, 1)
    LINES.extend([
        Line("cursor, behind", "saves/s", "ours-cursor:rate", None, "ours >= 100000"),
        # "0.0 s" in the limits; the kernel counts in steps of 0.01.
        Line("idle cpu", "s", "ours-idle:cpu", None, "ours <= 0", "ours <= 0"),
        Line("idle wake-ups", "1/s", "ours-idle:wakeups"),
        Line("idle cpu, 10,000 types", "s", "ours-idle-types:cpu", None, "", "ours <= 0"),
        Line("idle wake-ups, 10,000 types", "1/s", "ours-idle-types:wakeups"),
        # 0.1 % of a processor.
        Line("idle cpu with guests", "s", "ours-idle-guests:cpu", None, "ours <= 0.06",
             "ours <= 0.06"),
    ])


for part in (dispatch, wake, memory, behind, disk, servers, transactions, growth_types,
             growth_waiting, replay, admin, rest):
    part()


def references(line):
    """Every command:key a line looks at."""
    peers = line.peer if isinstance(line.peer, tuple) else (line.peer,)
    return [ref for ref in (line.ours, *peers) if ref]
