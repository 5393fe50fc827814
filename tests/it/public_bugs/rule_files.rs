//! Rule files that are not read, and how that is seen.
