"""The experiments of a diagnosis: what is trained, on which part, and what came of it."""
