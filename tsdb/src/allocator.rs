//! The allocator that the server runs with and the figures of memory are taken with (feature `allocator`).
//!
//! mimalloc keeps freed pages for a second and more, and looks for them when it is asked for memory: after the sealing
//! of rows, which frees what was open for minutes, half of what is resident is of no use. [`give_back`] after each
//! round of maintenance ([`Options::after_round`](crate::Options::after_round)) returns it, and leaves what is freed
//! and taken again within a round alone.

pub use mimalloc::MiMalloc;

/// Returns memory that is free to the system. Cheap when there is little: it looks at the allocator's maps of pages.
#[allow(unsafe_code, reason = "the allocator's crate has no safe way to say it")]
pub fn give_back() {
    // SAFETY: it takes no pointer and frees only pages that hold no block in use; any thread may call it at any time.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn memory_in_use_survives() {
        let kept: Vec<Vec<u8>> = (0..200).map(|i| vec![i; 10_000]).collect();
        drop((0..200).map(|i| vec![i; 10_000]).collect::<Vec<Vec<u8>>>());
        super::give_back();
        assert!(kept.iter().zip(0..).all(|(v, i)| v.iter().all(|b| *b == i)));
    }
}
