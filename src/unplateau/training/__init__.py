"""Fine-tuning on Lightning: recipe, loss, batches, the loop, and models on disk."""
