//! The front's thread with real sockets on loopback, a worker beside it, and a client that does what each test says.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};

use super::*;
use crate::api::{Command, Event};
use crate::driver::Worker;
use crate::wire::stun::{self, BindingRequest, IntegrityKey};

const LIMITS: Limits = Limits {
    connections: 100,
    per_address: 50,
    rate: 1_000,
    burst: 1_000,
};

struct World {
    front: Front,
    worker: Worker,
    address: SocketAddr,
}

fn world(limits: Limits) -> World {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let worker = Worker::start(&[socket.as_raw_fd()], "worker").unwrap();
    let settings = Settings {
        realm: "sfu".to_owned(),
        secret: b"secret".to_vec(),
        peers: vec![Peer {
            address: socket.local_addr().unwrap(),
            worker: 0,
        }],
        workers: 1,
        limits,
    };
    let front = Front::start(&[listener.as_raw_fd()], "front", settings).unwrap();
    front.attach(0, worker.door());
    World {
        front,
        worker,
        address: listener.local_addr().unwrap(),
    }
}

impl World {
    fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        client
    }

    /// Waits until the front has told of it.
    fn until(&self, what: impl Fn(&Tally) -> bool) -> Tally {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let tally = self.front.tally();
            if what(&tally) || Instant::now() > deadline {
                assert!(what(&tally), "{tally:?}");
                return tally;
            }
            std::thread::yield_now();
        }
    }
}

/// Refused: nothing comes but the end.
fn ends(client: &mut TcpStream) {
    let mut rest = Vec::new();
    match client.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}"),
    }
}

