//! Families of functions over slices.
