//! One peer behind a socket: the sans-IO peer, its UDP socket, and DTLS by the crate `dimpl` (the server's is OpenSSL:
//! two implementations, so that one's misreading is the other's failure).

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Instant;

use d4e_engine::peer::spec::{KeySpec, PeerSpec};
use d4e_engine::peer::{Nanos, Peer};
use d4e_engine::wire::srtp::Profile;
use dimpl::certificate::{calculate_fingerprint, format_fingerprint};
use dimpl::{Config, Dtls, DtlsCertificate, Output, SrtpProfile};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::poll;

/// Datagrams read in one go before others have their turn.
const BATCH: usize = 64;
const MAX_DATAGRAM: usize = 2048;

/// Which end of DTLS we are (RFC 4145): active = client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Setup {
    Active,
    Passive,
}

/// How the transport gets its keys.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// The other side's SHA-256 fingerprint, `AA:BB:…`.
    Dtls {
        fingerprint: String,
        setup: Setup,
    },
    Keys(KeySpec),
}

pub struct Endpoint {
    pub name: String,
    pub peer: Peer,
    socket: UdpSocket,
    handshake: Option<Handshake>,
    /// Stop reading as soon as keys are there.
    sink: bool,
    deaf: bool,
    keyed: bool,
    added: Nanos,
    told: Told,
    pub deadline: Option<Nanos>,
    pub send_errors: u64,
    pub failed: Option<String>,
}

struct Handshake {
    dtls: Dtls,
    setup: Setup,
    fingerprint: String,
    timeout: Option<Instant>,
    started: bool,
}

#[derive(Default)]
struct Told {
    ice: bool,
    keyed: bool,
    first_frame: bool,
    failed: bool,
}

impl Endpoint {
    pub fn new(
        name: String,
        spec: &PeerSpec,
        security: Security,
        sink: bool,
        config: &Arc<Config>,
        certificate: &DtlsCertificate,
        now: Nanos,
    ) -> io::Result<Self> {
        let socket = bind(spec.local)?;
        let spec = PeerSpec {
            local: socket.local_addr()?,
            ..spec.clone()
        };
        let mut peer = Peer::new(&spec, now);
        let mut keyed = false;
        let handshake = match security {
            Security::Dtls { fingerprint, setup } => {
                let mut dtls =
                    Dtls::new_12(Arc::clone(config), certificate.clone(), Instant::now());
                dtls.set_active(setup == Setup::Active);
                Some(Handshake {
                    dtls,
                    setup,
                    fingerprint,
                    timeout: None,
                    started: false,
                })
            }
            Security::Keys(keys) => {
                peer.set_key_spec(&keys)
                    .map_err(|_| io::Error::other("keys of the wrong length"))?;
                keyed = true;
                None
            }
        };
        Ok(Self {
            name,
            peer,
            socket,
            handshake,
            sink,
            deaf: false,
            keyed,
            added: now,
            told: Told::default(),
            deadline: Some(now),
            send_errors: 0,
            failed: None,
        })
    }

    /// What to wait for; nothing for a sink.
    pub fn fd(&self) -> Option<RawFd> {
        (!self.deaf).then(|| self.socket.as_raw_fd())
    }

