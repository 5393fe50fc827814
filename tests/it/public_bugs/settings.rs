//! Settings that are set by half, misspelt, or not known.
