//! What a caller of the API may do without a token.
