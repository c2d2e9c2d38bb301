"""Claims about free memory: the tightest limit holds, and file cache counts as free."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spotwise.runtime import memory
from spotwise.runtime.memory import Free, free_host

SOURCE = str(Path(memory.__file__).parents[2])
GIB = 2**30


@pytest.fixture
def machine(tmp_path):
    """Make a /proc and a /sys/fs/cgroup with 64 GiB of free memory and the given files."""

    def with_groups(membership, files=(), environment=()):
        proc, groups = tmp_path / "proc", tmp_path / "cgroup"
        (proc / "self").mkdir(parents=True)
        (proc / "meminfo").write_text(
            f"MemTotal: {128 * 2**20} kB\nMemAvailable: {64 * 2**20} kB\nHugePages_Total: 0\n"
        )
        (proc / "self/status").write_text(f"Name:\tpython\nVmRSS:\t{2**20} kB\nThreads:\t1\n")
        (proc / "self/cgroup").write_text(membership)
        for name, content in dict(files).items():
            (groups / name).parent.mkdir(parents=True, exist_ok=True)
            (groups / name).write_text(f"{content}\n")
        return free_host(proc, groups, dict(environment))

    return with_groups


def group(name, limit, used, cache):
    """Files of a control group of version 2, in GiB."""
    stat = f"anon 5\ninactive_file {cache * GIB // 2}\nactive_file {cache * GIB // 2}\nfile_mapped 7"
    limit = limit if limit == "max" else limit * GIB
    return {f"{name}/memory.max": limit, f"{name}/memory.current": used * GIB, f"{name}/memory.stat": stat}


def test_without_limits_what_the_machine_has_available_is_free(machine):
    assert machine("0::/\n") == Free(64 * GIB, "the machine's memory")


def test_a_control_group_leaves_its_limit_less_what_is_used_and_is_no_file_cache(machine):
    assert machine("0::/job\n", group("job", 32, 20, 8)) == Free(20 * GIB, "the control group job")


def test_a_group_around_it_may_be_tighter(machine):
    files = group("slurm/job", "max", 1, 0) | group("slurm", 16, 10, 0)
    assert machine("0::/slurm/job\n", files) == Free(6 * GIB, "the control group slurm")


def test_control_groups_of_version_1_count_too(machine):
    files = {
        "memory/job/memory.limit_in_bytes": 8 * GIB,
        "memory/job/memory.usage_in_bytes": 5 * GIB,
        "memory/job/memory.stat": f"cache 1\ntotal_inactive_file {GIB}\ntotal_active_file {GIB}",
        "memory/memory.limit_in_bytes": 2**63 - 4096,
        "memory/memory.usage_in_bytes": 100 * GIB,
        "memory/memory.stat": "total_inactive_file 0",
    }
    assert machine("4:memory:/job\n1:cpu:/\n0::/\n", files) == Free(5 * GIB, "the control group job")


def test_a_group_that_uses_more_than_its_limit_has_nothing_free(machine):
    assert machine("0::/job\n", group("job", 1, 2, 0)).bytes == 0


@pytest.mark.parametrize(
    "environment",
    [{"SLURM_MEM_PER_NODE": str(8 * 1024)}, {"SLURM_MEM_PER_CPU": "2048", "SLURM_CPUS_ON_NODE": "4"}],
)
def test_slurms_allocation_less_what_the_process_holds(machine, environment):
    assert machine("0::/\n", environment=environment) == Free(7 * GIB, "SLURM's allocation")


def test_this_machine_is_read():
    with open("/proc/meminfo") as file:
        total = 1024 * int(file.readline().split()[1])
    assert 0 < free_host().bytes < total


GROUPS = Path("/sys/fs/cgroup/memory")


@pytest.mark.skipif(not os.access(GROUPS, os.W_OK), reason="needs to make a control group of version 1")
def test_the_limit_of_a_real_control_group_is_seen():
    group = GROUPS / f"spotwise-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(GIB // 2))
        program = f"""
import os
open({str(group / "cgroup.procs")!r}, "w").write(str(os.getpid()))
from spotwise.runtime.memory import free_host
print(*free_host())
"""
        printed = subprocess.check_output([sys.executable, "-c", program], env={"PYTHONPATH": SOURCE}, text=True)
    finally:
        group.rmdir()
    free, of = printed.split(" ", 1)
    assert 0.4 * GIB < int(free) <= GIB // 2
    assert of.strip() == f"the control group {group.name}"
