"""What the daemons of a throw-away Slurm read, and the site profile by which this suite submits to it."""

import os
import secrets
import stat

from throwaway.layout import CONTROLLER, Layout

ACCOUNT = "bench"
PROFILE_NAME = "throwaway"
LOW, HIGH = "low", "high"

# The controller has a network of its own, so that all ports are Slurm's usual ones and never taken.
SLURM = """\
ClusterName=throwaway
SlurmctldHost={controller}({controller_address})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/logs/slurmctld.log
SlurmdLogFile={folder}/logs/slurmd.%n.log
# Nodes have no cores of their own, so tasks are bound to none and there may be more of them than this machine has.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
GresTypes=gpu
MpiDefault=none
ReturnToService=2
SlurmdTimeout=30
KillWait=30
MinJobAge=3600
InactiveLimit=0
MaxArraySize={max_array}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=5
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost={controller_address}
# Without it some commands look for munge where the packages put it.
AccountingStoragePass={folder}/munge.socket
AccountingStorageEnforce=associations,limits,qos
AccountingStorageTRES=gres/gpu
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=5
NodeName=n[1-{nodes}] NodeAddr={network}.[11-{last}] CPUs={cpus} RealMemory={memory_mb}{gres}
PartitionName={low} Nodes=ALL Default=YES MaxTime=60 PriorityTier=1 PreemptMode=REQUEUE GraceTime={grace_s} State=UP
PartitionName={high} Nodes=ALL MaxTime=60 PriorityTier=10 PreemptMode=OFF State=UP
"""

SLURMDBD = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost={controller}
DbdAddr={controller_address}
SlurmUser=root
LogFile={folder}/logs/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
"""

# Nothing here uses control groups. Left to itself, Slurm asks this machine's systemd for one where there is version 2.
CGROUP = "CgroupPlugin=cgroup/v1\n"

# The database listens on the controller's own 127.0.0.1 alone.
DATABASE = """\
CREATE DATABASE IF NOT EXISTS slurm;
CREATE USER IF NOT EXISTS slurm@'127.0.0.1' IDENTIFIED BY 'slurm';
GRANT ALL ON slurm.* TO slurm@'127.0.0.1';
"""

PROFILE = """\
# The throw-away Slurm: cluster={name}. Its GPUs are pretended, so that runs use none.
partition: {low}
gpus_per_node: 0
cpus_per_task: 1
time: "00:30:00"
signal_lead_s: 30
interface: eth0
"""


def write(layout: Layout) -> None:
    """Write all files that are there before the first daemon starts."""
    folder = layout.folder
    words = {
        "folder": folder, "controller": CONTROLLER, "controller_address": layout.address(CONTROLLER), "low": LOW,
        "high": HIGH, "network": layout.network, "nodes": layout.nodes, "last": 10 + layout.nodes, "cpus": layout.cpus,
        "memory_mb": layout.memory_mb, "max_array": layout.max_array, "grace_s": layout.grace_s,
        "gres": f" Gres=gpu:pretend:{layout.gpus}" if layout.gpus else "",
    }  # fmt: skip
    for name in ("logs", "state", "db", "dev", "profiles"):
        (folder / name).mkdir()
    (folder / "slurm.conf").write_text(SLURM.format(**words))
    (folder / "slurmdbd.conf").write_text(SLURMDBD.format(**words))
    (folder / "slurmdbd.conf").chmod(0o600)  # or slurmdbd will not start
    (folder / "cgroup.conf").write_text(CGROUP)
    (folder / "database.sql").write_text(DATABASE)
    (layout.profiles / f"{PROFILE_NAME}.yaml").write_text(PROFILE.format(name=PROFILE_NAME, low=LOW))
    machines = {name: layout.address(name) for name in (CONTROLLER, *layout.names)}
    lines = ["127.0.0.1 localhost", "::1 localhost", *(f"{address} {name}" for name, address in machines.items())]
    (folder / "hosts").write_text("\n".join([*lines, f"{layout.address('host')} {os.uname().nodename}", ""]))
    for index in range(layout.gpus):
        device = folder / "dev" / f"gpu{index}"
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))  # the device that is /dev/null
    files = f"{folder}/dev/gpu[0-{layout.gpus - 1}]" if layout.gpus > 1 else f"{folder}/dev/gpu0"
    (folder / "gres.conf").write_text(f"Name=gpu Type=pretend File={files}\n" if layout.gpus else "")
    key = folder / "munge.key"
    key.touch(mode=0o400)
    key.write_bytes(secrets.token_bytes(128))
