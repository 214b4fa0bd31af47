//! Clones as agents may leave them.
