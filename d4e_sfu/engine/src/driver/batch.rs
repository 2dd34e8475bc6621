//! Datagrams by the dozen: buffers and message headers for recvmmsg and sendmmsg, made once. The send slots lie back to back
//! as they are filled, so that equal packets to one address could leave as one run (UDP GSO) without being moved.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;

use super::door::{Door, Mail};
use super::os;
use crate::outlet::{Class, DATAGRAM, Outlet, stream_of};

/// Datagrams per call: from 16 on the kernel's cost per packet is level (measured), and the first do not wait for the last.
pub const SIZE: usize = 64;

/// One more byte than is ever handled, so that a larger datagram is seen to be larger.
const BUFFER: usize = DATAGRAM + 1;

/// Pointers into boxes that never move; rebuilt whenever lengths are reset.
struct Messages {
    headers: Box<[libc::mmsghdr]>,
    vectors: Box<[libc::iovec]>,
    names: Box<[libc::sockaddr_storage]>,
}

impl Messages {
    fn new() -> Self {
        // SAFETY: all three are plain C structures for which zeros are valid.
        unsafe {
            Self {
                headers: (0..SIZE).map(|_| std::mem::zeroed()).collect(),
                vectors: (0..SIZE).map(|_| std::mem::zeroed()).collect(),
                names: (0..SIZE).map(|_| std::mem::zeroed()).collect(),
            }
        }
    }

    fn set(&mut self, at: usize, buffer: *mut u8, len: usize, name_len: libc::socklen_t) {
        self.vectors[at] = libc::iovec {
            iov_base: buffer.cast(),
            iov_len: len,
        };
        let header = &mut self.headers[at].msg_hdr;
        header.msg_iov = &raw mut self.vectors[at];
        header.msg_iovlen = 1;
        header.msg_name = (&raw mut self.names[at]).cast();
        header.msg_namelen = name_len;
        header.msg_control = std::ptr::null_mut();
        header.msg_controllen = 0;
        header.msg_flags = 0;
    }

    /// For this message alone, instead of what the socket says. The mark outlives the messages.
    fn mark(&mut self, at: usize, mark: &Mark) {
        let header = &mut self.headers[at].msg_hdr;
        header.msg_control = (&raw const *mark).cast_mut().cast(); // sendmsg(2) only reads it
        header.msg_controllen = size_of::<Mark>() as _;
    }
}

/// A control message (cmsg(3)) with the DSCP of one datagram. The same few serve all.
#[repr(C)]
struct Mark {
    header: libc::cmsghdr,
    value: libc::c_int,
    padding: libc::c_int,
}

impl Mark {
    fn new(ipv6: bool, value: libc::c_int) -> Self {
        // SAFETY: a plain C structure for which zeros are valid.
        let mut header: libc::cmsghdr = unsafe { std::mem::zeroed() };
        header.cmsg_len = (size_of::<libc::cmsghdr>() + size_of::<libc::c_int>()) as _;
        (header.cmsg_level, header.cmsg_type) = if ipv6 {
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS)
        } else {
            (libc::IPPROTO_IP, libc::IP_TOS)
        };
        Self {
            header,
            value,
            padding: 0,
        }
    }
}

/// Those that differ from what the sockets are set to, which is the mark of most that leaves: pictures.
struct Marks {
    voice: [Mark; 2],
    data: [Mark; 2],
}

impl Marks {
    fn new() -> Box<Self> {
        Box::new(Self {
            voice: [false, true].map(|ipv6| Mark::new(ipv6, os::EXPEDITED)),
            data: [false, true].map(|ipv6| Mark::new(ipv6, os::BEST_EFFORT)),
        })
    }

    fn of(&self, class: Class, ipv6: bool) -> Option<&Mark> {
        match class {
            Class::Picture => None,
            Class::Voice => Some(&self.voice[usize::from(ipv6)]),
            Class::Data => Some(&self.data[usize::from(ipv6)]),
        }
    }
}

