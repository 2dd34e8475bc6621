//! One TCP connection: what it turns out to be, what comes in, what waits to go out. Its first bytes decide; behind TLS the
//! first plaintext decides again. What it may do before it has proven anything is bounded in time and bytes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection};

use super::poll::{self, Interest, Poll};
use super::queue::Queue;
use super::tally::{Dropped, Refused, Tally};
use super::turn::{Effect, Server, Turn};
use crate::bucket::Bucket;
use crate::driver::door::Mail;
use crate::driver::os;
use crate::now::Now;
use crate::outlet::{Class, stream};
use crate::wire::stream::{self as pieces, Opening, Piece};
use crate::wire::turn::{write_channel_data, write_data_indication};

/// From the first byte until it is known who that is.
const PATIENCE: Duration = Duration::from_secs(10);
/// Nobody who uses media is silent for longer: consent alone is asked for every few seconds (RFC 7675).
const SILENCE: Duration = Duration::from_secs(60);
/// A piece of an answer of HTTP may take so long to leave: whoever reads more slowly, or not at all, is not served. What
/// carries media has a time of its own (`poll::tune_for_media`).
const STALLED: Duration = Duration::from_secs(30);
/// What is left to say may take so long to be read.
const FAREWELL: Duration = Duration::from_secs(2);
/// Checks of a connection before one has been answered.
const CHECKS: u8 = 20;
/// Datagrams of one client: per second, and at once. 5,000 are 48 Mbit/s of pictures; what waits for a worker is everybody's
/// (`driver::door`), and a frame of nothing takes a place in it like any other.
const DATAGRAMS: (u64, u64) = (5_000, 1_000);
/// What is read and written at once.
const CHUNK: usize = 16 << 10;
/// Of one connection, before others have their turn.
const TURN_BYTES: usize = 4 * CHUNK;
/// Of what waits, so much leaves as one piece (and, in TLS, one record).
const BATCH: usize = 4 << 10;
/// What aiohttp has not read yet of one connection.
const PAIR_BUFFER: libc::c_int = 64 << 10;

/// Why a connection ends here.
#[derive(Debug)]
pub enum End {
    Closed,
    Refused(Refused),
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Closed
    }
}

type Step = Result<(), End>;

enum Stage {
    /// Nobody knows yet.
    Opening,
    /// The worker that has answered.
    Ice(Option<usize>),
    Turn(Turn),
    Http(Pair),
    /// aiohttp has said its last word.
    Ended,
}

/// The way to aiohttp, by a pair of Unix sockets: it has the other.
struct Pair {
    socket: UnixStream,
    /// What it has not taken yet.
    waiting: Vec<u8>,
    told: Interest,
    /// The client will say nothing more.
    ended: bool,
}

/// What all connections work with.
pub struct Common {
    pub tls: Arc<ServerConfig>,
    pub turn: Server,
    /// To each worker.
    pub mail: Vec<Mail>,
    pub tally: Tally,
    /// For Python: one end of a pair, whose it is, and where he came in.
    pub handed: Vec<(OwnedFd, SocketAddr)>,
    /// Whether another may be handed over.
    pub takes_http: bool,
    pub chunk: Box<[u8]>,
    pub plain: Box<[u8]>,
    pub batch: Vec<u8>,
}

impl Common {
    pub fn new(tls: Arc<ServerConfig>, turn: Server, workers: usize) -> Self {
        Self {
            tls,
            turn,
            mail: (0..workers).map(|_| Mail::default()).collect(),
            tally: Tally::default(),
            handed: Vec::new(),
            takes_http: true,
            chunk: vec![0; CHUNK].into_boxed_slice(),
            plain: vec![0; CHUNK].into_boxed_slice(),
            batch: Vec::with_capacity(2 * BATCH),
        }
    }
}

pub struct Connection {
    number: u64,
    socket: TcpStream,
    remote: SocketAddr,
    stage: Stage,
    tls: Option<Box<ServerConnection>>,
    /// What has come and is no whole piece yet.
    incoming: Vec<u8>,
    /// What is to leave first: the kernel has taken the bytes before it. Not in TLS, which keeps its own.
    outgoing: Vec<u8>,
    queue: Queue,
    datagrams: Bucket,
    /// Since when the kernel takes no more.
    blocked: Option<Now>,
    /// What epoll(7) was told.
    told: Interest,
    opened: Now,
    heard: Now,
    /// Somebody of ours knows him.
    proven: bool,
    checks: u8,
    /// Nothing more will be read from it.
    deaf: bool,
    /// It ends then, when all is said or not.
    closing: Option<Now>,
}