    pub fn local(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Goes on from another port, as behind a NAT that forgot.
    pub fn rebind(&mut self, now: Nanos) -> io::Result<()> {
        let ip = self.socket.local_addr()?.ip();
        self.socket = bind(SocketAddr::new(ip, 0))?;
        self.peer.set_local(self.socket.local_addr()?, now);
        Ok(())
    }

    pub fn read(&mut self) {
        let mut buffer = [0; MAX_DATAGRAM];
        for _ in 0..BATCH {
            // Refused ports of the other side come back as errors here: they are no end.
            let Ok((len, from)) = self.socket.recv_from(&mut buffer) else {
                break;
            };
            self.peer
                .handle(poll::monotonic(), from, &mut buffer[..len]);
            self.take_dtls();
        }
    }

    /// At once, and not after the batch: media may follow the datagram that brings its keys.
    fn take_dtls(&mut self) {
        let datagrams = self.peer.take_dtls();
        if datagrams.is_empty() {
            return;
        }
        // Begun first: what comes earlier is not for us (the port was another's before), and no handshake can take it.
        self.handshake();
        for datagram in datagrams {
            if let Some(handshake) = &mut self.handshake
                && handshake.started
                && let Err(error) = handshake.dtls.handle_packet(&datagram)
            {
                self.failed = Some(format!("dtls: {error}"));
            }
        }
        self.handshake();
    }

    /// Everything that is due; writes what came of it to the network.
    pub fn advance(&mut self) {
        let now = poll::monotonic();
        self.peer.advance(now);
        self.handshake();
        for transmit in self.peer.transmits() {
            if self
                .socket
                .send_to(&transmit.datagram, transmit.remote)
                .is_err()
            {
                self.send_errors += 1;
            }
        }
        if self.sink && self.keyed && !self.deaf && self.peer.connected() {
            self.deaf = true;
            self.peer.set_deaf();
            poll::shrink(self.socket.as_raw_fd());
        }
        let now = poll::monotonic();
        let dtls = self
            .handshake
            .as_ref()
            .and_then(|handshake| handshake.timeout);
        let dtls =
            dtls.map(|at| now + at.saturating_duration_since(Instant::now()).as_nanos() as Nanos);
        self.deadline = [self.peer.next_timeout(now), dtls]
            .into_iter()
            .flatten()
            .min();
    }

    fn handshake(&mut self) {
        let Some(handshake) = self
            .handshake
            .as_mut()
            .filter(|_| self.peer.connected() && self.failed.is_none())
        else {
            return;
        };
        let due = handshake.timeout.is_some_and(|at| Instant::now() >= at);
        if !handshake.started || due {
            handshake.started = true;
            handshake.timeout = None;
            if let Err(error) = handshake.dtls.handle_timeout(Instant::now()) {
                self.failed = Some(format!("dtls: {error}"));
                return;
            }
        }
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            match handshake.dtls.poll_output(&mut buffer) {
                Output::Packet(datagram) => {
                    self.peer.send_dtls(datagram);
                }
                Output::BufferTooSmall { needed } => buffer.resize(needed, 0),
                Output::Timeout(at) => {
                    handshake.timeout = Some(at);
                    break;
                }
                Output::PeerCert(certificate) => {
                    let found = format_fingerprint(&calculate_fingerprint(certificate));
                    if !found.eq_ignore_ascii_case(&handshake.fingerprint) {
                        self.failed =
                            Some("the fingerprint is not the one that was signalled".into());
                        break;
                    }
                }
                Output::KeyingMaterial(material, profile) => {
                    match keys(&material, profile, handshake.setup) {
                        Some((profile, receive, send))
                            if self.peer.set_keys(profile, &receive, &send).is_ok() =>
                        {
                            self.keyed = true;
                        }
                        _ => {
                            self.failed =
                                Some(format!("no such protection profile here: {profile:?}"))
                        }
                    }
                }
                Output::CloseNotify => {
                    self.failed = Some("dtls: closed by the other side".into());
                    break;
                }
                _ => {}
            }
        }
    }

    /// What has happened since the last call.
    pub fn news(&mut self) -> Vec<Value> {
        let mut news = Vec::new();
        let at = (poll::monotonic() - self.added) as f64 / 1e9;
        let peer = &self.name;
        if !self.told.ice && self.peer.connected() {
            self.told.ice = true;
            news.push(json!({"event": "path", "peer": peer, "after": at}));
        }
        if !self.told.keyed && self.keyed && self.peer.connected() {
            self.told.keyed = true;
            news.push(json!({"event": "connected", "peer": peer, "after": at}));
        }
        if !self.told.first_frame && self.peer.frames() > 0 {
            self.told.first_frame = true;
            news.push(json!({"event": "first_frame", "peer": peer, "after": at}));
        }
        let lost = self
            .peer
            .lost()
            .then(|| "no answer to checks for 30 s".to_owned());
        if let Some(reason) = self.failed.clone().or(lost).filter(|_| !self.told.failed) {
            self.told.failed = true;
            news.push(json!({"event": "failed", "peer": peer, "after": at, "reason": reason}));
        }
        news
    }
}

fn bind(local: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(local)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// RFC 5764 §4.2: client key, server key, client salt, server salt. Answers (profile, receive, send).
fn keys(
    material: &[u8],
    profile: SrtpProfile,
    setup: Setup,
) -> Option<(Profile, Vec<u8>, Vec<u8>)> {
    let profile = match profile {
        SrtpProfile::AEAD_AES_128_GCM => Profile::AeadAes128Gcm,
        SrtpProfile::AEAD_AES_256_GCM => Profile::AeadAes256Gcm,
        SrtpProfile::AES128_CM_SHA1_80 => Profile::Aes128CmHmacSha1_80,
        _ => return None,
    };
    let (key, salt) = (profile.key_len(), profile.salt_len());
    if material.len() != 2 * (key + salt) {
        return None;
    }
    let (keys, salts) = material.split_at(2 * key);
    let client = [&keys[..key], &salts[..salt]].concat();
    let server = [&keys[key..], &salts[salt..]].concat();
    Some(match setup {
        Setup::Active => (profile, server, client),
        Setup::Passive => (profile, client, server),
    })
}
