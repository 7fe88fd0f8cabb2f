"""Training: torch, folds, augmentation, loss. Nothing of the serving side imports it."""
