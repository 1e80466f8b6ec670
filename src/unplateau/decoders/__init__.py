"""f: Characteristics -> mask, image label or boxes."""
