"""Where weights come from: pinned files of the package index, the hub as second source, converted once."""
