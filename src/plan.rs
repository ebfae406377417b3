//! L2: what to send where, in which order, within which budget; pure.
