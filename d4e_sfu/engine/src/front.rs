//! TCP 443: a thread that owns the listening sockets and every connection on them. What a connection is, its first bytes
//! decide (`connection`): ICE-TCP and TURN, whose datagrams are handed to the workers in memory and back; or HTTP behind
//! TLS, which is handed to Python as one end of a pair of Unix sockets, with the client's address beside it. Python never
//! sees a media packet, and this thread knows nobody: it counts, bounds and passes on.
//!
//! One readiness loop: 1. wait for sockets, workers or the clock; 2. take what the workers have for clients; 3. serve what
//! is ready; 4. hand over what has come; 5. now and then, end what has taken too long.

mod addresses;
mod connection;
pub mod credentials;
mod poll;
mod queue;
mod tally;
mod tls;
pub mod turn;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use self::addresses::Addresses;
pub use self::addresses::Limits;
use self::connection::{Common, Connection, End};
use self::credentials::Credentials;
use self::poll::{Interest, Poll, Ready};
pub use self::tally::{Dropped, Refused, Tally};
use self::tls::Certificate;
pub use self::turn::Peer;
use crate::driver::door::{Door, Mail};
use crate::driver::{lock, os};
use crate::now::Now;
use crate::outlet::{DATAGRAM, stream_of};

const _: () = assert!(DATAGRAM == crate::wire::stream::LARGEST);

/// Between two looks at what has taken too long.
const TICK: Duration = Duration::from_millis(500);
/// New connections of one listener before everybody else has his turn.
const ACCEPTS: usize = 64;
/// Where no descriptor is left, nobody new is asked for so long.
const EXHAUSTED: Duration = Duration::from_millis(200);
/// Connections that wait for Python to take them.
const MAX_HANDED: usize = 512;

// Tokens of epoll(7): two for each connection from 256 on.
const WAKE: u64 = 0;
const LISTENERS: u64 = 1;
const CONNECTIONS: u64 = 256;
const MAX_LISTENERS: usize = (CONNECTIONS - LISTENERS) as usize;

/// What is known at the start.
pub struct Settings {
    /// Of credentials of TURN.
    pub realm: String,
    pub secret: Vec<u8>,
    pub peers: Vec<Peer>,
    pub workers: usize,
    pub limits: Limits,
}

enum Order {
    /// This worker is reached here from now on.
    Attach(usize, Arc<Door>),
    Stop,
    /// To prove what happens then.
    #[cfg(any(test, feature = "peer"))]
    Panic,
}

struct Shared {
    handed: Mutex<VecDeque<(OwnedFd, SocketAddr)>>,
    /// Readable while connections wait to be taken.
    waiting: OwnedFd,
    tally: Mutex<Tally>,
    alive: AtomicBool,
}

pub struct Front {
    orders: Sender<Order>,
    wake: Arc<OwnedFd>,
    shared: Arc<Shared>,
    certificate: Arc<Certificate>,
    thread: Option<JoinHandle<()>>,
}

