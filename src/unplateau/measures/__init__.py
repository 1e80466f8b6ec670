"""Pure measures over counts that add up: thresholds, boundaries, resolution, intervals."""
