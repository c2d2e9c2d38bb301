"""A real SLURM cluster of one node for the tests: its own daemons, ports, key and folder, nothing under /etc.

Runs as whoever starts it, root or not, without systemd and without a database, and listens on 127.0.0.1 alone. Its GPUs
are links to /dev/null, and the node claims more CPUs and memory than the machine has, so that jobs sized for a real
cluster are taken.
"""

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

SBIN = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
PATIENCE = 300  # seconds; an upper bound for a machine with other work
INSTALL = "apt-get install --no-install-recommends slurmctld slurmd slurm-client munge"

SLURM_CONF = """\
ClusterName=spotwise
SlurmctldHost=localhost(127.0.0.1)
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/ctld
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SlurmdParameters=config_overrides
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
MinJobAge=3600
KillWait=10
TaskProlog={folder}/note_devices
GresTypes=gpu
NodeName=localhost NodeAddr=127.0.0.1 NodeHostname=localhost CPUs={cpus} RealMemory={memory_mb} Gres=gpu:{gpus}
PartitionName=cpu Nodes=localhost Default=YES MaxTime=2-00:00:00 State=UP
PartitionName=gpu Nodes=localhost MaxTime=2-00:00:00 State=UP
"""


def daemon(name: str) -> str | None:
    """Return the path of a SLURM or munge daemon, which may not be on PATH."""
    return shutil.which(name, path=SBIN)


def available() -> bool:
    return all(map(daemon, ("slurmctld", "slurmd", "munged", "squeue")))


class Cluster:
    """A running cluster; use it as a context.

    Attributes
    ----------
    environment
        Variables under which SLURM's commands, and Snakemake, talk to this cluster.
    """

    def __init__(self, gpus: int = 2, cpus: int = 16, memory_mb: int = 256_000):
        self.gpus, self.cpus, self.memory_mb = gpus, cpus, memory_mb
        self._exit = ExitStack()

    def __enter__(self) -> "Cluster":
        # Short and open to others' eyes: the path of a socket has 107 characters at most, munged wants it reachable
        self.folder = Path(self._exit.enter_context(tempfile.TemporaryDirectory(prefix="slurm")))
        self.folder.chmod(0o711)
        self.environment = {
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": os.pathsep.join([str(self.folder / "bin"), os.environ["PATH"]]),
        }
        try:
            self._configure()
            self._start_munge()
            self._start("slurmctld", "-D", "-i")
            self._start("slurmd", "-D", "-N", "localhost")
            self._exit.callback(self._end_jobs)
            self._wait("the node to be idle", lambda: self.ask("sinfo", "-h", "-o", "%T").strip() == "idle")
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    # --- asking it ---------------------------------------------------------------------------------------------------

    def ask(self, *command: str) -> str:
        """Run a SLURM command; return its output, or nothing if it fails."""
        return subprocess.run(
            command, env=os.environ | self.environment, capture_output=True, text=True, check=False, timeout=PATIENCE
        ).stdout

    def tell(self, *command: str) -> None:
        """Run a SLURM command that must succeed."""
        subprocess.run(command, env=os.environ | self.environment, check=True, capture_output=True, timeout=PATIENCE)

    def jobs(self) -> list[dict[str, str]]:
        """Read SLURM's records of all jobs, with the field names of ``scontrol show job``."""
        return [
            dict(field.split("=", 1) for field in line.split() if "=" in field)
            for line in self.ask("scontrol", "show", "job", "--oneliner").splitlines()
            if line.startswith("JobId=")
        ]

    def of_rule(self, name: str) -> list[dict[str, str]]:
        """Select the records of a rule's jobs, or of one by ``<rule>_wildcards_<values>``, in order of submission."""
        return [job for job in self.jobs() if job["Comment"].startswith(f"rule_{name}")]

    def running(self, name: str) -> str | None:
        """Return the id of the running job of that name."""
        return next((job["JobId"] for job in self.of_rule(name) if job["JobState"] == "RUNNING"), None)

    def devices(self) -> dict[str, set[str]]:
        """Map job ids to the values of CUDA_VISIBLE_DEVICES of their tasks (``none`` where unset)."""
        seen: dict[str, set[str]] = {}
        for line in (self.folder / "devices").read_text().splitlines():
            job, value = line.split()
            seen.setdefault(job, set()).add(value)
        return seen

    # --- making it ---------------------------------------------------------------------------------------------------

    def _configure(self) -> None:
        for name in ("bin", "gpu", "ctld", "spool"):
            (self.folder / name).mkdir()
        settings = {"ctld_port": free_port(), "slurmd_port": free_port(), "user": getpass.getuser()}
        settings |= {"folder": self.folder, "gpus": self.gpus, "cpus": self.cpus, "memory_mb": self.memory_mb}
        self._write("slurm.conf", SLURM_CONF.format(**settings))
        for number in range(self.gpus):  # slurmd takes character devices only
            (self.folder / f"gpu/gpu{number}").symlink_to("/dev/null")
        self._write("gres.conf", f"Name=gpu File={self.folder}/gpu/gpu[0-{self.gpus - 1}]\n")
        # Nothing here uses cgroups, but slurmd stops without them; its versions know different words against that
        version = subprocess.run([daemon("slurmd"), "-V"], capture_output=True, text=True, check=True).stdout
        old = tuple(map(int, version.split()[-1].split(".")[:2])) < (23, 2)
        self._write("cgroup.conf", f"CgroupPlugin={'cgroup/v1' if old else 'disabled'}\n")
        note = f'echo "$SLURM_JOB_ID ${{CUDA_VISIBLE_DEVICES:-none}}" >> {self.folder}/devices'
        self._write("note_devices", f"#!/bin/sh\n{note}\n", executable=True)
        # Inside a job, Snakemake's executor takes SLURM_CONF away before it calls srun
        srun = f'SLURM_CONF={self.folder}/slurm.conf exec {shutil.which("srun")} "$@"'
        self._write("bin/srun", f"#!/bin/sh\n{srun}\n", executable=True)

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(1024))
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        self._start("munged", "--foreground", *(f"--{flag}={self.folder}/munge.{end}" for flag, end in files.items()))
        self._wait("munged", (self.folder / "munge.socket").exists)

    def _start(self, name: str, *arguments: str) -> None:
        """Start a daemon that ends with this process, even if that is killed."""
        with (self.folder / f"{name}.out").open("w") as output:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", daemon(name), *arguments],
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._exit.callback(end, process)

    def _end_jobs(self) -> None:
        """Cancel running jobs, whose processes would outlive the daemons."""
        self.ask("scancel", "--user", getpass.getuser())
        self._wait("jobs to end", lambda: not self.ask("squeue", "-h", "--states=running,completing"))

    def _write(self, name: str, content: str, executable: bool = False) -> None:
        path = self.folder / name
        path.write_text(content)
        path.chmod(0o755 if executable else 0o644)

    def _wait(self, what: str, ready: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not ready():
            if time.monotonic() > deadline:
                logs = "\n".join(path.read_text()[-2000:] for path in self.folder.glob("*.[ol][uo][tg]"))
                raise TimeoutError(f"waited {PATIENCE} s for {what}:\n{logs}")
            time.sleep(0.2)


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def end(process: subprocess.Popen) -> None:
    """End a daemon by its id."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