pub struct Inbox {
    buffers: Box<[u8]>,
    messages: Messages,
}

impl Inbox {
    pub fn new() -> Self {
        Self {
            buffers: vec![0; SIZE * BUFFER].into_boxed_slice(),
            messages: Messages::new(),
        }
    }

    /// As many datagrams as wait, at most [`SIZE`].
    pub fn receive(&mut self, socket: RawFd) -> io::Result<usize> {
        for at in 0..SIZE {
            let buffer = self.buffers[at * BUFFER..].as_mut_ptr();
            self.messages.set(
                at,
                buffer,
                BUFFER,
                size_of::<libc::sockaddr_storage>() as libc::socklen_t,
            );
        }
        // SAFETY: every header points to live buffers of the lengths set just above.
        let count = unsafe {
            libc::recvmmsg(
                socket,
                self.messages.headers.as_mut_ptr(),
                SIZE as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        if count >= 0 {
            return Ok(count as usize);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // A closed descriptor or not a socket: this worker has lost its port.
            Some(libc::EBADF | libc::ENOTSOCK | libc::EINVAL | libc::EFAULT) => Err(error),
            // Nothing there, a signal, or an ICMP error of some earlier datagram.
            _ => Ok(0),
        }
    }

    /// The first `count` of the last batch: sender and bytes, `None` when it was larger than any datagram may be.
    pub fn datagrams(
        &mut self,
        count: usize,
    ) -> impl Iterator<Item = (SocketAddr, Option<&mut [u8]>)> {
        let headers = self.messages.headers[..count].iter();
        let names = self.messages.names.iter();
        let buffers = self.buffers.chunks_exact_mut(BUFFER);
        headers
            .zip(names)
            .zip(buffers)
            .filter_map(|((header, name), buffer)| {
                let len = header.msg_len as usize;
                Some((
                    os::address(name)?,
                    buffer.get_mut(..len).filter(|_| len <= DATAGRAM),
                ))
            })
    }
}

/// Addresses with a narrow way that are remembered. Whoever makes us forget them costs one refused datagram each.
const MAX_NARROW: usize = 1_024;

/// The send slots: filled by the router, flushed when full and at the end of each round.
pub struct Outbox {
    arena: Box<[u8]>,
    used: usize,
    /// Socket of each message, and where its bytes are.
    messages: Messages,
    sockets: [RawFd; SIZE],
    lens: [usize; SIZE],
    count: usize,
    routes: HashMap<SocketAddr, RawFd>,
    /// The last look-up: nearly always the next one too.
    last: Option<(SocketAddr, RawFd)>,
    failed: u64,
    /// The largest datagram that an address takes, where the kernel has refused a larger one.
    narrow: HashMap<SocketAddr, usize>,
    over_mtu: u64,
    /// For clients who come by TCP.
    mail: Mail,
    door: Option<Arc<Door>>,
    marks: Box<Marks>,
    #[cfg(test)]
    calls: usize,
}

impl Outbox {
    pub fn new(routes: HashMap<SocketAddr, RawFd>, door: Option<Arc<Door>>) -> Self {
        Self {
            arena: vec![0; SIZE * DATAGRAM].into_boxed_slice(),
            used: 0,
            messages: Messages::new(),
            sockets: [-1; SIZE],
            lens: [0; SIZE],
            count: 0,
            routes,
            last: None,
            failed: 0,
            narrow: HashMap::new(),
            over_mtu: 0,
            mail: Mail::default(),
            door,
            marks: Marks::new(),
            #[cfg(test)]
            calls: 0,
        }
    }

    /// Datagrams that the kernel has not taken since the last call.
    pub fn take_failed(&mut self) -> u64 {
        std::mem::take(&mut self.failed)
    }

    /// Datagrams that were too large for the way to their address, since the last call.
    pub fn take_over_mtu(&mut self) -> u64 {
        std::mem::take(&mut self.over_mtu)
    }

    /// Ways may have become wider: the next large datagram finds out.
    pub fn forget_mtu(&mut self) {
        self.narrow.clear();
    }

    pub fn flush(&mut self) {
        let mut at = 0;
        while at < self.count {
            let socket = self.sockets[at];
            let run = self.sockets[at..self.count]
                .iter()
                .take_while(|&&other| other == socket)
                .count();
            #[cfg(test)]
            {
                self.calls += 1;
            }
            // SAFETY: headers `at..at + run` were set by `commit` and point into the arena and the names.
            let sent = unsafe {
                libc::sendmmsg(
                    socket,
                    self.messages.headers[at..].as_mut_ptr(),
                    run as libc::c_uint,
                    libc::MSG_DONTWAIT as _,
                )
            };
            if sent > 0 {
                at += sent as usize;
                continue;
            }
            match io::Error::last_os_error().raw_os_error() {
                Some(libc::EINTR) => continue,
                Some(libc::EMSGSIZE) => self.too_large(at),
                // ENOBUFS, EAGAIN, EPERM, an unreachable network: this datagram is lost, the next may go.
                _ => self.failed += 1,
            }
            at += 1;
        }
        self.count = 0;
        self.used = 0;
        if !self.mail.is_empty() {
            match &self.door {
                Some(door) => self.failed += door.send(&mut self.mail) as u64,
                None => self.mail.clear(),
            }
        }
    }
}

impl Outbox {
    /// For a client behind `front`, or for nobody.
    fn hand_over(&mut self, local: SocketAddr, remote: SocketAddr, len: usize, class: Class) {
        let datagram = &self.arena[self.used..][..len];
        let taken = stream_of(local).is_some() && self.mail.put(local, remote, class, datagram);
        self.failed += u64::from(!taken);
    }

    /// The kernel has refused the message: what is as large goes there no more.
    fn too_large(&mut self, at: usize) {
        self.over_mtu += 1;
        let Some(remote) = os::address(&self.messages.names[at]) else {
            return;
        };
        if self.narrow.len() >= MAX_NARROW {
            self.narrow.clear();
        }
        let below = self.lens[at].saturating_sub(1);
        let most = self.narrow.entry(remote).or_insert(below);
        *most = below.min(*most);
    }
}

impl Outlet for Outbox {
    fn slot(&mut self) -> &mut [u8] {
        &mut self.arena[self.used..][..DATAGRAM]
    }

    fn commit(&mut self, local: SocketAddr, remote: SocketAddr, len: usize, class: Class) {
        let len = len.min(DATAGRAM);
        let socket = match self.last {
            Some((known, socket)) if known == local => socket,
            _ => {
                let Some(&socket) = self.routes.get(&local) else {
                    self.hand_over(local, remote, len, class);
                    return;
                };
                self.last = Some((local, socket));
                socket
            }
        };
        if !self.narrow.is_empty() && self.narrow.get(&remote).is_some_and(|&most| len > most) {
            self.over_mtu += 1;
            return;
        }
        let at = self.count;
        self.lens[at] = len;
        let name_len = os::set_address(&mut self.messages.names[at], remote);
        let bytes = self.arena[self.used..].as_mut_ptr();
        self.messages.set(at, bytes, len, name_len);
        if let Some(mark) = self.marks.of(class, remote.is_ipv6()) {
            self.messages.mark(at, mark);
        }
        self.sockets[at] = socket;
        self.used += len;
        self.count += 1;
        if self.count == SIZE {
            self.flush();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_frame_is_sent_with_one_call_and_received_with_one() {
        let (here, there) = (
            UdpSocket::bind("127.0.0.1:0").unwrap(),
            UdpSocket::bind("127.0.0.1:0").unwrap(),
        );
        let (local, remote) = (here.local_addr().unwrap(), there.local_addr().unwrap());
        let mut outbox = Outbox::new(HashMap::from([(local, here.as_raw_fd())]), None);
        for n in 0..20 {
            outbox.slot()[..100].fill(n);
            outbox.commit(local, remote, 100, Class::Picture);
        }
        assert_eq!(
            outbox.calls, 0,
            "nothing leaves before the batch is full or flushed"
        );
        outbox.flush();
        assert_eq!((outbox.calls, outbox.take_failed()), (1, 0));

        let mut inbox = Inbox::new();
        let count = inbox.receive(there.as_raw_fd()).unwrap();
        let first: Vec<u8> = inbox
            .datagrams(count)
            .map(|(from, datagram)| {
                assert_eq!(from, local);
                datagram.unwrap()[0]
            })
            .collect();
        assert_eq!(first, (0..20).collect::<Vec<u8>>());
    }

    #[test]
    fn slots_lie_back_to_back_as_they_are_filled() {
        let here = UdpSocket::bind("127.0.0.1:0").unwrap();
        let local = here.local_addr().unwrap();
        let mut outbox = Outbox::new(HashMap::from([(local, here.as_raw_fd())]), None);
        for len in [1_100, 1_100, 1_100, 120, 1_100] {
            outbox.slot()[..len].fill(7);
            outbox.commit(local, local, len, Class::Picture);
        }
        let vectors = &outbox.messages.vectors[..outbox.count];
        for pair in vectors.windows(2) {
            let end = pair[0].iov_base.wrapping_byte_add(pair[0].iov_len);
            assert_eq!(pair[1].iov_base, end, "one run is one piece of memory");
        }
    }

    #[test]
    fn what_the_kernel_calls_too_large_is_not_tried_again_there() {
        let bind = || UdpSocket::bind("[::1]:0").unwrap();
        let (narrow, wide, there) = (bind(), bind(), bind());
        os::tune(narrow.as_raw_fd(), true);
        // As a tunnel would be: an MTU of 1,280 is the least of IPv6 (RFC 8200 §5), 1,232 bytes of UDP payload.
        let mtu: libc::c_int = 1_280;
        // SAFETY: the value is a live int of the length given.
        let set = unsafe {
            libc::setsockopt(
                narrow.as_raw_fd(),
                libc::IPPROTO_IPV6,
                libc::IPV6_MTU,
                (&raw const mtu).cast(),
                std::mem::size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        assert_eq!(set, 0);
        let to = there.local_addr().unwrap();
        let (small, large) = (narrow.local_addr().unwrap(), wide.local_addr().unwrap());
        let routes = HashMap::from([(small, narrow.as_raw_fd()), (large, wide.as_raw_fd())]);
        let mut outbox = Outbox::new(routes, None);
        let mut inbox = Inbox::new();
        let mut arrived = |outbox: &mut Outbox, lens: &[usize]| {
            for &len in lens {
                outbox.commit(small, to, len, Class::Picture);
            }
            outbox.flush();
            let count = inbox.receive(there.as_raw_fd()).unwrap();
            inbox
                .datagrams(count)
                .map(|(_, datagram)| datagram.unwrap().len())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            arrived(&mut outbox, &[1_232, 1_300, 100, 1_250, 1_200]),
            [1_232, 100, 1_200],
            "of one batch, the others leave"
        );
        assert_eq!((outbox.take_over_mtu(), outbox.take_failed()), (2, 0));
        let calls = outbox.calls;
        assert_eq!(arrived(&mut outbox, &[1_300, 1_250, 1_233, 1_232]), [1_232]);
        assert_eq!((outbox.take_over_mtu(), outbox.take_failed()), (3, 0));
        assert!(
            outbox.calls <= calls + 3,
            "1,250 and more are not tried again"
        );
        assert_eq!(arrived(&mut outbox, &[1_233, 1_232]), [1_232]);
        outbox.forget_mtu();
        assert_eq!(arrived(&mut outbox, &[1_300]), [0usize; 0]);
        assert_eq!(outbox.take_over_mtu(), 2);
    }

    #[test]
    fn a_full_batch_does_not_wait() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let local = socket.local_addr().unwrap();
        let mut outbox = Outbox::new(HashMap::from([(local, socket.as_raw_fd())]), None);
        for _ in 0..=SIZE {
            outbox.commit(local, local, 100, Class::Picture);
        }
        assert_eq!((outbox.calls, outbox.count), (1, 1));
    }

    /// The next datagram's TOS or traffic class, by recvmsg(2) and IP_RECVTOS.
    fn captured(socket: &UdpSocket) -> libc::c_int {
        let mut byte = [0u8; 1];
        let mut control = [0u64; 8];
        let mut vector = libc::iovec {
            iov_base: byte.as_mut_ptr().cast(),
            iov_len: 1,
        };
        // SAFETY: zeros are valid; all pointers are to live buffers of the lengths given.
        unsafe {
            let mut header: libc::msghdr = std::mem::zeroed();
            (header.msg_iov, header.msg_iovlen) = (&raw mut vector, 1);
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = size_of_val(&control) as _;
            assert_eq!(libc::recvmsg(socket.as_raw_fd(), &raw mut header, 0), 1);
            let found = libc::CMSG_FIRSTHDR(&raw const header);
            assert!(!found.is_null());
            match (*found).cmsg_level {
                libc::IPPROTO_IPV6 => libc::CMSG_DATA(found)
                    .cast::<libc::c_int>()
                    .read_unaligned(),
                _ => libc::c_int::from(*libc::CMSG_DATA(found)),
            }
        }
    }

    #[test]
    fn voice_is_expedited_pictures_are_assured_and_data_is_neither() {
        for (bind, level, option) in [
            ("127.0.0.1:0", libc::IPPROTO_IP, libc::IP_RECVTOS),
            ("[::1]:0", libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS),
        ] {
            let (here, there) = (
                UdpSocket::bind(bind).unwrap(),
                UdpSocket::bind(bind).unwrap(),
            );
            os::tune(here.as_raw_fd(), bind.starts_with('['));
            os::set(there.as_raw_fd(), level, option, 1);
            let (local, remote) = (here.local_addr().unwrap(), there.local_addr().unwrap());
            let routes = HashMap::from([(local, here.as_raw_fd())]);
            let mut outbox = Outbox::new(routes, None);
            let classes = [Class::Picture, Class::Voice, Class::Data, Class::Picture];
            for class in classes {
                outbox.commit(local, remote, 1, class);
            }
            outbox.flush();
            assert_eq!(outbox.calls, 1, "one call for all of them");
            // DSCP 34, 46, 0 (RFC 2597, RFC 3246), above the two bits of ECN.
            let seen = classes.map(|_| captured(&there) >> 2);
            assert_eq!(seen, [34, 46, 0, 34], "{bind}");
        }
    }

    #[test]
    fn who_comes_by_tcp_gets_his_datagrams_through_the_door() {
        let wake = Arc::new(os::eventfd().unwrap());
        let door = Arc::new(Door::new(Arc::clone(&wake)));
        door.attach(wake);
        let mut outbox = Outbox::new(HashMap::new(), Some(Arc::clone(&door)));
        let remote = SocketAddr::from(([192, 0, 2, 1], 5));
        for (n, local) in [
            crate::outlet::stream(9, 0),
            remote,
            crate::outlet::stream(9, 1),
        ]
        .into_iter()
        .enumerate()
        {
            outbox.slot()[..10].fill(n as u8);
            outbox.commit(local, remote, 10, Class::Voice);
        }
        outbox.flush();
        assert_eq!(
            (outbox.calls, outbox.take_failed()),
            (0, 1),
            "an address that is neither"
        );
        let mut mail = Mail::default();
        door.collect(&mut mail);
        let seen: Vec<_> = mail
            .letters()
            .map(|(letter, bytes)| (stream_of(letter.local).unwrap(), bytes.to_vec()))
            .collect();
        assert_eq!(seen, [((9, 0), vec![0; 10]), ((9, 1), vec![2; 10])]);
    }
}
