"""From slides and counts to folds: HEST's layout, sample sheet, download, cleaning, genes, patches."""
