"""Storage of runs: finished steps by fingerprint, run folders, journals and locks."""
