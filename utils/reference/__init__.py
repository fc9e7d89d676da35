"""Reference implementations, one module per topic: what a learner's answer is compared with."""
