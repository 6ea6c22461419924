"""How fast a network is. Tables and profiling are to come; the package is reserved."""