fn check(ufrag: &str, transaction: u8) -> Vec<u8> {
    let mut out = [0; 256];
    let username = format!("{ufrag}:them");
    let request = BindingRequest {
        transaction: [transaction; 12],
        username: &username,
        priority: 77,
        controlling: Some(9),
        controlled: None,
        use_candidate: true,
    };
    let key = IntegrityKey::new("password-of-ours-22-chars");
    let len = stun::write_binding_request(&mut out, &request, &key).unwrap();
    let mut framed = (len as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(&out[..len]);
    framed
}

fn frame(client: &mut TcpStream) -> Vec<u8> {
    let mut head = [0; 2];
    client.read_exact(&mut head).unwrap();
    let mut frame = vec![0; usize::from(u16::from_be_bytes(head))];
    client.read_exact(&mut frame).unwrap();
    frame
}

fn add_transport(worker: &Worker) {
    worker.submit(vec![Command::AddTransport {
        transport: 1,
        local_ufrag: "ours".to_owned(),
        local_pwd: "password-of-ours-22-chars".to_owned(),
        remote_ufrag: "them".to_owned(),
        remote_pwd: String::new(),
        may_publish: true,
        start_bitrate: 0,
    }]);
}

#[test]
fn a_check_in_a_frame_reaches_its_worker_and_the_answer_comes_back() {
    let world = world(LIMITS);
    add_transport(&world.worker);
    let mut client = world.connect();
    let bytes = check("ours", 1);
    for part in bytes.chunks(7) {
        client.write_all(part).unwrap(); // however it is cut
    }
    let answer = frame(&mut client);
    let message = stun::Message::parse(&answer).unwrap();
    assert_eq!(message.class, stun::Class::Success);
    assert_eq!(message.mapped, Some(client.local_addr().unwrap()));
    let told = Instant::now() + Duration::from_secs(10);
    let path = loop {
        let events = world.worker.events();
        let found = events.into_iter().find_map(|event| match event {
            Event::PathChanged { local, remote, .. } => Some((local, remote)),
            _ => None,
        });
        if let Some(found) = found {
            break found;
        }
        assert!(Instant::now() < told);
    };
    assert!(path.0.starts_with("[100::"), "{path:?}");
    assert_eq!(path.1, client.local_addr().unwrap().to_string());
    let tally = world.until(|tally| tally.open[1] == 1 && tally.sent == 1);
    assert_eq!((tally.accepted, tally.received), (1, 1));

    // DTLS goes to the same worker; what Python answers comes back by the same connection.
    client.write_all(&[0, 20]).unwrap();
    client.write_all(&[22; 20]).unwrap();
    world.worker.submit(vec![Command::SendDtls {
        transport: 1,
        datagram: vec![23; 30],
    }]);
    assert_eq!(frame(&mut client), [23; 30]);
}

#[test]
fn checks_of_nobody_and_what_is_no_check_end_soon() {
    let world = world(LIMITS);
    let mut client = world.connect();
    for n in 0..=20 {
        client.write_all(&check("nobody", n)).unwrap();
    }
    ends(&mut client);
    let mut client = world.connect();
    client.write_all(&check("nobody", 1)).unwrap();
    client.write_all(&[0, 4, 128, 1, 2, 3]).unwrap(); // media before anything is proven
    ends(&mut client);
    world.until(|tally| tally.refused[Refused::Unproven as usize] == 2);
}

#[test]
fn what_is_not_served_here_is_refused_by_name() {
    let world = world(LIMITS);
    let allocate = [&[0, 3, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[0; 12]].concat();
    let openings: [(&[u8], Refused); 4] = [
        (b"SSH-2.0-x\r\n", Refused::UnknownProtocol),
        (b"GET / HTTP/1.1\r\n\r\n", Refused::PlainHttp),
        (&[22, 3, 1, 0, 4, 9, 9, 9, 9], Refused::TlsFailed),
        (
            &[&allocate[..], &[0x80, 0, 0, 0]].concat(),
            Refused::Malformed,
        ),
    ];
    for (bytes, why) in openings {
        let mut client = world.connect();
        client.write_all(bytes).unwrap();
        ends(&mut client);
        world.until(|tally| tally.refused[why as usize] == 1);
    }
}

#[test]
fn one_address_opens_so_many_connections() {
    let limits = Limits {
        per_address: 3,
        ..LIMITS
    };
    let world = world(limits);
    let mut open: Vec<_> = (0..3).map(|_| world.connect()).collect();
    ends(&mut world.connect());
    world.until(|tally| tally.refused[Refused::TooManyFromAddress as usize] == 1);
    open.clear();
    world.until(|tally| tally.open[0] == 0);
    let mut client = world.connect();
    client.write_all(b"SSH-2.0-x\r\n").unwrap();
    ends(&mut client);
    world.until(|tally| tally.refused[Refused::UnknownProtocol as usize] == 1);
}

#[test]
fn what_a_connection_does_not_carry_is_dropped_by_name() {
    let world = world(LIMITS);
    add_transport(&world.worker);
    let mut client = world.connect();
    client.write_all(&check("ours", 1)).unwrap();
    let _ = frame(&mut client);
    // A client that reads nothing: what is for him is dropped by name, and his connection holds a little of it.
    for _ in 0..200 {
        let datagram = || Command::SendDtls {
            transport: 1,
            datagram: vec![23; 1_400],
        };
        world.worker.submit((0..100).map(|_| datagram()).collect());
    }
    let tally = world.until(|tally| {
        tally.dropped[Dropped::QueueFull as usize] + tally.dropped[Dropped::Late as usize] > 0
    });
    assert!(world.front.alive() && world.worker.alive(), "{tally:?}");
}

#[test]
fn who_sends_more_than_any_client_has_to_say_is_dropped_alone() {
    let world = world(LIMITS);
    add_transport(&world.worker);
    let mut client = world.connect();
    client.write_all(&check("ours", 1)).unwrap();
    let _ = frame(&mut client);
    // Empty frames: half a million in a megabyte, where a worker takes four thousand at once, of everybody.
    for _ in 0..16 {
        client.write_all(&[0; 64 << 10]).unwrap();
    }
    let tally = world.until(|tally| tally.received > 500_000);
    assert!(
        tally.dropped[Dropped::TooMany as usize] > 400_000,
        "{tally:?}"
    );
    assert_eq!(tally.dropped[Dropped::WorkerBusy as usize], 0, "{tally:?}");
    world.until(|tally| tally.open[1] == 1);
}

#[test]
fn a_panic_is_seen() {
    let world = world(LIMITS);
    assert!(world.front.alive());
    world.front.panic_for_test();
    let deadline = Instant::now() + Duration::from_secs(5);
    while world.front.alive() {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
}

#[test]
fn a_front_needs_listening_sockets_and_a_pair_that_is_right() {
    let settings = || Settings {
        realm: String::new(),
        secret: vec![],
        peers: vec![],
        workers: 0,
        limits: LIMITS,
    };
    assert!(Front::start(&[], "none", settings()).is_err());
    assert!(Front::start(&[-1], "closed", settings()).is_err());
    let world = world(LIMITS);
    for (chain, key) in [
        ("", ""),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "",
        ),
    ] {
        let told = world
            .front
            .set_certificate(chain.as_bytes(), key.as_bytes());
        assert!(told.is_err());
    }
}
