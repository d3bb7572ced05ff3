//! The engine's state as rows of a store, and back.
