//! The TURN server as a client sees it, message by message, in virtual time.

use super::*;
use crate::wire::turn::client::{peer, request};
use crate::wire::turn::{ALGORITHMS, Algorithm};

// Attributes of RFC 8489 and RFC 8656, by number.
const USERNAME: u16 = 0x0006;
const LIFETIME_ATTRIBUTE: u16 = 0x000d;
const CHANNEL_NUMBER: u16 = 0x000c;
const DATA: u16 = 0x0013;
const REALM: u16 = 0x0014;
const NONCE: u16 = 0x0015;
const FAMILY: u16 = 0x0017;
const TRANSPORT: u16 = 0x0019;
const PASSWORD_ALGORITHM: u16 = 0x001d;
const PASSWORD_ALGORITHMS: u16 = 0x8002;

const WALL: u64 = 1_700_000_000;
const NAME: &str = "1700003600:PA_somebody";

type Attributes = Vec<(u16, Vec<u8>)>;

struct Client {
    server: Server,
    turn: Turn,
    now: Now,
    wall: u64,
    name: String,
    algorithm: Option<Algorithm>,
    integrity: Integrity,
    nonce: Option<Vec<u8>>,
}

fn here() -> SocketAddr {
    "203.0.113.1:50000".parse().unwrap()
}

fn media(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 10], port))
}

fn client() -> Client {
    let peers = vec![
        Peer {
            address: media(7_882),
            worker: 0,
        },
        Peer {
            address: media(7_883),
            worker: 1,
        },
    ];
    Client {
        server: Server::new(Credentials::new("sfu", b"secret"), peers),
        turn: Turn::new(7),
        now: Now(10_000_000_000),
        wall: WALL,
        name: NAME.to_owned(),
        algorithm: None,
        integrity: Integrity::Sha1,
        nonce: None,
    }
}

/// What an answer says: its class, its code, and the rest of it.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Yes,
    No(u16),
    Silence,
    Closed,
    Relayed(usize, Vec<u8>),
    Dropped(Dropped),
}

impl Client {
    fn raw(&mut self, bytes: &[u8]) -> (Told, Vec<u8>) {
        let mut out = [0; 512];
        let effect = self.turn.message(
            self.now,
            self.wall,
            here(),
            bytes,
            &mut self.server,
            &mut out,
        );
        match effect {
            Effect::Nothing => (Told::Silence, vec![]),
            Effect::Close => (Told::Closed, vec![]),
            Effect::Refused(why) => (Told::Dropped(why), vec![]),
            Effect::Relay(peer, data) => (Told::Relayed(peer, data.to_vec()), vec![]),
            Effect::Answer(len) => {
                let out = out[..len].to_vec();
                let message = Message::parse(&out).unwrap();
                let told = match message.class {
                    Class::Success => Told::Yes,
                    _ => Told::No(code(&out)),
                };
                if let Some(nonce) = message.nonce {
                    self.nonce = Some(nonce.to_vec());
                }
                (told, out)
            }
        }
    }

    fn key(&self) -> LongTermKey {
        let algorithm = self.algorithm.unwrap_or(Algorithm::Md5);
        self.server
            .credentials
            .key(self.name.as_bytes(), algorithm, None)
            .unwrap()
    }

    /// With credentials, as he has them.
    fn signed(&mut self, method: Method, attributes: &[(u16, Vec<u8>)]) -> Told {
        let mut all: Attributes = vec![
            (USERNAME, self.name.clone().into_bytes()),
            (REALM, b"sfu".to_vec()),
            (NONCE, self.nonce.clone().unwrap_or_default()),
        ];
        if let Some(algorithm) = self.algorithm {
            let number = match algorithm {
                Algorithm::Md5 => 1,
                Algorithm::Sha256 => 2,
            };
            all.push((PASSWORD_ALGORITHMS, ALGORITHMS.to_vec()));
            all.push((PASSWORD_ALGORITHM, vec![0, number, 0, 0]));
        }
        all.extend(attributes.iter().cloned());
        let key = self.key();
        let bytes = request(method, Class::Request, &all, Some((&key, self.integrity))).unwrap();
        let (told, answer) = self.raw(&bytes);
        if told == Told::Yes {
            let message = Message::parse(&answer).unwrap();
            assert_eq!(message.integrity(), Some(self.integrity));
            assert!(message.verify(&key), "signed as the request was");
        }
        told
    }

