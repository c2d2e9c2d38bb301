"""A cohort of synthetic samples, with the defects that the pipeline gives to its first and its last sample."""

from spotwise.data.synthetic_sample import generate_sample


def generate_cohort(root, samples, seed, linked=True, size=None):
    """Generate ``samples``, pairs of sample and patient: a symbol twice in the first, a gene missing in the last."""
    for number, (sample, patient) in enumerate(samples):
        first, last = number == 0, 0 < number == len(samples) - 1
        generate_sample(root, sample, patient, seed, linked, size, duplicate_symbol=first, missing_gene=last)
