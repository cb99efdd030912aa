"""The FPGA: register map, kernels, devices and drivers."""
