"""The kernels on a GPU: Triton functions, which also run on a CPU through Triton's interpreter."""
