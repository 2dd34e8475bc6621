//! The thread of one worker: it reads the clock, receives with recvmmsg, drives the router and sends with sendmmsg. It
//! decides nothing. Python reaches it through a channel of commands and a queue of events, each with an eventfd; the thread
//! never waits for Python.
//!
//! The loop, step by step (the router's invariant): 1. wait for datagrams, commands or the router's timeout; 2. apply the
//! commands; 3. handle a batch from each socket; 4. advance; 5. flush the send slots; 6. hand over events and, a few times
//! a second, a snapshot.

mod batch;
mod death;
pub mod door;
pub(crate) mod os;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use self::batch::{Inbox, Outbox};
use self::door::{Door, Mail};
#[cfg(any(test, feature = "peer"))]
use crate::api::TransportId;
use crate::api::{Command, Event};
use crate::now::Now;
use crate::router::Router;
use crate::router::blame;
use crate::router::counters::Snapshot;
use crate::router::events::Events;
use crate::wire::drop::DropReason;

/// A way that was narrow is tried again after this time (RFC 8899 §5.1.1, PMTU_RAISE_TIMER).
const MTU_LIFE: Duration = Duration::from_secs(600);
/// A snapshot is at most this old.
const SNAPSHOT_INTERVAL: Duration = Duration::from_millis(250);
/// Batches of one socket before the others, the commands and the clock get their turn.
const BATCHES_IN_A_ROW: usize = 4;

enum Order {
    Commands(Vec<Command>),
    Stop,
    /// To prove what happens then; there is no such door in a build for use.
    #[cfg(any(test, feature = "peer"))]
    Panic(Option<TransportId>),
}

/// What the thread and Python share.
struct Shared {
    events: Mutex<Events>,
    snapshot: Mutex<WorkerSnapshot>,
    /// Readable while events wait.
    waiting: OwnedFd,
    alive: AtomicBool,
    death_told: AtomicBool,
}

#[derive(Clone, Debug, Default)]
pub struct WorkerSnapshot {
    pub router: Snapshot,
    /// CPU time of the thread by wall time, since the last snapshot.
    pub busy_ratio: f64,
    pub cpu_seconds: f64,
}

/// A router on a thread of its own.
pub struct Worker {
    orders: Sender<Order>,
    wake: Arc<OwnedFd>,
    door: Arc<Door>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// `sockets` are bound UDP sockets, one for each listening address; they are duplicated.
    pub fn start(sockets: &[RawFd], name: &str) -> io::Result<Self> {
        if sockets.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a worker needs at least one socket",
            ));
        }
        let sockets = sockets
            .iter()
            .map(|&fd| Socket::adopt(fd))
            .collect::<io::Result<Vec<_>>>()?;
        let wake = Arc::new(os::eventfd()?);
        let shared = Arc::new(Shared {
            events: Mutex::default(),
            snapshot: Mutex::default(),
            waiting: os::eventfd()?,
            alive: AtomicBool::new(true),
            death_told: AtomicBool::new(false),
        });
        let door = Arc::new(Door::new(Arc::clone(&wake)));
        let (orders, inbox) = channel();
        let thread = {
            let (wake, door, shared) = (Arc::clone(&wake), Arc::clone(&door), Arc::clone(&shared));
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || {
                    death::watch(Arc::clone(&shared));
                    // The one place where a panic is caught: everything below may assume that it unwinds to here.
                    let end = catch_unwind(AssertUnwindSafe(|| {
                        run(&sockets, &inbox, &wake, &door, &shared)
                    }));
                    death::unwound();
                    match end {
                        Ok(Ok(())) => shared.alive.store(false, Ordering::Release),
                        Ok(Err(error)) => {
                            death::tell(&shared, format!("lost its sockets: {error}"), None)
                        }
                        Err(panic) => death::tell(
                            &shared,
                            format!("panicked: {}", death::message(panic.as_ref())),
                            blame::get(),
                        ),
                    }
                })?
        };
        Ok(Self {
            orders,
            wake,
            door,
            shared,
            thread: Some(thread),
        })
    }

    /// Never blocks. Commands to a dead worker go nowhere.
    pub fn submit(&self, commands: Vec<Command>) {
        self.order(Order::Commands(commands));
    }

    /// For `front`. A worker that takes this one's place has another.
    #[must_use]
    pub fn door(&self) -> Arc<Door> {
        Arc::clone(&self.door)
    }

    #[must_use]
    pub fn event_fd(&self) -> RawFd {
        self.shared.waiting.as_raw_fd()
    }

    /// All waiting events, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        let mut events = lock(&self.shared.events);
        os::clear(&self.shared.waiting);
        std::iter::from_fn(|| events.pop()).collect()
    }

    #[must_use]
    pub fn snapshot(&self) -> WorkerSnapshot {
        let mut snapshot = lock(&self.shared.snapshot).clone();
        snapshot.router.events_waiting = lock(&self.shared.events).len();
        snapshot
    }

    #[must_use]
    pub fn alive(&self) -> bool {
        self.shared.alive.load(Ordering::Acquire)
    }

    /// Ends the thread and waits for it.
    pub fn stop(&mut self) {
        self.order(Order::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // A panic has been told as an event.
        }
    }

    #[cfg(any(test, feature = "peer"))]
    pub fn panic_for_test(&self, transport: Option<TransportId>) {
        self.order(Order::Panic(transport));
    }

    fn order(&self, order: Order) {
        if self.orders.send(order).is_ok() {
            os::signal(&self.wake);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Socket {
    fd: OwnedFd,
    local: SocketAddr,
}

impl Socket {
    fn adopt(fd: RawFd) -> io::Result<Self> {
        let fd = os::duplicate(fd)?;
        if !os::is_udp(fd.as_raw_fd()) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a UDP socket",
            ));
        }
        let local = os::local_address(fd.as_raw_fd())?;
        os::tune(fd.as_raw_fd(), local.is_ipv6());
        Ok(Self { fd, local })
    }
}

