"""The launcher's command line: its help, and on to this machine or to Slurm."""

import sys
from collections.abc import Sequence

from bench.config import command
from bench.config.grammar import WordError
from launch.plan import LaunchKeys, Plan, Program, make_plan
from launch.sweep import verbs

USAGE = """\
Trains residual networks and writes down how fast and how well, a row a run.
python launch/local.py KEY=VALUE ...   run on this machine, in the foreground
python launch/slurm.py KEY=VALUE ...   submit to Slurm and return at once
python launch/slurm.py VERB [SWEEP]    status, wait, tail, cancel or retry what was submitted (status help says more)
python launch/local.py depth=20 dataset=digits
python launch/local.py experiment=table6 scale=small data=PATH

A comma makes a sweep: depth=18,34,50 shortcut=A,B is six configurations. All are checked before any starts; one that
comes up twice runs once. A value with a comma of its own is quoted twice: data="'/a,b'".
"""


def main(program: Program, words: Sequence[str] | None = None) -> int:
    """Do what a command line says; see `command.run`.

    Returns:
        Exit status: 2 for a command line that cannot be used, after one line on stderr; nothing was started or written.
    """
    given = list(sys.argv[1:] if words is None else words)
    if program == "slurm" and verbs.first(given) in verbs.VERBS:
        from launch.sweep.command import main as main_of_sweeps

        return main_of_sweeps(given)

    def read(typed: list[str]) -> Plan:
        if program == "slurm" and (verb := verbs.slip(typed)):
            raise WordError(f"{verbs.first(typed)}: words are key=value; did you mean {verb}?")
        try:
            return make_plan(program, typed)
        except OSError as error:  # a path too long, a working directory that is gone: still a matter of words
            raise WordError(str(error)) from None

    if program == "slurm":
        return command.run("launch", USAGE, LaunchKeys, read, _submit, given, goes_on=True)
    kept = "all runs completed and their rows are written"
    return command.run("launch", USAGE, LaunchKeys, read, _run, given, goes_on=True, kept=kept)


# What follows is imported late: neither is needed for a wrong word, and both take their time.
def _run(plan: Plan) -> int:
    from launch.foreground import run_all

    _say(plan.notices)
    return run_all([cell.config for cell in plan.cells])


def _submit(plan: Plan) -> int:
    from launch.batch.script import BatchError, check_slurm
    from launch.sweep.submit import dispatch

    try:
        check_slurm(plan.mode)
        _say(plan.notices)
        return dispatch(plan)
    except BatchError as error:
        raise command.Failure(str(error)) from None


def _say(notices: Sequence[str]) -> None:
    for notice in notices:
        print(f"launch: {notice}", file=sys.stderr, flush=True)
