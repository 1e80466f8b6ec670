"""The better extractor: what each supplies, and which to take."""
