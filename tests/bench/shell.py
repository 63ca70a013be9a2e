"""What all parts of the bench share: where things are, running commands, saying what goes on."""

import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = pathlib.Path(os.environ.get("BGMQ_BUILD", ROOT / "build")).absolute() / "bench"


class Failure(Exception):
    """Something of ours, or a run of a peer, went wrong."""


class Missing(Exception):
    """A peer cannot be had here; its lines are skipped."""


def sh(command, **more):
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, **more)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise Failure(f"{command[0]}: {e}")
    if done.returncode:
        raise Failure(f"{' '.join(map(str, command))}: status {done.returncode}\n"
                      f"{done.stdout}{done.stderr}".rstrip())
    return done.stdout


def say(text):
    """A line that stays."""
    progress("")
    print(text, file=sys.stderr, flush=True)


def progress(text):
    """A line that the next one replaces; only where somebody looks."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
