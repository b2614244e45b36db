"""Stand-ins for Slurm's commands, with a queue."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

WORDS = "dataset=digits ranks_per_node=1 cluster=small"
PROFILE = "gpus_per_node: 0\ncpus_per_task: 2\n"
REFUSED = "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit)"
# Four nodes; no more jobs in the queue than the file `limit` says; what `said` has is said in place of an answer.
SBATCH = f"""#!/bin/sh
cd FOLDER
echo "sbatch $*" >> calls
if [ -s said ]; then cat said >&2; exit 1; fi
full() {{ [ -f limit ] && [ $(($(wc -l < queue) + $1)) -gt $(cat limit) ]; }}
if [ "$1" = --test-only ]; then
  cat > tested
  nodes=$(sed -n 's/^#SBATCH --nodes=//p' tested)
  if [ "$nodes" -gt 4 ]; then echo "allocation failure: too many nodes" >&2; exit 1; fi
  if full 1; then echo "{REFUSED}" >&2; exit 1; fi
  echo "sbatch: Job 7 to start at noon" >&2; exit 0
fi
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' "$1")
if full $((${{last:-0}} + 1)); then echo "{REFUSED}" >&2; exit 1; fi
id=$((100 + $(grep -c "^sbatch /" calls)))
if [ -z "$last" ]; then echo "$id|PENDING|$1" >> queue; fi
for task in $(test -z "$last" || seq 0 "$last"); do echo "${{id}}_$task|PENDING|$1" >> queue; done
env | sort > environment
echo "Submitted batch job $id"
"""
SQUEUE = """#!/bin/sh
cd FOLDER
if [ -f broken ]; then echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1; fi
cat queue
"""
SCONTROL = """#!/bin/sh
cd FOLDER
if [ -f broken ]; then echo "slurm_load_ctl_conf error" >&2; exit 1; fi
echo "MaxArraySize            = $(cat most)"
"""


@dataclass
class Slurm:
    """The stand-ins' files.

    Attributes:
        folder: with the queue, a line a job as squeue gives it; calls of sbatch; and what else the stand-ins read.
        results: of the rows.
    """

    folder: Path
    results: Path

    def calls(self, start: str = "") -> list[str]:
        path = self.folder / "calls"
        return [line for line in path.read_text().splitlines() if line.startswith(start)] if path.exists() else []

    def queue(self) -> list[str]:
        return (self.folder / "queue").read_text().splitlines()

    def ids(self) -> list[str]:
        return [line.partition("|")[0] for line in self.queue()]

    def ends(self) -> None:
        """Let all jobs be over."""
        (self.folder / "queue").write_text("")

    def set(self, name: str, text: object) -> None:
        (self.folder / name).write_text(f"{text}\n")

    def unset(self, name: str) -> None:
        (self.folder / name).unlink()


def git(root: Path, *words: str) -> str:
    named = ["-c", "user.name=a", "-c", "user.email=a@b", "-C", str(root)]
    return subprocess.run(["git", *named, *words], check=True, capture_output=True, text=True).stdout.strip()
