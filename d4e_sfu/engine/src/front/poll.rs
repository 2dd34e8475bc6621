//! Readiness of many descriptors (epoll(7)), and the few socket options of the front. Linux only.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::driver::os;

/// So much may lie unsent in the kernel before more is given to it: what lies there can no longer be overtaken by a voice.
/// epoll(7) says writable below half of TCP_NOTSENT_LOWAT.
pub const UNSENT: libc::c_int = 8 << 10;
/// A connection on which nothing is acknowledged for so long has ended (RFC 5482).
const UNACKNOWLEDGED: libc::c_int = 20_000;

pub struct Poll(OwnedFd);

/// What a descriptor is ready for.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    pub token: u64,
    pub readable: bool,
    pub writable: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    pub read: bool,
    pub write: bool,
}

impl Poll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: a successful epoll_create1 returns a new descriptor that nobody else owns.
        unsafe {
            let fd = os::check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?;
            Ok(Self(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// From what it was `told` to what is `wanted`. Nothing wanted: it is not looked at, or an error that nobody is going to
    /// read would be ready for ever.
    pub fn set(
        &self,
        fd: RawFd,
        token: u64,
        told: &mut Interest,
        wanted: Interest,
    ) -> io::Result<()> {
        let nothing = Interest::default();
        let what = match (*told == nothing, wanted == nothing) {
            _ if *told == wanted => return Ok(()),
            (true, _) => libc::EPOLL_CTL_ADD,
            (_, true) => libc::EPOLL_CTL_DEL,
            _ => libc::EPOLL_CTL_MOD,
        };
        *told = wanted;
        self.control(what, fd, token, wanted)
    }

    fn control(
        &self,
        what: libc::c_int,
        fd: RawFd,
        token: u64,
        interest: Interest,
    ) -> io::Result<()> {
        let mut events = 0;
        if interest.read {
            events |= (libc::EPOLLIN | libc::EPOLLRDHUP) as u32;
        }
        if interest.write {
            events |= libc::EPOLLOUT as u32;
        }
        let mut event = libc::epoll_event { events, u64: token };
        // SAFETY: event is live during the call.
        os::check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), what, fd, &raw mut event) })?;
        Ok(())
    }

    /// What is ready, within `timeout`. A closed descriptor is no longer in it.
    pub fn wait(&self, timeout: Duration, ready: &mut Vec<Ready>) -> io::Result<()> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 256];
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
        let count = match os::check(count) {
            Ok(count) => count as usize,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        ready.clear();
        ready.extend(events[..count].iter().map(|event| {
            let has = |bits: libc::c_int| event.events & bits as u32 != 0;
            Ready {
                token: event.u64,
                // An error is read as one.
                readable: has(libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR),
                writable: has(libc::EPOLLOUT),
            }
        }));
        Ok(())
    }
}

/// Media is to follow: marked (one mark for all of it: RFC 8837 §5 wants no two within one connection), and never more in
/// the kernel than what it is sending.
pub fn tune_for_media(fd: RawFd, ipv6: bool) {
    if ipv6 {
        os::set(fd, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, os::ASSURED);
    }
    os::set(fd, libc::IPPROTO_IP, libc::IP_TOS, os::ASSURED);
    os::set(fd, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, UNSENT);
    os::set(
        fd,
        libc::IPPROTO_TCP,
        libc::TCP_USER_TIMEOUT,
        UNACKNOWLEDGED,
    );
}

/// Bytes that the kernel has not sent even once (tcp(7), SIOCOUTQNSD).
#[must_use]
pub fn unsent(fd: RawFd) -> libc::c_int {
    const SIOCOUTQNSD: libc::c_ulong = 0x894b;
    let mut bytes: libc::c_int = 0;
    // SAFETY: bytes is a live int. Where the call fails, nothing is known to wait.
    unsafe { libc::ioctl(fd, SIOCOUTQNSD as _, &raw mut bytes) };
    bytes
}
