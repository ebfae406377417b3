//! The cache's machine: one upstream fetch per digest, however many readers.
