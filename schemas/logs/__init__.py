"""The parts of a contract that describe raw files, and the checks of a contract."""
