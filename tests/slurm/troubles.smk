# Jobs that go wrong in ways that a real training would take minutes for. Each asks for more time at every attempt, and
# knows by that which one it is.


rule all:
    input:
        "broken.txt",
        "slow.txt",
        "cancelled.txt",
    localrule: True


# Writes half of its output, and fails at every attempt.
rule broken:
    output:
        "broken.txt",
    log:
        "broken.log",
    resources:
        mem_mb=lambda wildcards, attempt: 200 * attempt,
        runtime=lambda wildcards, attempt: 5 * attempt,
    shell:
        "echo half > {output}; echo 'Error: spots.tsv: found no spot' > {log}; exit 1"


# Takes longer than the minute that it is given first.
rule slow:
    output:
        "slow.txt",
    resources:
        mem_mb=200,
        runtime=lambda wildcards, attempt: attempt,
    shell:
        "echo half > {output}; test {resources.runtime} -gt 1 || sleep 900; echo whole > {output}"


# Is cancelled by somebody while it runs for the first time.
rule cancelled:
    output:
        "cancelled.txt",
    resources:
        mem_mb=200,
        runtime=lambda wildcards, attempt: 20 * attempt,
    shell:
        "echo half > {output}; test {resources.runtime} -gt 20 || sleep 900; echo whole > {output}"
