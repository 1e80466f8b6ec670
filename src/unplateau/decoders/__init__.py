"""f: Characteristics -> mask. Linear, light convolutional, U-Net and FPN."""
