"""Which extractor will train best? Ranked before training, and held against training all of them."""
