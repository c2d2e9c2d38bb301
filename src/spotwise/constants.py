"""Names inside the files that pass between rules: one place, so that writer and reader cannot drift apart."""

# patches.h5, HEST's own schema: img (N, 224, 224, 3) uint8, coords (N, 2) int64 top-left at level 0, barcode (N, 1) str
IMAGES = "img"
COORDS = "coords"
BARCODES = "barcode"
PATCH_PX = 224

# AnnData: spot centres (x, y) in pixels of the slide's level 0
SPATIAL = "spatial"
# AnnData.obs of counts.h5ad and lognorm.h5ad: all counts of the spot, before any gene was selected
TOTAL_COUNTS = "total_counts"
# AnnData.uns of counts.h5ad and lognorm.h5ad: barcodes of the spots that cleaning dropped
DROPPED = "dropped_barcodes"
# AnnData.uns of counts.h5ad: the species that the metadata names, "" where it names none
SPECIES = "species"
# AnnData.layers of a prediction: the measured log-normalised expression
OBSERVED = "observed"
# AnnData.uns of a prediction: how it was made
PROVENANCE = "spotwise"

# roles of a spot in fold.h5
TRAIN, VAL, TEST = "train", "val", "test"

# protocols
PAPER, PATIENT = "paper", "patient"
PROTOCOLS = (PAPER, PATIENT)

# controls that are made from the truth: what can be reached, not what predicts
BOUNDS = ("NoiseCeiling", "Oracle")

# spaces of a slide that need no trained method, and what in them comes from where
BASELINE_SPACES = ("Expression", "SmoothedExpression", "Image", "Concatenation")
EXPRESSION_SPACES = ("Expression", "SmoothedExpression")
# how domains are found in a space
KMEANS, LEIDEN = "kmeans", "leiden"
# what a clustering method is trained on: one slide, or the slides of its cohort together
SLIDE, COHORT = "slide", "cohort"

# in a column `cohort`: the mean over all cohorts of the run
ALL_COHORTS = "all cohorts"
