//! Front page; see ARCHITECTURE.md.
