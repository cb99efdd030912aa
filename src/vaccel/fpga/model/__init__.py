"""C++ of the simulated processing system, and its binding."""
