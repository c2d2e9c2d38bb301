"""What spotwise costs, beside plainly written references and what the machine can do; ``python -m benchmarks``.

Each module measures one kind of work. It holds the references, a function that makes the inputs at any size, and
``rows(machine)``, which measures and returns rows of the table.
"""
