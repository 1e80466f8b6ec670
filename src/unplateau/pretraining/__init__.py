"""Pretraining on images without masks: views, methods, what each is asked to say, and the loop."""
