//! Values that clients choose, and that must never make a whole request undecidable.