    fn allocate(&mut self) -> Told {
        if self.nonce.is_none() {
            let bytes = request(Method::Allocate, Class::Request, &[udp()], None).unwrap();
            assert_eq!(self.raw(&bytes).0, Told::No(401));
        }
        self.signed(Method::Allocate, &[udp()])
    }

    fn send(&mut self, to: SocketAddr) -> Told {
        let attributes = [peer(to), (DATA, b"check".to_vec())];
        let bytes = request(Method::Send, Class::Indication, &attributes, None).unwrap();
        self.raw(&bytes).0
    }

    fn bind(&mut self, number: u16, to: SocketAddr) -> Told {
        let number = (
            CHANNEL_NUMBER,
            vec![(number >> 8) as u8, number as u8, 0, 0],
        );
        self.signed(Method::ChannelBind, &[number, peer(to)])
    }

    fn permit(&mut self, to: &[SocketAddr]) -> Told {
        let peers: Attributes = to.iter().map(|to| peer(*to)).collect();
        self.signed(Method::CreatePermission, &peers)
    }

    fn later(&mut self, seconds: u64) {
        self.now = self.now.plus(Duration::from_secs(seconds));
        self.wall += seconds;
    }
}

fn udp() -> (u16, Vec<u8>) {
    (TRANSPORT, vec![UDP, 0, 0, 0])
}

fn code(bytes: &[u8]) -> u16 {
    let at = bytes.windows(4).position(|it| it[..2] == [0, 9]).unwrap();
    u16::from(bytes[at + 6]) * 100 + u16::from(bytes[at + 7])
}

#[test]
fn a_client_allocates_binds_and_is_relayed() {
    for (algorithm, integrity) in [
        (None, Integrity::Sha1),
        (Some(Algorithm::Md5), Integrity::Sha256),
        (Some(Algorithm::Sha256), Integrity::Sha256),
    ] {
        let mut client = client();
        (client.algorithm, client.integrity) = (algorithm, integrity);
        assert_eq!(client.allocate(), Told::Yes, "{algorithm:?}");
        assert_eq!(
            client.send(media(7_882)),
            Told::Dropped(Dropped::NoPermission)
        );
        assert_eq!(client.permit(&[media(7_882)]), Told::Yes);
        assert_eq!(
            client.send(media(7_882)),
            Told::Relayed(0, b"check".to_vec())
        );
        let way = |client: &Client, peer| client.turn.way(client.now, peer, &client.server);
        assert_eq!(way(&client, 0), Some(None), "as an indication");
        assert_eq!(client.bind(0x4001, media(7_883)), Told::Yes);
        assert_eq!(way(&client, 1), Some(Some(0x4001)));
        let effect = client.turn.channel(client.now, 0x4001, b"x");
        assert_eq!(effect, Effect::Relay(1, b"x"));
        let effect = client.turn.channel(client.now, 0x4002, b"x");
        assert_eq!(effect, Effect::Refused(Dropped::NoPermission));
    }
}

#[test]
fn nothing_but_our_media_addresses_can_be_reached() {
    let mut client = client();
    assert_eq!(client.allocate(), Told::Yes);
    assert_eq!(client.permit(&[media(7_882)]), Told::Yes);
    for elsewhere in [
        "0.0.0.0:7882",
        "127.0.0.1:7882",
        "127.0.0.1:7881",
        "192.0.2.10:7881", // our own other ports
        "192.0.2.10:443",
        "192.0.2.10:22",
        "192.0.2.11:7882",
        "169.254.169.254:80",
        "255.255.255.255:7882",
    ] {
        let to: SocketAddr = elsewhere.parse().unwrap();
        assert_eq!(client.permit(&[to]), Told::No(403), "{elsewhere}");
        assert_eq!(
            client.permit(&[media(7_882), to]),
            Told::No(403),
            "{elsewhere}"
        );
        assert_eq!(client.bind(0x4005, to), Told::No(403), "{elsewhere}");
        assert_eq!(
            client.send(to),
            Told::Dropped(Dropped::PeerForbidden),
            "{elsewhere}"
        );
    }
    for elsewhere in [
        "[::]:7882",
        "[::1]:7882",
        "[::ffff:127.0.0.1]:7882",
        "[::ffff:192.0.2.10]:7882",
        "[64:ff9b::c000:20a]:7882",
    ] {
        let to: SocketAddr = elsewhere.parse().unwrap();
        assert_eq!(client.permit(&[to]), Told::No(443), "{elsewhere}");
        assert_eq!(client.bind(0x4005, to), Told::No(443), "{elsewhere}");
        assert_eq!(
            client.send(to),
            Told::Dropped(Dropped::PeerForbidden),
            "{elsewhere}"
        );
    }
    // A permission is for an address; where its port is said it has to be one of media, and to it alone data goes.
    assert_eq!(client.permit(&[media(0)]), Told::Yes);
    assert_eq!(client.send(media(0)), Told::Dropped(Dropped::PeerForbidden));
    assert_eq!(client.bind(0x4005, media(0)), Told::No(403));
}

