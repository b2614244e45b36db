"""The launcher's command line: help, errors of one line, and on to this machine or to Slurm."""

import sys
from collections.abc import Sequence

from bench import grammar
from launch.plan import LaunchKeys, Program, make_plan

USAGE = """\
python launch/local.py KEY=VALUE ...   run on this machine, in the foreground
python launch/slurm.py KEY=VALUE ...   submit to Slurm and return at once

A comma makes a sweep: depth=18,34,50 shortcut=A,B is six configurations. All are checked before any starts; one that
comes up twice runs once. A value with a comma of its own is quoted twice: data="'/a,b'".
"""


def main(program: Program, argv: Sequence[str]) -> int:
    """Do what a command line says.

    Returns:
        Exit status: 2 for a command line that cannot be used, after one line on stderr; nothing was started or written.
    """
    if any(word in ("-h", "--help", "help") for word in argv):
        print(USAGE)
        print(grammar.help_text(LaunchKeys))
        return 0
    try:
        plan = make_plan(program, argv)
    except (ValueError, OSError) as error:  # a path too long, a working directory that is gone
        return _complain(error)
    # Imported late: neither is needed for a wrong word, and both take their time.
    if program == "local":
        from launch.foreground import run_all

        _say(plan.notices)
        return run_all([cell.config for cell in plan.cells])
    from launch import batch

    try:
        batch.check_slurm(plan.mode)
        _say(plan.notices)
        return batch.dispatch(plan)
    except (batch.BatchError, OSError) as error:
        return _complain(error, status=1)


def _say(notices: Sequence[str]) -> None:
    for notice in notices:
        print(f"launch: {notice}", file=sys.stderr, flush=True)


def _complain(error: Exception, status: int = 2) -> int:
    print(f"launch: {' '.join(str(error).split())}", file=sys.stderr)
    return status
