"""Native: a forest as a C library that needs nothing at run time. Only techniques and runtimes of forests know it."""
