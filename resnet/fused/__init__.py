"""Networks over the fused kernels: which convolution stands where, and a block as one node of autograd."""