impl Connection {
    pub fn new(number: u64, socket: TcpStream, remote: SocketAddr, now: Now) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        Ok(Self {
            number,
            socket,
            remote,
            stage: Stage::Opening,
            tls: None,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            queue: Queue::default(),
            datagrams: Bucket::new(DATAGRAMS.0, DATAGRAMS.1, now),
            blocked: None,
            told: Interest::default(),
            opened: now,
            heard: now,
            proven: false,
            checks: 0,
            deaf: false,
            closing: None,
        })
    }

    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    pub fn fd(&self) -> i32 {
        self.socket.as_raw_fd()
    }

    /// As an index into [`Tally::KINDS`].
    pub fn kind(&self) -> usize {
        match self.stage {
            Stage::Opening => 0,
            Stage::Ice(_) => 1,
            Stage::Turn(_) => 2,
            Stage::Http(_) | Stage::Ended => 3,
        }
    }

    // --- in ----------------------------------------------------------------------------------------------------------

    /// The client has sent something, or has gone.
    pub fn readable(&mut self, now: Now, common: &mut Common) -> Step {
        let mut chunk = std::mem::take(&mut common.chunk);
        let step = self.read(now, &mut chunk, common);
        common.chunk = chunk;
        step?;
        self.flush(now, common)
    }

    fn read(&mut self, now: Now, chunk: &mut [u8], common: &mut Common) -> Step {
        let mut taken = 0;
        while taken < TURN_BYTES && !self.deaf && !self.waits_for_http() {
            let len = match self.socket.read(chunk) {
                Ok(0) => return self.ended(),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            taken += len;
            self.heard = now;
            if self.closing.is_some() {
                continue; // he may go on talking; nobody listens
            }
            self.raw(now, &chunk[..len], common)?;
            if len < chunk.len() {
                break;
            }
        }
        Ok(())
    }

    fn waits_for_http(&self) -> bool {
        matches!(&self.stage, Stage::Http(pair) if !pair.waiting.is_empty())
    }

    /// The client will send no more: who speaks HTTP may wait for an answer still.
    fn ended(&mut self) -> Step {
        self.deaf = true;
        match &mut self.stage {
            Stage::Http(pair) if self.closing.is_none() => {
                pair.ended = true;
                pair.forward()
            }
            _ => Err(End::Closed),
        }
    }

    /// Bytes as they come off the wire.
    fn raw(&mut self, now: Now, bytes: &[u8], common: &mut Common) -> Step {
        if self.tls.is_some() {
            return self.decrypt(now, bytes, common);
        }
        if !matches!(self.stage, Stage::Opening) {
            return self.plain(now, bytes, common);
        }
        self.incoming.extend_from_slice(bytes);
        match pieces::opening(&self.incoming) {
            None => Ok(()),
            Some(Opening::Tls) => {
                let hello = std::mem::take(&mut self.incoming);
                let tls = ServerConnection::new(Arc::clone(&common.tls));
                self.tls = Some(Box::new(tls.map_err(|_| End::Refused(Refused::TlsFailed))?));
                self.decrypt(now, &hello, common)
            }
            Some(Opening::Http) => Err(End::Refused(Refused::PlainHttp)),
            Some(opening) => self.decided(now, opening, common),
        }
    }

    fn decrypt(&mut self, now: Now, mut bytes: &[u8], common: &mut Common) -> Step {
        let Some(mut tls) = self.tls.take() else {
            return Ok(());
        };
        let mut plain = std::mem::take(&mut common.plain);
        let step = (|| {
            while !bytes.is_empty() {
                tls.read_tls(&mut bytes)?;
                let state = tls
                    .process_new_packets()
                    .map_err(|_| End::Refused(Refused::TlsFailed))?;
                let mut left = state.plaintext_bytes_to_read();
                while left > 0 {
                    let len = tls.reader().read(&mut plain)?;
                    left = left.saturating_sub(len);
                    self.plain(now, &plain[..len], common)?;
                }
                if state.peer_has_closed() {
                    return self.ended();
                }
            }
            Ok(())
        })();
        if matches!(step, Err(End::Refused(Refused::TlsFailed))) {
            let _ = tls.write_tls(&mut self.socket); // the alert says why
        }
        common.plain = plain;
        self.tls = Some(tls);
        step
    }

    /// Bytes of what is spoken inside TLS, or without it.
    fn plain(&mut self, now: Now, bytes: &[u8], common: &mut Common) -> Step {
        if let Stage::Http(pair) = &mut self.stage {
            return pair.write(bytes);
        }
        if matches!(self.stage, Stage::Opening) {
            self.incoming.extend_from_slice(bytes);
            return match pieces::opening(&self.incoming) {
                None => Ok(()),
                Some(opening) => self.decided(now, opening, common),
            };
        }
        if self.incoming.is_empty() {
            let taken = self.pieces(now, bytes, common)?;
            self.incoming.extend_from_slice(&bytes[taken..]);
        } else {
            self.incoming.extend_from_slice(bytes);
            let held = std::mem::take(&mut self.incoming);
            let taken = self.pieces(now, &held, common)?;
            self.incoming.extend_from_slice(&held[taken..]);
        }
        Ok(())
    }

    /// The first bytes have said what it is; they are in `incoming`.
    fn decided(&mut self, now: Now, opening: Opening, common: &mut Common) -> Step {
        let first = std::mem::take(&mut self.incoming);
        match opening {
            Opening::Http => {
                if !common.takes_http {
                    return Err(End::Refused(Refused::HttpBusy));
                }
                let (ours, theirs) = UnixStream::pair()?;
                ours.set_nonblocking(true)?;
                theirs.set_nonblocking(true)?;
                for fd in [ours.as_raw_fd(), theirs.as_raw_fd()] {
                    os::set(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, PAIR_BUFFER);
                }
                common.handed.push((theirs.into(), self.remote));
                self.proven = true;
                self.stage = Stage::Http(Pair {
                    socket: ours,
                    waiting: Vec::new(),
                    told: Interest::default(),
                    ended: false,
                });
            }
            Opening::Turn => {
                poll::tune_for_media(self.fd(), self.remote.is_ipv6());
                self.stage = Stage::Turn(Turn::new(self.number));
            }
            Opening::Ice => {
                poll::tune_for_media(self.fd(), self.remote.is_ipv6());
                self.stage = Stage::Ice(None);
            }
            Opening::Tls | Opening::Unknown => {
                return Err(End::Refused(Refused::UnknownProtocol));
            }
        }
        self.plain(now, &first, common)
    }

    /// Whole pieces at the head of `bytes`; returns how many bytes they were.
    fn pieces(&mut self, now: Now, bytes: &[u8], common: &mut Common) -> Result<usize, End> {
        let mut at = 0;
        loop {
            let cut = if matches!(self.stage, Stage::Ice(_)) {
                pieces::frame
            } else {
                pieces::turn
            };
            let (piece, taken) = cut(&bytes[at..]);
            at += taken;
            match (piece, &mut self.stage) {
                (Piece::Incomplete, _) => return Ok(at),
                (Piece::Broken, _) => return Err(End::Refused(Refused::Malformed)),
                (Piece::Message(datagram), Stage::Ice(worker)) => {
                    let worker = *worker;
                    self.check(now, worker, datagram, common)?;
                }
                (Piece::Message(message), Stage::Turn(_)) => self.turn(now, message, common)?,
                (Piece::Channel(number, data), Stage::Turn(turn)) => {
                    let effect = turn.channel(now, number, data);
                    self.take(now, effect, &[], common)?;
                }
                _ => return Ok(at),
            }
        }
    }

    /// A datagram by ICE-TCP. Whose it is, only a worker can tell: until one has answered, all are asked.
    fn check(
        &mut self,
        now: Now,
        worker: Option<usize>,
        datagram: &[u8],
        common: &mut Common,
    ) -> Step {
        let local = stream(self.number, 0);
        common.tally.received += 1;
        if !self.datagrams.take(now, 1) {
            common.tally.dropped(Dropped::TooMany, 1);
            return Ok(());
        }
        let mut put = |worker: &mut Mail| {
            if !worker.put(local, self.remote, Class::Picture, datagram) {
                common.tally.dropped(Dropped::WorkerBusy, 1);
            }
        };
        match worker {
            Some(worker) => put(&mut common.mail[worker]),
            None => {
                self.checks += 1;
                let is_check = matches!(datagram, [0, 1, ..]);
                if self.checks > CHECKS || !is_check {
                    return Err(End::Refused(Refused::Unproven));
                }
                common.mail.iter_mut().for_each(put);
            }
        }
        Ok(())
    }

    fn turn(&mut self, now: Now, message: &[u8], common: &mut Common) -> Step {
        let Stage::Turn(turn) = &mut self.stage else {
            return Ok(());
        };
        let mut out = [0; 512];
        let wall = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let held = turn.is_allocated();
        let effect = turn.message(now, wall, self.remote, message, &mut common.turn, &mut out);
        self.proven |= turn.is_allocated();
        let ended = held && !turn.is_allocated();
        self.take(now, effect, &out, common)?;
        if ended {
            self.closing = Some(now.plus(FAREWELL));
        }
        Ok(())
    }

    fn take(&mut self, now: Now, effect: Effect<'_>, out: &[u8], common: &mut Common) -> Step {
        match effect {
            Effect::Nothing => {}
            Effect::Answer(len) => {
                self.queue.push(now, Class::Voice, &out[..len]);
            }
            Effect::Refused(why) => common.tally.dropped(why, 1),
            Effect::Close => return Err(End::Refused(Refused::TurnRefused)),
            Effect::Relay(peer, data) => {
                common.tally.received += 1;
                let Stage::Turn(turn) = &self.stage else {
                    return Ok(());
                };
                let (Some(relayed), Some(to)) = (turn.relayed(), common.turn.peers.get(peer))
                else {
                    return Ok(());
                };
                if !self.datagrams.take(now, 1) {
                    common.tally.dropped(Dropped::TooMany, 1);
                    return Ok(());
                }
                let local = stream(self.number, peer as u16 + 1);
                let taken = data.len() <= pieces::LARGEST
                    && common.mail[to.worker].put(local, relayed, Class::Picture, data);
                if !taken {
                    common.tally.dropped(Dropped::WorkerBusy, 1);
                }
            }
        }
        Ok(())
    }

    // --- out ---------------------------------------------------------------------------------------------------------

    /// A datagram of a worker's for this client, into his queue; `flush` follows.
    pub fn send(
        &mut self,
        now: Now,
        worker: usize,
        way: u16,
        class: Class,
        datagram: &[u8],
        common: &mut Common,
    ) {
        let mut out = [0; pieces::LARGEST + 64];
        let written = match &mut self.stage {
            Stage::Ice(known) => {
                self.proven = true;
                *known = known.or(Some(worker));
                let len = datagram.len();
                match (u16::try_from(len), out.get_mut(2..2 + len)) {
                    (Ok(short), Some(body)) => {
                        body.copy_from_slice(datagram);
                        out[..2].copy_from_slice(&short.to_be_bytes());
                        Some(2 + len)
                    }
                    _ => None,
                }
            }
            Stage::Turn(turn) => {
                let peer = usize::from(way.saturating_sub(1));
                let found = turn.way(now, peer, &common.turn);
                match (found, common.turn.peers.get(peer)) {
                    (Some(Some(channel)), _) => write_channel_data(&mut out, channel, datagram),
                    (Some(None), Some(from)) => {
                        let transaction = transaction(self.number, now);
                        write_data_indication(&mut out, &transaction, from.address, datagram)
                    }
                    _ => {
                        common.tally.dropped(Dropped::NoPermission, 1);
                        return;
                    }
                }
            }
            Stage::Opening | Stage::Http(_) | Stage::Ended => None,
        };
        match written {
            Some(len) if self.queue.push(now, class, &out[..len]) => common.tally.sent += 1,
            Some(_) => common.tally.dropped(Dropped::QueueFull, 1),
            None => common.tally.dropped(Dropped::Gone, 1),
        }
    }

    /// As much of what waits as the connection takes now.
    pub fn flush(&mut self, now: Now, common: &mut Common) -> Step {
        loop {
            if !self.write_out()? {
                self.blocked.get_or_insert(now);
                return Ok(()); // epoll(7) will say when
            }
            if self.queue.is_empty() {
                break;
            }
            if poll::unsent(self.fd()) >= poll::UNSENT / 2 {
                self.blocked.get_or_insert(now);
                return Ok(());
            }
            let mut late = 0;
            common.batch.clear();
            while common.batch.len() < BATCH && self.queue.pop(now, &mut common.batch, &mut late) {}
            common.tally.dropped(Dropped::Late, late);
            match &mut self.tls {
                Some(tls) => tls.writer().write_all(&common.batch)?,
                None => self.outgoing.extend_from_slice(&common.batch),
            }
        }
        self.blocked = None;
        if self.closing.is_some() && self.tls.as_ref().is_none_or(|tls| !tls.wants_write()) {
            let _ = self.socket.shutdown(Shutdown::Write);
            if self.deaf {
                return Err(End::Closed);
            }
        }
        Ok(())
    }

    /// What has begun to leave. False: the kernel takes no more of it now.
    fn write_out(&mut self) -> Result<bool, End> {
        loop {
            let result = match &mut self.tls {
                Some(tls) if tls.wants_write() => tls.write_tls(&mut self.socket),
                None if !self.outgoing.is_empty() => self.socket.write(&self.outgoing),
                _ => return Ok(true),
            };
            match result {
                Ok(0) => return Err(End::Closed),
                Ok(len) if self.tls.is_none() => {
                    self.outgoing.drain(..len);
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    // --- the pair ----------------------------------------------------------------------------------------------------

    /// aiohttp has taken something, or says something, or has ended.
    pub fn pair_ready(&mut self, now: Now, ready: Interest, common: &mut Common) -> Step {
        if ready.write
            && let Stage::Http(pair) = &mut self.stage
        {
            pair.forward()?;
        }
        if ready.read {
            self.answer(now, common)?;
        }
        self.flush(now, common)
    }

    fn answer(&mut self, now: Now, common: &mut Common) -> Step {
        let (Stage::Http(pair), Some(tls)) = (&mut self.stage, &mut self.tls) else {
            return Ok(());
        };
        if tls.wants_write() {
            return Ok(()); // one piece after the other
        }
        match pair.socket.read(&mut common.chunk) {
            Ok(len) if len > 0 => tls.writer().write_all(&common.chunk[..len])?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => {
                tls.send_close_notify();
                self.closing = Some(now.plus(FAREWELL));
                self.stage = Stage::Ended;
            }
        }
        Ok(())
    }

    // --- readiness and time ------------------------------------------------------------------------------------------

    /// Tells epoll(7) what it waits for, on its own socket and on its pair's.
    pub fn watch(&mut self, poll: &Poll, token: u64, pair_token: u64) -> io::Result<()> {
        let (fd, blocked) = (self.fd(), self.blocked.is_some());
        let own = Interest {
            read: !self.deaf && !self.waits_for_http(),
            write: blocked,
        };
        poll.set(fd, token, &mut self.told, own)?;
        if let Stage::Http(pair) = &mut self.stage {
            let wanted = Interest {
                read: !blocked,
                write: !pair.waiting.is_empty(),
            };
            poll.set(pair.socket.as_raw_fd(), pair_token, &mut pair.told, wanted)?;
        }
        Ok(())
    }

    /// Now and then.
    pub fn tick(&mut self, now: Now, common: &mut Common) -> Step {
        if self.closing.is_some_and(|at| now >= at) {
            return Err(End::Closed);
        }
        if let Stage::Turn(turn) = &mut self.stage
            && turn.expire(now, &mut common.turn)
        {
            return Err(End::Refused(Refused::Idle));
        }
        if !self.proven && now.since(self.opened) >= PATIENCE {
            return Err(End::Refused(Refused::Slow));
        }
        let http = matches!(self.stage, Stage::Http(_) | Stage::Ended);
        if http
            && self
                .blocked
                .is_some_and(|since| now.since(since) >= STALLED)
        {
            return Err(End::Refused(Refused::Slow));
        }
        let silent = !http && now.since(self.heard) >= SILENCE;
        if silent {
            return Err(End::Refused(Refused::Idle));
        }
        Ok(())
    }

    /// It has ended.
    pub fn release(&mut self, common: &mut Common) {
        if let Stage::Turn(turn) = &mut self.stage {
            turn.release(&mut common.turn);
        }
    }
}

impl Pair {
    fn write(&mut self, bytes: &[u8]) -> Step {
        self.waiting.extend_from_slice(bytes);
        self.forward()
    }

    /// What waits, as far as aiohttp takes it; then the end, where there is one. Who has closed his end gets no more.
    fn forward(&mut self) -> Step {
        while !self.waiting.is_empty() {
            match self.socket.write(&self.waiting) {
                Ok(len) => {
                    self.waiting.drain(..len);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.waiting.clear(),
            }
        }
        self.waiting = Vec::new();
        if self.ended {
            let _ = self.socket.shutdown(Shutdown::Write);
        }
        Ok(())
    }
}

/// Of an indication, which nobody answers: it has to differ, and that is all (RFC 8489 §5).
fn transaction(connection: u64, now: Now) -> [u8; 12] {
    let mut id = [0; 12];
    id[..8].copy_from_slice(&now.0.to_be_bytes());
    id[8..].copy_from_slice(&(connection as u32).to_be_bytes());
    id
}
