#!/usr/bin/python3
"""The crash demo of the techstacks server as a test.

usage: test_techstacks_demo.py [SERVER]
"""
import pathlib
import subprocess
import sys

from techstacks_app import SCALE, run

DEMO = pathlib.Path(__file__).resolve().parents[2] / "examples" / "techstacks" / "demo.py"


def demo(program, *flags):
    done = subprocess.run([sys.executable, DEMO, *flags, program],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=150 * SCALE)
    text = done.stdout.decode()
    for line in text.splitlines():
        print("# " + line)
    assert done.returncode == 0, "the demo ended with status %d" % done.returncode
    assert "every subscriber got every mail" in text, "the demo did not say that all is well"


def one_kill_half_way(program, folder):
    demo(program)


def three_kills_on_the_same_data(program, folder):
    demo(program, "--kills", "3", "--posts", "12", "--subscribers", "8")


run([one_kill_half_way, three_kills_on_the_same_data])
