"""The kernels on a CPU: numba functions around vector code in LLVM's own language."""
