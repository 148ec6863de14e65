"""Real hypervisors: hosts made of namespaces, real QEMU guests in them. Needs root and Debian's packages."""
