//! What the limit and the engine are measured with, the same for both: datagrams go to targets that nobody reads, a
//! publisher keeps the receive queue from running dry, and the CPU time of the thread (system time included) is read at the
//! same point of its work at both ends of a slice. Neither can tell which of the two it is.

use std::ffi::c_int;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

/// Packets that a frame of video has, and that the publisher sends at once.
pub const BURST: usize = 8;
/// No datagram here is larger.
pub const SLOT: usize = 1_500;
/// Turns of an empty loop, for each subscriber, between two looks at the queue: a few per cent of what a burst takes.
const LOOK: usize = 8;
/// Runs before a slice is counted: caches and the targets' buffers fill.
const WARM_UP: Duration = Duration::from_millis(40);
/// Nobody else ran on the core: the thread had at least this share of the wall time.
const CLEAN: f64 = 0.94;
/// The thread under test has stopped to read.
const STUCK: Duration = Duration::from_secs(10);

/// What forwarding is asked of both. `size` counts the bytes of a datagram as it leaves, header and tag included.
#[derive(Clone, Copy)]
pub struct Load {
    pub subscribers: usize,
    pub size: usize,
    pub gcm: bool,
}

impl Load {
    /// What is left for the payload behind a header of `header` bytes.
    pub fn payload(&self, header: usize) -> usize {
        self.size - header - if self.gcm { 16 } else { 10 }
    }
}

/// Where datagrams end: one address for each subscriber, one bound socket behind all of them, which is never read. Its buffer
/// is full from the first packets on, and the kernel drops what follows in the sender's time.
pub struct Targets {
    port: u16,
    _sink: UdpSocket,
}

impl Targets {
    pub fn new() -> Self {
        let sink = bind((Ipv4Addr::UNSPECIFIED, 0).into());
        set(sink.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, 4_096);
        let port = sink.local_addr().expect("address").port();
        Self { port, _sink: sink }
    }

    pub fn address(&self, subscriber: usize) -> SocketAddrV4 {
        let first = u32::from(Ipv4Addr::new(127, 1, 0, 1));
        SocketAddrV4::new(Ipv4Addr::from(first + subscriber as u32), self.port)
    }
}

/// A socket that shares its port with others on other addresses.
pub fn bind(address: SocketAddr) -> UdpSocket {
    let SocketAddr::V4(v4) = address else {
        unreachable!("IPv4 only")
    };
    let name = sockaddr(v4);
    // SAFETY: a new descriptor that nobody else owns; `name` is live and of the length given.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        assert!(fd >= 0, "socket");
        let socket = <UdpSocket as std::os::fd::FromRawFd>::from_raw_fd(fd);
        set(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1);
        let len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        assert_eq!(
            libc::bind(fd, (&raw const name).cast(), len),
            0,
            "bind {address}"
        );
        socket
    }
}

pub fn sockaddr(to: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: to.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from(*to.ip()).to_be(),
        },
        sin_zero: [0; 8],
    }
}

pub fn set(fd: RawFd, level: c_int, name: c_int, value: c_int) {
    let size = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: value is a live int of the size given. Refusal leaves the default.
    unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), size) };
}

/// A thread behind a socket, which forwards what comes to as many addresses as the load says.
pub trait Subject {
    /// Another handle of the socket that the thread reads.
    fn socket(&self) -> &UdpSocket;
    /// Name of the thread.
    fn thread(&self) -> &str;
    /// Writes the publisher's next packet, sealed, and returns its length.
    fn packet(&mut self, slot: &mut [u8]) -> usize;
    /// Called about once a second between slices: what a client would have to do to stay.
    fn stay(&mut self, _publisher: &UdpSocket) {}
}

/// One measurement.
#[derive(Clone, Copy)]
pub struct Slice {
    pub nanoseconds: f64,
    /// Nothing else took the core away meanwhile.
    pub clean: bool,
}

/// The publisher: as soon as the thread has taken a burst, the next one waits for it.
pub struct Publisher {
    pub socket: UdpSocket,
    slots: Box<[[u8; SLOT]]>,
    lengths: [usize; BURST],
    pub sent: u64,
}

