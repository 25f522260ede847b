"""Faster and smaller inference: strips in the cache, fused kernels."""
