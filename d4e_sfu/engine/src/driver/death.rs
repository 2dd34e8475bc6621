//! How a worker's death becomes known at once. A panic first runs the panic hook, and the standard one may take longer than
//! the 100 ms that we have when it resolves a backtrace; so ours tells before it prints.

use std::any::Any;
use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Once};

use super::{Shared, lock, os};
use crate::api::{Event, TransportId};
use crate::router::blame;

thread_local! {
    static WATCHED: RefCell<Option<Arc<Shared>>> = const { RefCell::new(None) };
}

/// From here on a panic of this thread is the death of this worker.
pub fn watch(shared: Arc<Shared>) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let watched = WATCHED.with(|watched| watched.try_borrow().ok()?.clone());
            if let Some(shared) = &watched {
                let reason = format!("panicked: {}", message(info.payload()));
                tell(shared, reason, blame::get());
            }
            print(info);
        }));
    });
    WATCHED.with(|watched| *watched.borrow_mut() = Some(shared));
}

/// The thread has unwound, or ends for another reason than a panic: now it holds no lock.
pub fn unwound() {
    WATCHED.with(|watched| watched.borrow_mut().take());
}

/// Tells once; the second time, after unwinding, makes up for what the first could not.
pub fn tell(shared: &Shared, reason: String, transport: Option<TransportId>) {
    shared.alive.store(false, Ordering::Release);
    let unwound =
        WATCHED.with(|watched| watched.try_borrow().is_ok_and(|watched| watched.is_none()));
    // The panic may have come while this very thread held the queue; then the event has to wait for the unwinding.
    let events = if unwound {
        Some(lock(&shared.events))
    } else {
        shared.events.try_lock().ok()
    };
    if let Some(mut events) = events
        && !shared.death_told.swap(true, Ordering::AcqRel)
    {
        events.push(Event::WorkerDied { reason, transport });
    }
    os::signal(&shared.waiting);
}

pub fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}
