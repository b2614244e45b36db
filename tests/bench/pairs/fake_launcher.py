"""In place of `launch/local.py` and `launch/slurm.py` of a small repository: rows of a run that trains nothing.

`plan.json` of the checkout that it lies in has, by seed or by "first" for steps that do not count, the throughput of a
run, or a word for what it does: see `main`. Each run appends a line to the file that FAKE_LOG names.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

SCRIPT = """\
#!/bin/bash
#SBATCH --ntasks-per-node=2
export FROM_SCRIPT=yes
srun --unbuffered \\
    {python} {launcher} {words}
"""


def main() -> int:
    words = dict(word.split("=", 1) for word in sys.argv[1:])
    assert len(words) == len(sys.argv) - 1, "a key is given twice"
    if words.get("mode") == "print":
        kept = " ".join(word for word in sys.argv[1:] if word != "mode=print" and not word.startswith("cluster="))
        print(SCRIPT.format(python=sys.executable, launcher=ROOT / "launch" / "local.py", words=kept))
        return 0
    plan = json.loads((ROOT / "plan.json").read_text())
    first = words.get("steps") == "2"
    does = plan.get("first") if first else plan.get(words["seed"], plan.get("else", 100.0))
    if isinstance(does, dict):
        does = does[words["lr"]]
    with open(os.environ["FAKE_LOG"], "a") as log:
        log.write(json.dumps({"root": str(ROOT), "words": sys.argv[1:], "pid": os.getpid(), "does": does}) + "\n")
    if does == "refuse":
        print("a warning\nlaunch: kernels=triton: there is no GPU; nearest is kernels=torch", file=sys.stderr)
        return 2
    if (
        does is None and "RESNET_BENCH_RUN_ID" not in os.environ
    ):  # steps that do not count, of whose rows nothing is asked
        return 0
    if does == "silent":
        return 0
    if does == "crash":
        raise RuntimeError("no row was written")

    from results.store.writer import RunWriter

    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    run_id = (does != "old" and os.environ.get("RESNET_BENCH_RUN_ID")) or f"run-{os.getpid()}-{time.time_ns()}"
    row = {"run_id": run_id, "seed": int(words["seed"]), "config_json": "{}", "git_commit": head.stdout.strip()}
    if does == "wrong":
        row["git_commit"] = "0" * 40
    writer = RunWriter(words["results"], row)
    writer.steps([{"rank": 0, "step": 1, "t_ns": 1, "step_ms": 2.0}])
    writer.epoch({"epoch": 1, "loss": 1.0})
    writer.system({"cpu_model": "none"})
    if does in ("sleep", "fail"):
        logs = Path(words["results"]) / "jobs" / run_id
        logs.mkdir(parents=True)
        (logs / "0_log.err").write_text("why")
        if does == "fail":
            writer.finish("failed", failure_kind="data", failure_message="1.jpg: truncated")
            print(f"launch: net failed (data): 1.jpg: truncated (logs in {logs})", file=sys.stderr)
            return 1
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
        with open(os.environ["FAKE_LOG"], "a") as log:
            log.write(json.dumps({"ready": os.getpid()}) + "\n")
        try:
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline:
                time.sleep(0.05)  # a signal just before a long one would be seen after it
        finally:
            writer.finish("killed", failure_kind="interrupted", failure_message="the launcher was stopped by SIGTERM")
    if does == "edit":
        (ROOT / "plan.json").write_text(json.dumps({**plan, "edited": True}))
    if does == "null":
        writer.finish("completed", null_reasons={"images_per_s": "no longer than the warm-up"})
    else:
        writer.finish("completed", images_per_s=does if isinstance(does, float) else 100.0)
    return 0


sys.exit(main())
