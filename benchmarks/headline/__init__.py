"""The parts of benchmarks/gpu.py: whole training steps on a GPU, minigrad beside PyTorch and JAX.

work         what is the same for all: networks by shape, first weights, data, the order of batches
plain        the networks in elementary operations, for a library that compiles them and one that does not
ours, torch_models, torch_steps, jax_steps        the contestants
measure      one contestant in a process of its own: losses, then windows of time
rates        H5: optimizers, GB/s
table        what is compared: rows, contestants, claims
run          the processes, A-B-A, within a budget of minutes
results      what has been measured, in a file
figures      what may be said of it: whose time counts, how many times as fast, which claims are met
report       the same as Markdown
"""