#[test]
fn of_the_same_family_the_mapped_and_the_loopback_are_forbidden_too() {
    let mut client = client();
    let ours: SocketAddr = "[2001:db8::10]:7882".parse().unwrap();
    client.server.peers = vec![Peer {
        address: ours,
        worker: 0,
    }];
    assert_eq!(client.allocate(), Told::No(440));
    let family = (FAMILY, vec![2, 0, 0, 0]);
    assert_eq!(client.signed(Method::Allocate, &[udp(), family]), Told::Yes);
    for elsewhere in [
        "[::]:7882",
        "[::1]:7882",
        "[::ffff:127.0.0.1]:7882",
        "[2001:db8::10]:443",
    ] {
        let to: SocketAddr = elsewhere.parse().unwrap();
        assert_eq!(client.permit(&[to]), Told::No(403), "{elsewhere}");
        assert_eq!(client.bind(0x4005, to), Told::No(403), "{elsewhere}");
    }
    assert_eq!(client.bind(0x4005, ours), Told::Yes);
}

#[test]
fn who_he_is_has_to_be_proven_and_a_name_ends_with_its_time() {
    let mut first = client();
    assert_eq!(first.allocate(), Told::Yes);
    // His token is over, his call is not.
    first.later(3_000);
    let lifetime = |seconds: u32| (LIFETIME_ATTRIBUTE, seconds.to_be_bytes().to_vec());
    assert_eq!(first.signed(Method::Refresh, &[lifetime(1_200)]), Told::Yes);
    first.later(700);
    assert_eq!(
        first.signed(Method::Refresh, &[lifetime(600)]),
        Told::No(438)
    );
    assert_eq!(first.signed(Method::Refresh, &[lifetime(600)]), Told::Yes);
    first.name = "1700009999:PA_another".to_owned();
    assert_eq!(first.permit(&[media(7_882)]), Told::No(441));

    let mut late = client();
    late.wall += 3_600;
    assert_eq!(late.allocate(), Told::No(401));

    let mut forged = client();
    assert_eq!(forged.allocate(), Told::Yes);
    let mut forged = Client {
        server: Server::new(
            Credentials::new("sfu", b"other"),
            forged.server.peers.clone(),
        ),
        turn: Turn::new(7),
        nonce: None,
        ..forged
    };
    let key = Credentials::new("sfu", b"secret")
        .key(NAME.as_bytes(), Algorithm::Md5, None)
        .unwrap();
    let bytes = request(Method::Allocate, Class::Request, &[udp()], None).unwrap();
    assert_eq!(forged.raw(&bytes).0, Told::No(401));
    let attributes = [
        (USERNAME, NAME.as_bytes().to_vec()),
        (REALM, b"sfu".to_vec()),
        (NONCE, forged.nonce.clone().unwrap()),
        udp(),
    ];
    let signed = Some((&key, Integrity::Sha1));
    let bytes = request(Method::Allocate, Class::Request, &attributes, signed).unwrap();
    assert_eq!(
        forged.raw(&bytes).0,
        Told::No(401),
        "signed under another secret"
    );
    let bytes = request(Method::Allocate, Class::Request, &attributes[1..], signed).unwrap();
    assert_eq!(forged.raw(&bytes).0, Told::No(400), "without a name");
    assert!(!forged.turn.is_allocated());
}

#[test]
fn a_downgrade_is_noticed() {
    let mut client = client();
    assert_eq!(client.allocate(), Told::Yes);
    let attributes = [
        (USERNAME, NAME.as_bytes().to_vec()),
        (REALM, b"sfu".to_vec()),
        (NONCE, client.nonce.clone().unwrap()),
        (PASSWORD_ALGORITHMS, ALGORITHMS[4..].to_vec()),
        (PASSWORD_ALGORITHM, vec![0, 1, 0, 0]),
    ];
    let key = client.key();
    let signed = Some((&key, Integrity::Sha1));
    let bytes = request(Method::Refresh, Class::Request, &attributes, signed).unwrap();
    assert_eq!(client.raw(&bytes).0, Told::No(400));
}

