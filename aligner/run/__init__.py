"""Where runs lie: finished steps by fingerprint, the run folder, its journal and its lock."""
