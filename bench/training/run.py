"""One run on one rank, from its start to its rows, whatever ends it."""

import os
import signal
import sys
import threading
import traceback
from dataclasses import replace
from typing import NoReturn

from bench.config.environment import RankEnvironment
from bench.config.paths import check_temporary
from bench.config.run_config import RunConfig
from bench.measure.failure import Failure, classify, one_line
from bench.training.causes import explained, note_end
from bench.training.checkpoint.of_run import claim, restart_of
from bench.training.checkpoint.writer import Writer
from bench.training.group.stop_request import REQUEST
from bench.training.process_group import World, start_process_group
from bench.training.recorder import Recorder
from bench.training.starvation import Starvation
from bench.training.trainer import Trainer


def run(config: RunConfig, *, run_id: str, restart: int = 0) -> None:
    """Train as configured; on rank 0, write the run's rows.

    The environment says which rank this is (see `bench.config.environment`).

    Raises:
        VariableError: the environment does not say it.
        SystemExit: 1 after any failure, which is in the run's row and, with its traceback, on stderr.
    """
    place = RankEnvironment.from_env(os.environ)
    rank = place.rank
    if config.resume:
        restart = max(restart, restart_of(config.resume))
    recorder = Recorder(config, run_id, restart) if rank == 0 else None
    world: World | None = None
    writer: Writer | None = None
    ending = threading.Lock()  # who ends the run first, this thread or the one that watches it, ends it alone

    def write_down(failure: Failure) -> None:
        if recorder is None:
            return
        try:
            whole = explained(failure, place, world.watchdog.gone if world and world.watchdog else tuple)
            if whole != failure:
                print(f"rank {rank}: run {whole}", file=sys.stderr, flush=True)
            _write_down(recorder, whole)
        finally:
            note_end(1)

    def end(failure: Failure) -> NoReturn:
        ending.acquire()
        try:
            if world and world.watchdog:
                failure = world.watchdog.report(failure)
            print(f"rank {rank}: run {failure}", file=sys.stderr, flush=True)
            if writer:
                writer.release()
            if recorder:
                write_down(failure)
                if world and world.watchdog:
                    world.watchdog.handled()
        except Exception:
            traceback.print_exc()
        finally:
            # Leaving through the interpreter's end would wait for collectives that no rank will join any more, and for
            # threads that wait for a disk.
            sys.stdout.flush()
            os._exit(1)

    starvation = Starvation(end, rank)
    try:
        check_temporary(named=False)
        world = start_process_group(write_down, run_id)
        writer = claim(config, run_id, restart) if rank == 0 else None
        trainer = Trainer(config, world, recorder, run_id, restart, writer=writer)
        trainer.fit()
        starvation.close()
        world.barrier()
        if recorder:
            note_end(0)
    except BaseException as error:
        # What ends the siblings may reach this rank too: it must not cut short the writing down.
        for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        failure = classify(error, rank)
        if (why := REQUEST.asked()) and failure.kind == "data":  # what stopped it may have ended its loader too
            failure = replace(why, message=f"{why.message}; {failure.message}", rank=rank)
        if failure.status == "failed":  # whatever the kind: a name that is wrong must not hide the cause
            traceback.print_exc()
        end(failure)
    if writer:
        writer.release()
    world.close()


def _write_down(recorder: Recorder, failure: Failure) -> None:
    try:
        recorder.fail(failure)
    except Exception as error:  # a full disk, say: the journal is left for `results.recover`
        print(f"rank 0: the run's rows could not be written: {one_line(error)}", file=sys.stderr, flush=True)