#[test]
fn what_is_asked_for_and_cannot_be_is_named() {
    let mut client = client();
    assert_eq!(client.allocate(), Told::Yes);
    assert_eq!(client.allocate(), Told::No(437), "one of a connection");
    assert_eq!(client.bind(0x3fff, media(7_882)), Told::No(400));
    assert_eq!(client.bind(0x5000, media(7_882)), Told::No(400));
    assert_eq!(client.bind(0x4000, media(7_882)), Told::Yes);
    assert_eq!(
        client.bind(0x4000, media(7_882)),
        Told::Yes,
        "again: longer"
    );
    assert_eq!(
        client.bind(0x4000, media(7_883)),
        Told::No(400),
        "another peer"
    );
    assert_eq!(
        client.bind(0x4001, media(7_882)),
        Told::No(400),
        "another channel"
    );
    assert_eq!(client.permit(&[]), Told::No(400));
    assert_eq!(client.permit(&[media(7_882); MAX_PEERS + 1]), Told::No(400));
    let fragment = (0x001a, vec![]);
    assert_eq!(client.signed(Method::Refresh, &[fragment]), Told::No(420));

    let mut other = self::client();
    assert_eq!(
        other.permit(&[media(7_882)]),
        Told::No(438),
        "no nonce of ours"
    );
    assert_eq!(
        other.permit(&[media(7_882)]),
        Told::No(437),
        "nothing allocated"
    );
    let tcp = (TRANSPORT, vec![6, 0, 0, 0]);
    assert_eq!(other.signed(Method::Allocate, &[tcp]), Told::No(442));
    assert_eq!(other.signed(Method::Allocate, &[]), Told::No(400));
    let third = (FAMILY, vec![3, 0, 0, 0]);
    assert_eq!(
        other.signed(Method::Allocate, &[udp(), third]),
        Told::No(440)
    );
}

#[test]
fn permissions_channels_and_allocations_end() {
    let mut client = client();
    assert_eq!(client.allocate(), Told::Yes);
    assert_eq!(client.bind(0x4001, media(7_882)), Told::Yes);
    client.later(299);
    assert_eq!(
        client.send(media(7_882)),
        Told::Relayed(0, b"check".to_vec())
    );
    client.later(1);
    assert_eq!(
        client.send(media(7_882)),
        Told::Dropped(Dropped::NoPermission)
    );
    assert!(
        client.turn.way(client.now, 0, &client.server).is_some(),
        "the channel"
    );
    client.later(299);
    assert!(!client.turn.expire(client.now, &mut client.server));
    client.later(1);
    assert_eq!(client.turn.way(client.now, 0, &client.server), None);
    assert!(client.turn.expire(client.now, &mut client.server));
    assert!(!client.turn.is_allocated() && client.server.allocations.is_empty());
    let over = (LIFETIME_ATTRIBUTE, vec![0; 4]);
    assert_eq!(client.allocate(), Told::Yes);
    assert_eq!(client.signed(Method::Refresh, &[over]), Told::Yes);
    assert!(!client.turn.is_allocated() && client.server.allocations.is_empty());
}

#[test]
fn one_name_has_so_many_allocations() {
    let mut client = client();
    for connection in 0..QUOTA {
        client.turn = Turn::new(u64::from(connection));
        client.nonce = None;
        assert_eq!(client.allocate(), Told::Yes);
    }
    client.turn = Turn::new(99);
    client.nonce = None;
    assert_eq!(client.allocate(), Told::No(486));
    client.server.release(NAME.as_bytes());
    assert_eq!(client.signed(Method::Allocate, &[udp()]), Told::Yes);
}

#[test]
fn who_proves_nothing_is_answered_a_few_times() {
    let mut client = client();
    let bytes = request(Method::Allocate, Class::Request, &[udp()], None).unwrap();
    for _ in 0..PATIENCE {
        assert_eq!(client.raw(&bytes).0, Told::No(401));
    }
    assert_eq!(client.raw(&bytes).0, Told::Closed);
    for bytes in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", &[0; 20], &[0xff; 40]] {
        assert_eq!(self::client().raw(bytes).0, Told::Closed);
    }
    let mut other = self::client();
    let binding = request(Method::Binding, Class::Request, &[], None).unwrap();
    let (told, _) = other.raw(&binding);
    assert_eq!(told, Told::Yes, "where he is seen to be, anyone may know");
}