fn run(
    sockets: &[Socket],
    orders: &Receiver<Order>,
    wake: &OwnedFd,
    door: &Arc<Door>,
    shared: &Shared,
) -> io::Result<()> {
    let began = Instant::now();
    // One second ahead of zero, so that "a second ago" is a time too.
    let clock = || Now(began.elapsed().as_nanos() as u64).plus(Duration::from_secs(1));
    let poll = os::Poll::new()?;
    poll.add(wake.as_raw_fd(), sockets.len() as u64)?;
    for (at, socket) in sockets.iter().enumerate() {
        poll.add(socket.fd.as_raw_fd(), at as u64)?;
    }
    let routes: HashMap<SocketAddr, RawFd> = sockets
        .iter()
        .map(|socket| (socket.local, socket.fd.as_raw_fd()))
        .collect();
    let mut router = Router::default();
    let (mut inbox, mut outbox) = (Inbox::new(), Outbox::new(routes, Some(Arc::clone(door))));
    let mut mail = Mail::default();
    let mut meter = Meter::new(clock());
    let mut narrowed = clock();
    loop {
        let now = clock();
        let due = router
            .next_timeout()
            .map_or(SNAPSHOT_INTERVAL, |at| at.since(now).min(SNAPSHOT_INTERVAL));
        let ready = poll.wait(due)?;
        let now = clock();
        if ready.has(sockets.len()) {
            os::clear(wake);
            for order in orders.try_iter() {
                match order {
                    Order::Commands(commands) => {
                        for command in commands {
                            router.apply(now, command, &mut outbox);
                        }
                    }
                    Order::Stop => {
                        outbox.flush();
                        return Ok(());
                    }
                    #[cfg(any(test, feature = "peer"))]
                    #[allow(clippy::panic)]
                    Order::Panic(transport) => {
                        blame::set(transport);
                        panic!("on purpose")
                    }
                }
            }
            door.receive(&mut mail);
            for (n, (letter, datagram)) in mail.letters().enumerate() {
                router.handle(now, letter.local, letter.remote, datagram, &mut outbox);
                if n % batch::SIZE == batch::SIZE - 1 {
                    router.advance(now, &mut outbox);
                    outbox.flush();
                }
            }
            mail.clear();
        }
        for (at, socket) in sockets.iter().enumerate().filter(|(at, _)| ready.has(*at)) {
            let _ = at;
            for _ in 0..BATCHES_IN_A_ROW {
                let now = clock();
                let received = inbox.receive(socket.fd.as_raw_fd())?;
                for (remote, datagram) in inbox.datagrams(received) {
                    match datagram {
                        Some(datagram) => {
                            router.handle(now, socket.local, remote, datagram, &mut outbox)
                        }
                        None => router.count_drop(DropReason::Oversized),
                    }
                }
                router.advance(now, &mut outbox);
                outbox.flush();
                if received < batch::SIZE {
                    break;
                }
            }
        }
        router.advance(clock(), &mut outbox);
        outbox.flush();
        for _ in 0..outbox.take_failed() {
            router.count_drop(DropReason::SendFailed);
        }
        for _ in 0..outbox.take_over_mtu() {
            router.count_drop(DropReason::OverMtu);
        }
        if now.since(narrowed) >= MTU_LIFE {
            narrowed = now;
            outbox.forget_mtu();
        }
        if !router.events().is_empty() {
            let mut events = lock(&shared.events);
            while let Some(event) = router.events().pop() {
                if !events.push(event) {
                    router.count_drop(DropReason::EventQueueFull);
                }
            }
            os::signal(&shared.waiting);
        }
        meter.publish(clock(), &router, shared);
    }
}

/// Measures the thread and publishes the snapshot, every [`SNAPSHOT_INTERVAL`].
struct Meter {
    published: Now,
    cpu: Duration,
}

impl Meter {
    fn new(now: Now) -> Self {
        Self {
            published: now,
            cpu: os::thread_cpu(),
        }
    }

    fn publish(&mut self, now: Now, router: &Router, shared: &Shared) {
        let elapsed = now.since(self.published);
        if elapsed < SNAPSHOT_INTERVAL {
            return;
        }
        let cpu = os::thread_cpu();
        let snapshot = WorkerSnapshot {
            router: router.snapshot(),
            busy_ratio: (cpu.saturating_sub(self.cpu).as_secs_f64() / elapsed.as_secs_f64())
                .min(1.0),
            cpu_seconds: cpu.as_secs_f64(),
        };
        (self.published, self.cpu) = (now, cpu);
        *lock(&shared.snapshot) = snapshot;
    }
}

/// A poisoned lock only says that a thread died while it held it; what is inside is plain values.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