impl Front {
    /// `listeners` are listening TCP sockets; they are duplicated.
    pub fn start(listeners: &[RawFd], name: &str, settings: Settings) -> io::Result<Self> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
        if listeners.is_empty() || listeners.len() > MAX_LISTENERS {
            return Err(invalid("a front needs listening sockets, 255 at most"));
        }
        let lowest = settings.peers.iter().map(|peer| peer.worker).max();
        if lowest.is_some_and(|worker| worker >= settings.workers) {
            return Err(invalid("a peer of a worker that there is not"));
        }
        let listeners = listeners
            .iter()
            .map(|&fd| adopt(fd))
            .collect::<io::Result<Vec<_>>>()?;
        let wake = Arc::new(os::eventfd()?);
        let certificate = Arc::new(Certificate::default());
        let tls = tls::config(Arc::clone(&certificate)).map_err(|error| invalid(&error))?;
        let shared = Arc::new(Shared {
            handed: Mutex::default(),
            waiting: os::eventfd()?,
            tally: Mutex::default(),
            alive: AtomicBool::new(true),
        });
        let (orders, inbox) = channel();
        let thread = {
            let (wake, shared) = (Arc::clone(&wake), Arc::clone(&shared));
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || {
                    // The one place where a panic is caught. Whoever looks sees a thread that is no longer alive.
                    let _ = catch_unwind(AssertUnwindSafe(|| {
                        let began = Instant::now();
                        let mut looped = Loop::new(listeners, wake, &shared, settings, tls)?;
                        looped.run(&inbox, began)
                    }));
                    shared.alive.store(false, Ordering::Release);
                })?
        };
        Ok(Self {
            orders,
            wake,
            shared,
            certificate,
            thread: Some(thread),
        })
    }

    /// For who connects from now on. In words where the pair is not right; then nothing has changed.
    pub fn set_certificate(&self, chain: &[u8], key: &[u8]) -> Result<(), String> {
        self.certificate.set(chain, key)
    }

    pub fn attach(&self, worker: usize, door: Arc<Door>) {
        door.attach(Arc::clone(&self.wake));
        self.order(Order::Attach(worker, door));
    }

    #[must_use]
    pub fn event_fd(&self) -> RawFd {
        self.shared.waiting.as_raw_fd()
    }

    /// Connections of HTTP, oldest first: the server's end, and the client's address.
    #[must_use]
    pub fn handed(&self) -> Vec<(OwnedFd, SocketAddr)> {
        let mut handed = lock(&self.shared.handed);
        os::clear(&self.shared.waiting);
        handed.drain(..).collect()
    }

    /// At most half a second old.
    #[must_use]
    pub fn tally(&self) -> Tally {
        lock(&self.shared.tally).clone()
    }

    #[must_use]
    pub fn alive(&self) -> bool {
        self.shared.alive.load(Ordering::Acquire)
    }

    /// Ends the thread and waits for it; all connections end.
    pub fn stop(&mut self) {
        self.order(Order::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    #[cfg(any(test, feature = "peer"))]
    pub fn panic_for_test(&self) {
        self.order(Order::Panic);
    }

    fn order(&self, order: Order) {
        if self.orders.send(order).is_ok() {
            os::signal(&self.wake);
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.stop();
    }
}

fn adopt(fd: RawFd) -> io::Result<TcpListener> {
    let listener = TcpListener::from(os::duplicate(fd)?);
    listener.local_addr()?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

struct Loop<'a> {
    poll: Poll,
    wake: Arc<OwnedFd>,
    shared: &'a Shared,
    listeners: Vec<TcpListener>,
    /// Not asked for new connections until then.
    exhausted: Option<Now>,
    doors: Vec<Option<Arc<Door>>>,
    addresses: Addresses,
    common: Common,
    connections: HashMap<u64, Connection>,
    next: u64,
    ticked: Now,
}

impl<'a> Loop<'a> {
    fn new(
        listeners: Vec<TcpListener>,
        wake: Arc<OwnedFd>,
        shared: &'a Shared,
        settings: Settings,
        tls: Arc<rustls::ServerConfig>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let read = Interest {
            read: true,
            write: false,
        };
        poll.set(wake.as_raw_fd(), WAKE, &mut Interest::default(), read)?;
        for (at, listener) in listeners.iter().enumerate() {
            let token = LISTENERS + at as u64;
            poll.set(listener.as_raw_fd(), token, &mut Interest::default(), read)?;
        }
        let credentials = Credentials::new(&settings.realm, &settings.secret);
        let turn = turn::Server::new(credentials, settings.peers);
        Ok(Self {
            poll,
            wake,
            shared,
            listeners,
            exhausted: None,
            doors: vec![None; settings.workers],
            addresses: Addresses::new(settings.limits),
            common: Common::new(tls, turn, settings.workers),
            connections: HashMap::new(),
            next: CONNECTIONS / 2,
            ticked: Now::default(),
        })
    }

    fn run(&mut self, orders: &Receiver<Order>, began: Instant) -> io::Result<()> {
        // One second ahead of zero, so that "a second ago" is a time too.
        let clock = || Now(began.elapsed().as_nanos() as u64).plus(Duration::from_secs(1));
        let mut ready = Vec::new();
        let mut mail = Mail::default();
        loop {
            self.poll.wait(TICK, &mut ready)?;
            let now = clock();
            for &Ready {
                token,
                readable,
                writable,
            } in &ready
            {
                match token {
                    WAKE => {
                        os::clear(&self.wake);
                        for order in orders.try_iter() {
                            match order {
                                Order::Attach(worker, door) => {
                                    if let Some(place) = self.doors.get_mut(worker) {
                                        *place = Some(door);
                                    }
                                }
                                Order::Stop => return Ok(()),
                                #[cfg(any(test, feature = "peer"))]
                                #[allow(clippy::panic)]
                                Order::Panic => panic!("on purpose"),
                            }
                        }
                        self.deliver(now, &mut mail);
                    }
                    LISTENERS..CONNECTIONS => self.accept(now, (token - LISTENERS) as usize),
                    _ => {
                        let is = Interest {
                            read: readable,
                            write: writable,
                        };
                        self.serve(now, token, is);
                    }
                }
            }
            for (door, mail) in self.doors.iter().zip(&mut self.common.mail) {
                if mail.is_empty() {
                    continue;
                }
                let refused = match door {
                    Some(door) => door.submit(mail) as u64,
                    None => mail.letters().count() as u64,
                };
                mail.clear();
                self.common.tally.dropped(Dropped::WorkerBusy, refused);
            }
            self.hand_over();
            if now.since(self.ticked) >= TICK {
                self.tick(now);
            }
        }
    }

    fn accept(&mut self, now: Now, listener: usize) {
        if self.exhausted.is_some_and(|until| now < until) {
            std::thread::sleep(Duration::from_millis(1)); // or the loop would spin: it stays ready
            return;
        }
        self.exhausted = None;
        for _ in 0..ACCEPTS {
            let (socket, remote) = match self.listeners[listener].accept() {
                Ok(accepted) => accepted,
                Err(error) => {
                    if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) {
                        self.exhausted = Some(now.plus(EXHAUSTED));
                    }
                    return;
                }
            };
            self.common.tally.accepted += 1;
            if let Err(why) = self.addresses.enter(now, remote.ip()) {
                self.common.tally.refused(why);
                continue; // closed, without a word
            }
            let number = self.next;
            self.next += 1;
            let made = Connection::new(number, socket, remote, now).and_then(|mut connection| {
                connection.watch(&self.poll, 2 * number, 2 * number + 1)?;
                Ok(connection)
            });
            match made {
                Ok(connection) => {
                    self.connections.insert(number, connection);
                    // What came with the opening is here already, as a rule.
                    let read = Interest {
                        read: true,
                        write: false,
                    };
                    self.serve(now, 2 * number, read);
                }
                Err(_) => self.addresses.leave(remote.ip()),
            }
        }
    }

    /// A connection, or its pair, is ready.
    fn serve(&mut self, now: Now, token: u64, ready: Interest) {
        let number = token / 2;
        let Some(connection) = self.connections.get_mut(&number) else {
            return; // it has ended in this very round
        };
        self.common.takes_http = self.common.handed.len() < MAX_HANDED;
        let step = if token % 2 == 1 {
            connection.pair_ready(now, ready, &mut self.common)
        } else if ready.read {
            connection.readable(now, &mut self.common)
        } else {
            connection.flush(now, &mut self.common)
        };
        let step =
            step.and_then(|()| Ok(connection.watch(&self.poll, 2 * number, 2 * number + 1)?));
        if let Err(end) = step {
            self.end(number, &end);
        }
    }

    /// What the workers have for clients.
    fn deliver(&mut self, now: Now, mail: &mut Mail) {
        let mut touched = Vec::new();
        for worker in 0..self.doors.len() {
            let Some(door) = &self.doors[worker] else {
                continue;
            };
            door.collect(mail);
            for (letter, datagram) in mail.letters() {
                let Some((number, way)) = stream_of(letter.local) else {
                    continue;
                };
                let Some(connection) = self.connections.get_mut(&number) else {
                    self.common.tally.dropped(Dropped::Gone, 1);
                    continue;
                };
                connection.send(now, worker, way, letter.class, datagram, &mut self.common);
                if touched.last() != Some(&number) {
                    touched.push(number);
                }
            }
            mail.clear();
        }
        for number in touched {
            let nothing = Interest::default();
            self.serve(now, 2 * number, nothing);
        }
    }

    fn hand_over(&mut self) {
        if self.common.handed.is_empty() {
            return;
        }
        let mut handed = lock(&self.shared.handed);
        for (fd, remote) in self.common.handed.drain(..) {
            if handed.len() < MAX_HANDED {
                handed.push_back((fd, remote));
            } else {
                self.common.tally.refused(Refused::HttpBusy); // its pair is closed, so it ends by itself
            }
        }
        os::signal(&self.shared.waiting);
    }

    fn tick(&mut self, now: Now) {
        self.ticked = now;
        let ended: Vec<(u64, End)> = self
            .connections
            .iter_mut()
            .filter_map(|(&number, connection)| {
                Some((number, connection.tick(now, &mut self.common).err()?))
            })
            .collect();
        for (number, end) in ended {
            self.end(number, &end);
        }
        self.addresses.forget(now);
        let mut open = [0; Tally::KINDS.len()];
        for connection in self.connections.values() {
            open[connection.kind()] += 1;
        }
        self.common.tally.open = open;
        *lock(&self.shared.tally) = self.common.tally.clone();
    }

    fn end(&mut self, number: u64, end: &End) {
        let Some(mut connection) = self.connections.remove(&number) else {
            return;
        };
        if let End::Refused(why) = end {
            self.common.tally.refused(*why);
        }
        connection.release(&mut self.common);
        self.addresses.leave(connection.remote().ip());
    }
}

#[cfg(test)]
mod tests;
