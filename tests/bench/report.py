"""From results to rows, verdicts, the table and JSON."""

import json
import os
import pathlib
import platform
import re
import statistics
import time

from build import find_postgres, version_of
from measure import Unavailable
from shell import Failure


def series(ref, results):
    name, _, key = ref.partition(":")
    if isinstance(results[name], Unavailable):
        raise results[name]
    try:
        return [result[key] for result in results[name]]
    except KeyError:
        raise Failure(f"{name} printed no {key}")


def middle(ref, results):
    """The median, or None where there is none."""
    try:
        values = series(ref, results)
    except (Unavailable, KeyError):
        return None
    return statistics.median(values) if values else None


def best_of(refs, results, less):
    """The one of several peers that is ahead in this run."""
    there = [(middle(ref, results), ref) for ref in refs]
    there = [pair for pair in there if pair[0] is not None]
    if not there:
        raise Unavailable("none of the peers is there", False)
    return min(there)[1] if less else max(there)[1]


def verdict(bar, row):
    """True, False, or None where there is no bar, or nothing to judge."""
    if not bar:
        return None
    what, relation, limit = bar.split()
    if row[what] is None:
        return None
    return row[what] >= float(limit) if relation == ">=" else row[what] <= float(limit)


def summary(line, results):
    row = {"name": line.name, "ours": None, "peer": None, "unit": line.unit, "ratio": None,
           "min": None, "max": None, "tier1": line.tier1, "tier2": line.tier2, "met1": None,
           "met2": None, "best": None, "skip": None, "failed": False}
    try:
        ours = series(line.ours, results)
        row["ours"] = statistics.median(ours)
        ref = line.peer
        if isinstance(ref, tuple):
            ref = best_of(ref, results, line.tier2.count("<="))
            row["best"] = ref.split("-")[0]
        if ref:
            peer = series(ref, results)
            row["peer"] = statistics.median(peer)
            ratios = [a / b for a, b in zip(ours, peer) if b > 0]
            if ratios:
                row.update(ratio=statistics.median(ratios), min=min(ratios), max=max(ratios))
    except Unavailable as why:
        row.update(skip=str(why).splitlines()[-1], failed=why.failed)  # the word why comes last
    row.update(met1=verdict(line.tier1, row), met2=verdict(line.tier2, row))
    return row


def rounded(row):
    return {k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in row.items()}


def number(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def judged(bar, met):
    if not bar:
        return ""
    word = {True: "met", False: "MISSED", None: "?"}[met]
    return f"{bar.partition(' ')[2]} {word}"


def table(rows):
    wide = max(len(row["name"]) for row in rows)
    print(f"{'':{wide}} {'ours':>11} {'peer':>11} {'unit':7} {'ratio':>7}  {'min .. max':15}"
          f" {'tier 1':14} {'tier 2':14}".rstrip())
    for row in rows:
        if row["skip"]:
            print(f"{row['name']:{wide}} {number(row['ours']):>11} "
                  f"{'FAILED' if row['failed'] else 'SKIP'}: {row['skip']}")
            continue
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
        spread = "" if row["ratio"] is None else f"{row['min']:.2f} .. {row['max']:.2f}"
        print(f"{row['name']:{wide}} {number(row['ours']):>11} {number(row['peer']):>11}"
              f" {row['unit']:7} {ratio:>7}  {spread:15} {judged(row['tier1'], row['met1']):14}"
              f" {judged(row['tier2'], row['met2']):14} {row['best'] or ''}".rstrip())
    print()
    for tier in ("1", "2"):
        met = [row["met" + tier] for row in rows if row["tier" + tier]]
        if met:
            print(f"tier {tier}: {met.count(True)} met, {met.count(False)} missed,"
                  f" {met.count(None)} not judged")
    skipped = sum(1 for row in rows if row["skip"] and not row["failed"])
    if skipped:
        print(f"skipped: {skipped} lines")


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def system():
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


VERSIONS = {
    "gcc": ("cc", "-dumpfullversion"),
    "SQLite": ("pkg-config", "--modversion", "sqlite3"),
    "libmicrohttpd": ("pkg-config", "--modversion", "libmicrohttpd"),
}
PEER_VERSIONS = {
    "peer_glib": ("GLib", ("pkg-config", "--modversion", "glib-2.0")),
    "peer_tbb": ("oneTBB", ("pkg-config", "--modversion", "tbb")),
    "peer_beanstalk": ("beanstalkd", ("beanstalkd", "-v")),
    "peer_redis": ("Redis", ("redis-server", "--version")),
    "peer_gearman": ("gearmand", ("gearmand", "--version")),
    "peer_postgres": ("PostgreSQL", (find_postgres("postgres") or "postgres", "--version")),
}


def short_version(text):
    """Out of a line that may say much more."""
    found = re.search(r"\d+(\.\d+)+", text)
    return found.group() if found else text


def about(options, programs):
    """When and where: what has to stand beside the figures."""
    asked = dict(VERSIONS)
    asked.update(PEER_VERSIONS[name] for name in programs if name in PEER_VERSIONS)
    versions = {name: version_of(*command) for name, command in asked.items()}
    return {"date": time.strftime("%Y-%m-%d"), "processor": processor(),
            "cores": len(os.sched_getaffinity(0)), "system": system(),
            "kernel": platform.release(), "pairs": options.pairs, "quick": options.quick,
            "versions": {name: short_version(text) for name, text in versions.items() if text}}


def show(rows, where, options):
    if options.json:
        print(json.dumps({"about": where}))
        for row in rows:
            print(json.dumps(rounded(row)))
        return
    print(f"{where['date']}, {where['processor']}, {where['cores']} cores, {where['system']},"
          f" Linux {where['kernel']}; {options.pairs} pairs{', quick' if options.quick else ''}")
    print("; ".join(f"{name} {text}" for name, text in where["versions"].items()))
    print()
    table(rows)
