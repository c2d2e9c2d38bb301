"""Names inside the files that rules exchange, and other names shared by writers and readers."""

# patches.h5 in HEST's schema: img (N, 224, 224, 3) uint8, coords (N, 2) int64 top-left at level 0, barcode (N, 1) str
IMAGES = "img"
COORDS = "coords"
BARCODES = "barcode"
PATCH_PX = 224
PATCH_UM = 112

# AnnData.obsm: spot centres (x, y) in pixels of the slide's level 0
SPATIAL = "spatial"
# AnnData.obs of counts.h5ad and lognorm.h5ad: total counts of the spot before any selection of genes
TOTAL_COUNTS = "total_counts"
# AnnData.uns of counts.h5ad and lognorm.h5ad: barcodes of spots dropped by quality control
DROPPED = "dropped_barcodes"
# AnnData.uns of counts.h5ad: species in the metadata, "" if unknown
SPECIES = "species"
# AnnData.layers of a prediction, and folder of a run: measured log-normalised expression
OBSERVED = "observed"
# note of a model and of its scores
FELL_BACK = "random weights in place of the pretrained ones that were asked for, which were not available"
# note of a model on features of everyday pictures
IMAGENET_FEATURES = "encoder trained on ImageNet, not pathology"
# AnnData.uns of a prediction: how it was made
PROVENANCE = "spotwise"
# fields of uns["spotwise"] of a prediction, and leading columns of its scores
RUN_FIELDS = {
    "cohort": str,
    "protocol": str,
    "predictor": str,
    "method": str,
    "kind": str,
    "k": int,  # requested number of retrieved spots; 0 without retrieval
    "k_used": int,  # number of retrieved spots, which a small bank limits
    "fold": int,
    "seed": int,
    "sample": str,
    "note": str,
}
# kinds of predictors; those of EXTERNAL come from another tool
METHOD, EXTERNAL, CONTROL = "method", "external", "control"

# roles of a spot in fold.h5
TRAIN, VAL, TEST = "train", "val", "test"

# evaluation protocols
PAPER, PATIENT = "paper", "patient"
PROTOCOLS = (PAPER, PATIENT)
# stands for a protocol in paths of models that are trained on a whole cohort, to be applied to other slides
FINAL = "final"

# expression and features with their mean on each slide removed (methods.<name>.targets and features)
SLIDE_CENTRED = "slide_centred"

# name that stands for all controls together, in paths and plans
CONTROLS = "controls"
# controls computed from the test slide's own expression: upper bounds, not predictors
BOUNDS = ("NoiseCeiling", "Oracle")

# embedding spaces of a slide that need no trained method; the second tuple lists those made from expression alone
BASELINE_SPACES = ("Expression", "SmoothedExpression", "Image", "Concatenation")
EXPRESSION_SPACES = ("Expression", "SmoothedExpression")
# clustering methods for domains
KMEANS, LEIDEN = "kmeans", "leiden"
# training set of a clustering method: one slide, or all slides of the cohort
SLIDE, COHORT = "slide", "cohort"

# controls that train the reference method on expression shuffled against its images, and over which spots
SHUFFLED = {"ShuffledTraining": SLIDE, "ShuffledAcross": COHORT}

# value in a column `cohort` for the mean over all cohorts of the run
ALL_COHORTS = "all cohorts"
