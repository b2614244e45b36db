"""Commands that do next to nothing, each a process, for tests of how every command goes."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

BODIES = """
import os, sys, time
from pathlib import Path
from bench.config import command
from dataclasses import dataclass
from bench.config.grammar import key, parse

@dataclass
class Keys:
    rounds: int = key("turns", "1", default=1, least=1)

def prints(cells):
    for number in range(50_000):
        print(number)
    Path(sys.argv[1]).write_text("done")
    return 7

def prints_well(cells):
    prints(cells)
    return 0

def waits(cells):
    print("ready", flush=True)
    sys.stdin.read()
    print("more", flush=True)
    print("more", file=sys.stderr, flush=True)
    Path(sys.argv[1]).write_text("done")
    return 7

def opens(cells):
    with open(sys.argv[1], "w") as file:
        for descriptor in (1, 2):
            os.write(descriptor, b"of a library")
        os.system("echo of a child; echo of a child >&2")
        file.write("done")
    return 7

def prints_little(cells):
    print("x")
    return 7

def says(cells):
    print("x", file=sys.stderr)
    os.system("echo child")
    print("\\udcff \\u2713 \\u4e2d")
    return 7

def naps(cells):
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        Path(sys.argv[1]).write_text("done")
    return 7

def forks(cells):
    try:
        if not os.fork():
            print("ready", flush=True)
            time.sleep(1)
            Path(sys.argv[1]).write_text("done")
            os._exit(0)
        time.sleep(60)
    finally:
        os.wait()

def drops(cells):
    class Dropping:
        def __del__(self):
            print("ready", flush=True)
            time.sleep(60)  # what is raised here is dropped

    Dropping()
    naps(cells)

body, goes_on = globals()[sys.argv[2]], sys.argv[3] == "on"
sys.exit(command.run("made.up", "", Keys, lambda words: parse(words, Keys), body, [], goes_on=goes_on))
"""


def shell(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in the checkout, with $PYTHON, in an environment where kernels are not interpreted."""
    unwanted = ("TRITON_INTERPRET", "PYTHONUNBUFFERED")
    inherited = {name: value for name, value in os.environ.items() if name not in unwanted}
    variables = {**inherited, "PYTHON": sys.executable, **environment}
    words = ["bash", "-o", "pipefail", "-c", script]
    return subprocess.run(words, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=300)