impl Publisher {
    pub fn new() -> Self {
        let socket = bind((Ipv4Addr::LOCALHOST, 0).into());
        set(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, 4_096);
        Self {
            socket,
            slots: vec![[0; SLOT]; BURST].into(),
            lengths: [0; BURST],
            sent: 0,
        }
    }

    /// CPU time per outgoing packet, over about `length`.
    pub fn measure(&mut self, subject: &mut impl Subject, load: &Load, length: Duration) -> Slice {
        let clock = Clock::of(subject.thread());
        let until = Instant::now() + WARM_UP;
        while Instant::now() < until {
            self.burst(subject, load);
        }
        let (cpu, wall, mut packets) = (clock.read(), Instant::now(), 0);
        while wall.elapsed() < length {
            self.burst(subject, load);
            packets += BURST * load.subscribers;
        }
        // Here as at the start the thread has taken the last burst and has just begun to forward it.
        let (cpu, wall) = (clock.read() - cpu, wall.elapsed());
        Slice {
            nanoseconds: cpu.as_nanos() as f64 / packets as f64,
            clean: cpu.as_secs_f64() >= wall.as_secs_f64() * CLEAN,
        }
    }

    /// Sends a burst, seals the next one, and returns when the thread has taken what was sent.
    fn burst(&mut self, subject: &mut impl Subject, load: &Load) {
        let to = subject.socket().local_addr().expect("address");
        if self.sent == 0 {
            self.seal(subject);
        }
        for (slot, &length) in self.slots.iter().zip(&self.lengths) {
            self.socket.send_to(&slot[..length], to).expect("send");
        }
        self.sent += BURST as u64;
        self.seal(subject);
        let began = Instant::now();
        while waiting(subject.socket()) {
            assert!(
                began.elapsed() < STUCK,
                "{} does not read",
                subject.thread()
            );
            // A look takes the socket's counters away from the core that sends through it: a hundred looks for each packet
            // would be a good part of the packet's cost.
            for _ in 0..LOOK * load.subscribers {
                std::hint::spin_loop();
            }
        }
    }

    fn seal(&mut self, subject: &mut impl Subject) {
        for (slot, length) in self.slots.iter_mut().zip(&mut self.lengths) {
            *length = subject.packet(slot);
        }
    }
}

/// Whether something lies in the socket's receive queue.
fn waiting(socket: &UdpSocket) -> bool {
    let mut memory = [0u32; 9];
    let mut len = size_of_val(&memory) as libc::socklen_t;
    // SAFETY: memory is live and of the length given; its first word is the queue's (SK_MEMINFO_RMEM_ALLOC).
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            memory.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    assert_eq!(result, 0, "SO_MEMINFO");
    memory[0] > 0
}

/// The CPU clock of one thread of this process.
struct Clock(libc::clockid_t);

impl Clock {
    fn of(thread: &str) -> Self {
        // What pthread_getcpuclockid makes of a thread's number: CPUCLOCK_SCHED (2) and CPUCLOCK_PERTHREAD_MASK (4).
        Self(!task(thread) << 3 | 6)
    }

    fn read(&self) -> Duration {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: time is live.
        let result = unsafe { libc::clock_gettime(self.0, &raw mut time) };
        assert_eq!(result, 0, "thread clock");
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
}

/// Keeps one thread of this process on one core. A machine with a single core has nothing to choose.
pub fn pin(thread: &str, core: usize) {
    // SAFETY: a zeroed set is an empty one; it is live and of the size given.
    unsafe {
        let mut cores: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut cores);
        libc::sched_setaffinity(task(thread), size_of_val(&cores), &raw const cores);
    }
}

fn task(thread: &str) -> libc::pid_t {
    // A thread takes its name when it first runs.
    for _ in 0..1_000 {
        let found = std::fs::read_dir("/proc/self/task")
            .expect("threads")
            .filter_map(|task| task.ok()?.file_name().into_string().ok())
            .find(|task| {
                let name = std::fs::read_to_string(format!("/proc/self/task/{task}/comm"));
                name.is_ok_and(|name| name.trim_end() == thread)
            });
        if let Some(task) = found.and_then(|task| task.parse().ok()) {
            return task;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("no thread is called {thread}")
}
