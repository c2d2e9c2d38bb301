"""Benchmarks against plain reference implementations and the limits of the machine: ``python -m benchmarks``.

Each module measures one kind of work. It contains the references, a function that makes inputs of any size, and
``rows(machine)``, which measures and returns rows of the table.
"""
