//! The worker's thread with real sockets on loopback: commands in, events out, and what a panic leads to.

use std::net::UdpSocket;

use super::*;

fn wait_readable(fd: RawFd, limit: Duration) -> Duration {
    let began = Instant::now();
    let mut poll = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one live pollfd.
    let ready = unsafe { libc::poll(&raw mut poll, 1, limit.as_millis() as libc::c_int) };
    assert_eq!(ready, 1, "not readable within {limit:?}");
    began.elapsed()
}

fn worker() -> (Worker, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for name in [libc::SO_RCVBUF, libc::SO_RCVBUFFORCE] {
        os::set(socket.as_raw_fd(), libc::SOL_SOCKET, name, 1 << 20);
    }
    let address = socket.local_addr().unwrap();
    (
        Worker::start(&[socket.as_raw_fd()], "test").unwrap(),
        address,
    )
}

#[test]
fn a_command_is_answered_by_an_event() {
    let (mut worker, _) = worker();
    worker.submit(vec![Command::Debug { token: 7 }]);
    wait_readable(worker.event_fd(), Duration::from_secs(5));
    let events = worker.events();
    assert!(
        matches!(events.as_slice(), [Event::Debug { token: 7, .. }]),
        "{events:?}"
    );
    assert!(worker.alive());
    worker.stop();
    assert!(!worker.alive());
    assert!(
        worker.events().is_empty(),
        "an end on demand is not a death"
    );
}

#[test]
fn a_panic_is_known_within_a_hundred_milliseconds() {
    let (worker, _) = worker();
    worker.submit(vec![Command::Debug { token: 1 }]);
    wait_readable(worker.event_fd(), Duration::from_secs(5));
    let _ = worker.events();
    worker.panic_for_test(Some(4));
    let after = wait_readable(worker.event_fd(), Duration::from_secs(5));
    assert!(after < Duration::from_millis(100), "{after:?}");
    let events = worker.events();
    assert!(
        matches!(events.as_slice(), [Event::WorkerDied { reason, transport: Some(4) }] if reason.contains("on purpose")),
        "{events:?}"
    );
    assert!(!worker.alive());
    worker.submit(vec![Command::Debug { token: 2 }]); // Goes nowhere, and hurts nobody.
}

#[test]
fn junk_of_every_size_is_counted_and_silent() {
    let (worker, address) = worker();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    for len in [0usize, 1, 20, 1_200, 2_048, 2_049, 9_000, 65_507] {
        for first in [0u8, 22, 128, 200, 255] {
            let mut junk = vec![0x55; len];
            if let Some(byte) = junk.first_mut() {
                *byte = first;
            }
            client.send_to(&junk, address).unwrap();
        }
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    let drops = loop {
        let drops = worker.snapshot().router.counters.drops;
        if drops.iter().map(|(_, count)| count).sum::<u64>() == 40 || Instant::now() > deadline {
            break drops;
        }
        std::thread::yield_now();
    };
    assert_eq!(drops.iter().map(|(_, count)| count).sum::<u64>(), 40);
    assert_eq!(drops.get(DropReason::Oversized), 15);
    assert!(client.recv(&mut [0; 64]).is_err(), "no answer to junk");
    assert!(worker.alive());
}

#[test]
fn a_worker_needs_bound_udp_sockets() {
    assert!(Worker::start(&[], "none").is_err());
    assert!(Worker::start(&[-1], "closed").is_err());
    let (a, _b) = std::os::unix::net::UnixDatagram::pair().unwrap();
    assert!(Worker::start(&[a.as_raw_fd()], "unix").is_err());
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(Worker::start(&[tcp.as_raw_fd()], "tcp").is_err());
}
