"""Draws what was measured as SVG, by gnuplot.  A plot is made when all of its first side is there;
peers that are not are left out."""

from build import find_tool
from lines import POOLS, PUBLISHERS, SERVERS, TYPES, WAITING, DISPATCH_BARS
from report import middle
from shell import BUILD, sh

FOLDER = BUILD / "plots"
HEAD = """set terminal svg size 760,420 font 'sans-serif,13' background '#ffffff'
set output '{name}.svg'
set title "{title}"
set style line 1 lc rgb '#1f6feb' lw 2 pt 7
set style line 2 lc rgb '#8b949e' lw 2 pt 5
set style line 3 lc rgb '#d29922' lw 2 pt 9
set style line 4 lc rgb '#3fb950' lw 2 pt 11
set style line 5 lc rgb '#a371f7' lw 2 pt 13
set border 3
set tics nomirror
set grid ytics lc rgb '#cccccc' lw 1
set format y '%.0s%c'
set key outside right top
"""


def draw(name, title, body, rows):
    """ROWS: lists of what gnuplot reads; None is a gap."""
    text = "\n".join(" ".join("NaN" if cell is None else
                              f'"{cell}"' if isinstance(cell, str) else f"{cell:.6g}"
                              for cell in row) for row in rows)
    script = HEAD.format(name=name, title=title) + f"$data << EOD\n{text}\nEOD\n" + body + "\n"
    (FOLDER / f"{name}.gnuplot").write_text(script)
    sh([find_tool("gnuplot"), f"{name}.gnuplot"], cwd=FOLDER)
    return FOLDER / f"{name}.svg"


def there(cells):
    return all(cell is not None for cell in cells)


def bars(columns, scale="set yrange [0:*]"):
    """Groups of boxes, one colour a column."""
    parts = [f"$data using {i + 2}{':xtic(1)' if i == 0 else ''} title \"{called}\" ls {i + 1}"
             for i, called in enumerate(columns)]
    return ("set style data histogram\nset style histogram clustered gap 1\n"
            "set style fill solid border -1\nset boxwidth 0.9\n"
            + scale + "\nplot " + ", ".join(parts))


def lines(columns):
    parts = [f"$data using 1:{i + 2} with linespoints title \"{called}\" ls {i + 1}"
             for i, called in enumerate(columns)]
    return "plot " + ", ".join(parts)


def plot_dispatch(results):
    sides = {"ours": "bgmq", **POOLS}
    table = {side: [middle(f"{side}-{shape}:rate", results) for shape in DISPATCH_BARS]
             for side in sides}
    if not there(table["ours"]):
        return None
    used = [side for side in sides if any(table[side])]
    rows = [[shape] + [table[side][i] and table[side][i] / 1e6 for side in used]
            for i, shape in enumerate(DISPATCH_BARS)]
    return draw("dispatch", "Dispatch in memory, producers x workers, M jobs/s",
                "set format y '%g'\n" + bars([sides[side] for side in used]), rows)


def plot_wake(results):
    sides = {"ours": "bgmq", "glib": "GLib", "tbb": "oneTBB", "pool": "mutex pool"}
    rows = [[called] + [middle(f"{side}-wake:{key}", results) for key in ("p50", "p99")]
            for side, called in sides.items()]
    if not there(rows[0]):
        return None
    return draw("wake", "From publish to a parked worker, microseconds",
                bars(["p50", "p99"], "set logscale y 10\nset yrange [1:*]"),
                [row for row in rows if there(row)])


def plot_disk(results):
    rows = [[p] + [middle(f"ours-disk-{p}:{key}", results) for key in ("rate", "p50", "p99")]
            for p in PUBLISHERS]
    if not all(there(row) for row in rows):
        return None
    scale = "set logscale x 2\nset logscale y 10\nset xtics (1, 4, 16, 64)\n" \
            "set xlabel 'publishers'\n"
    draw("disk-rate", "DISK level: life cycle with history, jobs/s", scale + lines(["bgmq"]),
         [row[:2] for row in rows])
    return draw("disk-latency", "DISK level: publish to returned, microseconds",
                scale + lines(["p50", "p99"]), [[row[0], *row[2:]] for row in rows])


def plot_servers(results):
    rows = [[f"bgmq {level}", middle(f"ours-server-{level}:rate", results)]
            for level in ("disk", "behind")]
    rows += [[called, middle(f"{name}:rate", results)]
             for name, (called, *_) in SERVERS.items()]
    rows = [row for row in rows if there(row)]
    if len(rows) < 2 or not rows[0][0].startswith("bgmq"):
        return None
    body = ("set style fill solid border -1\nset boxwidth 0.7\nset logscale y 10\nunset key\n"
            "set yrange [10:*]\nset xtics rotate by -25\nset bmargin 6\n"
            "plot $data using 0:2:($0 < 2 ? 0x1f6feb : 0x8b949e):xtic(1) with boxes"
            " lc rgb variable")
    return draw("servers", "Durable life cycle, 16 publishers, jobs/s", body, rows)


def plot_growth(results):
    drawn = []
    ours = {"dispatch": "ours-types-re", "dispatch, all in use": "ours-types-in",
            "behind": "ours-types-life", "disk, 16 publishers": "ours-types-disk"}
    rows = [[types] + [middle(f"{name}-{types}:rate", results) for name in ours.values()]
            for types in TYPES]
    if all(there(row) for row in rows):
        drawn.append(draw("types", "Cost of types, jobs/s",
                          "set logscale xy 10\nset xlabel 'types'\n" + lines(ours), rows))
    kinds = {"behind, waiting": "ours-waiting", "behind, delayed": "ours-delayed",
             "disk, waiting": "ours-waiting-disk"}
    rows = [[i] + [middle(f"{name}-{called}:rate", results) for name in kinds.values()]
            for i, called in enumerate(WAITING)]
    if all(there(row) for row in rows):
        ticks = ", ".join(f"'{called}' {i}" for i, called in enumerate(WAITING))
        drawn.append(draw("waiting", "Life cycle with messages in the database before it, jobs/s",
                          f"set xtics ({ticks})\nset yrange [0:*]\n" + lines(kinds), rows))
    return drawn[-1] if drawn else None


def draw_all(results):
    """Returns the folder when something was drawn."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.glob("*.*"):
        old.unlink()
    plots = [plot(results) for plot in (plot_dispatch, plot_wake, plot_disk, plot_servers,
                                        plot_growth)]
    return FOLDER if any(plots) else None
