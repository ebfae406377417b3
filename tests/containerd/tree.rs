//! Two trees, and every difference between them.
