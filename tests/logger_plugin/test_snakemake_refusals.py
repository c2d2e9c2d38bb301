"""Errors that Snakemake itself raises are said in one line that names the file and the remedy."""

import pytest

from snakemake_logger_plugin_spotwise.refusals import refusal

READ = 'Traceback (most recent call last):\n  File "configfile.py", line 38, in load_configfile\n'
WRITE = 'Traceback (most recent call last):\n  File "file.py", line 45, in __init__\n    os.makedirs(self._lockdir)\n'
YAML = "WorkflowError:\nConfig file is not valid JSON or YAML. In case of YAML, make sure to not mix whitespace"


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.yaml").write_text("run: r\n")
    (tmp_path / "tab.yaml").write_text("run: r\ndata:\n\troot: d\n")
    (tmp_path / "latin.yaml").write_bytes(b"run: r\nnote: caf\xe9\n")


def told(text, command):
    line = refusal(text, command.split())
    assert line is None or "\n" not in line
    return line


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("--cores 2 --configfile nowhere.yaml", "nowhere.yaml: configuration: found no such file, expected"),
        ("--configfile tab.yaml --cores 2", "tab.yaml: line 3: found character '\\t' that cannot start any token"),
        ("--cores 2 --configfile=latin.yaml", "latin.yaml: line 2: found no UTF-8, expected YAML in UTF-8"),
        ("--configfile . --cores 2", ".: configuration: found a folder, expected"),
        ("--configfiles good.yaml tab.yaml -n", "tab.yaml: line 3: found character"),
    ],
)
def test_a_configuration_that_snakemake_cannot_read_is_named_with_its_line(command, line):
    assert told(YAML, command).startswith(f"Error: {line}")
    assert told(f"{READ}OSError: [Errno 1] Any reason: 'x'", command).startswith(f"Error: {line}")


@pytest.mark.parametrize("target", ["structure", "results/demo/tables/table1.csv"])
def test_a_target_after_configfile_is_told_where_it_belongs(target):
    missing = f"{READ}FileNotFoundError: [Errno 2] No such file or directory: '{target}'"
    line = told(missing, f"--configfile good.yaml {target}")
    assert line.startswith(f"Error: {target}: configuration: found no such file, expected")
    assert line.endswith("; targets stand before --configfile")


def test_records_of_snakemake_that_belong_to_somebody_else_are_named_with_the_remedy():
    line = told(f"{WRITE}PermissionError: [Errno 13] Permission denied: '/lab/study/.snakemake/locks'", "--cores 2")
    assert line.startswith("Error: /lab/study/.snakemake: Permission denied: Snakemake keeps its records there; ")


def test_a_home_that_cannot_be_written_is_named_with_the_variable_to_set():
    line = told(f"{WRITE}PermissionError: [Errno 13] Permission denied: '/home/zoe/.cache'", "--cores 2")
    assert line.startswith("Error: /home/zoe/.cache: Permission denied: set XDG_CACHE_HOME to a folder")


def test_a_run_without_a_full_log_is_a_warning():
    line = told("Failed to setup log file: [Errno 30] Read-only file system: '/lab/.snakemake/log/x.log'", "--cores 2")
    assert line == "Warning: /lab/.snakemake/log/x.log: Read-only file system: this run has no full log"


@pytest.mark.parametrize(
    "text",
    [
        "MissingRuleException:\nNo rule to produce nothing.csv",
        f"{WRITE}KeyError: 'of the program'",
        "Nothing to be done (all requested files are present and up to date).",
    ],
)
def test_all_other_messages_stay_as_they_are(text):
    assert told(text, "--cores 2 --configfile good.yaml") is None
