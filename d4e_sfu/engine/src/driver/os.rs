//! The few system calls of the worker, each behind a safe function. Linux only.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

pub fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

pub fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl takes any number; a successful F_DUPFD_CLOEXEC returns a new descriptor that nobody else owns.
    unsafe {
        Ok(OwnedFd::from_raw_fd(check(libc::fcntl(
            fd,
            libc::F_DUPFD_CLOEXEC,
            0,
        ))?))
    }
}

pub fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: as above.
    unsafe {
        Ok(OwnedFd::from_raw_fd(check(libc::eventfd(
            0,
            libc::EFD_CLOEXEC | libc::EFD_NONBLOCK,
        ))?))
    }
}

/// Makes an eventfd readable.
pub fn signal(fd: &OwnedFd) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: the buffer outlives the call. A full counter (EAGAIN) is readable already.
    unsafe { libc::write(fd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
}

/// Makes it unreadable.
pub fn clear(fd: &OwnedFd) {
    let mut count = [0u8; 8];
    // SAFETY: the buffer outlives the call. EAGAIN means that it was not readable.
    unsafe { libc::read(fd.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
}

pub fn set(fd: RawFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) {
    // SAFETY: value is a live int of the size given. Refusal leaves the default, which works, only less well.
    unsafe {
        libc::setsockopt(
            fd,
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        );
    }
}

/// Never blocks, marks what leaves as pictures, and neither fragments nor believes forged path-MTU messages
/// (`IP_PMTUDISC_PROBE`). Its buffers are as
/// whoever has bound it wants them: systemd may give more than we could, and to ask again would take it away.
pub fn tune(fd: RawFd, ipv6: bool) {
    // SAFETY: fcntl on a descriptor that the caller owns.
    unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK);
    }
    if ipv6 {
        set(
            fd,
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_PMTUDISC_PROBE,
        );
        set(fd, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, ASSURED);
    } else {
        set(
            fd,
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_PROBE,
        );
        set(fd, libc::IPPROTO_IP, libc::IP_TOS, ASSURED);
    }
}

// DSCPs (RFC 8837 §5) where the header has them, above the two bits of ECN: EF, AF41, and none.
pub const EXPEDITED: libc::c_int = 46 << 2;
pub const ASSURED: libc::c_int = 34 << 2;
pub const BEST_EFFORT: libc::c_int = 0;

/// A TCP socket would look like one that never has anything to say, and be readable for ever.
pub fn is_udp(fd: RawFd) -> bool {
    let mut kind: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: kind is a live int of the length given.
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_TYPE,
            (&raw mut kind).cast(),
            &raw mut len,
        )
    };
    result == 0 && kind == libc::SOCK_DGRAM
}

pub fn local_address(fd: RawFd) -> io::Result<SocketAddr> {
    let mut name = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: name is a zeroed storage of the length given; all bit patterns are valid for it.
    let name = unsafe {
        check(libc::getsockname(
            fd,
            name.as_mut_ptr().cast(),
            &raw mut len,
        ))?;
        name.assume_init()
    };
    address(&name)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a bound IP socket"))
}

#[must_use]
pub fn address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says which of the structures that fit into the storage it is.
            let name = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(name.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let name = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, u16::from_be(name.sin6_port), 0, name.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// Writes `address` into `name` and returns its length.
pub fn set_address(name: &mut libc::sockaddr_storage, address: SocketAddr) -> libc::socklen_t {
    match address {
        SocketAddr::V4(v4) => {
            // SAFETY: the storage is large enough and aligned for every socket address.
            let name = unsafe { &mut *(&raw mut *name).cast::<libc::sockaddr_in>() };
            name.sin_family = libc::AF_INET as libc::sa_family_t;
            name.sin_port = v4.port().to_be();
            name.sin_addr.s_addr = u32::from(*v4.ip()).to_be();
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(v6) => {
            // SAFETY: as above.
            let name = unsafe { &mut *(&raw mut *name).cast::<libc::sockaddr_in6>() };
            name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            name.sin6_port = v6.port().to_be();
            name.sin6_addr.s6_addr = v6.ip().octets();
            name.sin6_flowinfo = 0;
            name.sin6_scope_id = v6.scope_id();
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

/// CPU time of the calling thread, system time included.
#[must_use]
pub fn thread_cpu() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: time is a live timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Which descriptors are readable.
pub struct Poll(OwnedFd);

pub struct Ready(u64);

/// Bits of [`Ready`]: one address for each of 63 sockets, and the commands.
pub const MAX_POLLED: u64 = 64;

impl Poll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: a successful epoll_create1 returns a new descriptor that nobody else owns.
        unsafe {
            Ok(Self(OwnedFd::from_raw_fd(check(libc::epoll_create1(
                libc::EPOLL_CLOEXEC,
            ))?)))
        }
    }

    pub fn add(&self, fd: RawFd, number: u64) -> io::Result<()> {
        if number >= MAX_POLLED {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a worker takes at most 63 sockets",
            ));
        }
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: number,
        };
        // SAFETY: event is live during the call.
        check(unsafe {
            libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event)
        })?;
        Ok(())
    }

    /// Waits until something is readable, at most `timeout` (rounded up to whole milliseconds).
    pub fn wait(&self, timeout: Duration) -> io::Result<Ready> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; MAX_POLLED as usize];
        let timeout = timeout.as_nanos().div_ceil(1_000_000) as libc::c_int;
        // SAFETY: events is a live array of the length given.
        let count = unsafe {
            libc::epoll_wait(
                self.0.as_raw_fd(),
                events.as_mut_ptr(),
                events.len() as libc::c_int,
                timeout,
            )
        };
        let count = match check(count) {
            Ok(count) => count as usize,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        Ok(Ready(
            events[..count]
                .iter()
                .fold(0, |bits, event| bits | 1 << event.u64),
        ))
    }
}

impl Ready {
    #[must_use]
    pub fn has(&self, number: usize) -> bool {
        self.0 & (1 << number) != 0
    }
}
