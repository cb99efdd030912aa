"""The kernels as hardware, in Amaranth; needs the extra `sim`."""
