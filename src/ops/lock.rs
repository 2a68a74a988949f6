//! A mutex is taken the same way everywhere: whatever happened to its last holder.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock. No code that can panic runs under one; should it ever, what it guards is whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
