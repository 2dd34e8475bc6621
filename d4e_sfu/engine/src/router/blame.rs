//! With whose packets or commands this thread is busy: one word, written where a transport is known, read by nobody until
//! the thread panics. So a death is laid at one room's door, and the others on the worker are not suspected with it.

use std::cell::Cell;

use crate::api::TransportId;

thread_local! {
    static TRANSPORT: Cell<Option<TransportId>> = const { Cell::new(None) };
}

/// What happens from here on is on account of this transport, or of none.
pub fn set(transport: Option<TransportId>) {
    TRANSPORT.set(transport);
}

/// As it was last set on this thread.
#[must_use]
pub fn get() -> Option<TransportId> {
    // Also asked while the thread ends.
    TRANSPORT.try_with(Cell::get).ok().flatten()
}
