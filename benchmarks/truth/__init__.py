"""The truth: healthy cases with one cause put in, every remedy applied for real, and the diagnosis' error rate."""
