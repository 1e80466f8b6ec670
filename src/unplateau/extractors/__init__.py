"""c: image -> Characteristics. Networks of timm, local checkpoints, and the rungs of bounded reach."""
