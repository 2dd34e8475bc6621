//! `d4e-peer`: many peers behind sockets on one thread, told what to do by JSON lines on its input, telling what happened
//! by JSON lines on its output. Load generator, latency probe (frames carry the time of their sending, by the clock that
//! all processes of the machine share) and hostile client; signalling is somebody else's (`tests/lab/client.py`).
//!
//! Without a server, for the latency that remains: add a `lite` peer with given keys and receivers, and a publisher
//! with the same keys turned round and the first one's address as its remote.

mod endpoint;
mod poll;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use d4e_engine::peer::spec::{PeerSpec, PublishSpec, ReceiveSpec, StormSpec};
use d4e_engine::peer::{Latency, unhex};
use dimpl::certificate::generate_self_signed_certificate;
use dimpl::{Config, DtlsCertificate};
use endpoint::{Endpoint, Security};
use serde::Deserialize;
use serde_json::{Value, json};

// Read a few times a second, never kept.
#[allow(clippy::large_enum_variant)]
#[derive(Deserialize)]
#[serde(tag = "cmd", rename_all = "snake_case", deny_unknown_fields)]
enum Command {
    Add {
        peer: String,
        spec: PeerSpec,
        security: Security,
        #[serde(default)]
        publish: Vec<PublishSpec>,
        #[serde(default)]
        receive: Vec<ReceiveSpec>,
        /// Never read again once keys are there; checks go on.
        #[serde(default)]
        sink: bool,
    },
    Publish {
        peer: String,
        publish: Vec<PublishSpec>,
    },
    Unpublish {
        peer: String,
        publication: u32,
    },
    Receive {
        peer: String,
        receive: Vec<ReceiveSpec>,
    },
    Unreceive {
        peer: String,
        receiver: u32,
    },
    /// Mute, and back.
    Active {
        peer: String,
        publication: u32,
        active: bool,
    },
    Encoding {
        peer: String,
        publication: u32,
        encoding: usize,
        active: bool,
        bitrate: Option<u32>,
    },
    Keyframe {
        peer: String,
        receiver: u32,
    },
    Storm {
        peer: String,
        storm: StormSpec,
    },
    Rebind {
        peer: String,
    },
    /// Any bytes from the peer's own socket.
    Raw {
        peer: String,
        remote: SocketAddr,
        hex: String,
    },
    Replay {
        peer: String,
        count: usize,
    },
    /// Answered by an event `stats`; `reset` begins the latency histograms anew.
    Stats {
        #[serde(default)]
        reset: bool,
    },
    Remove {
        peer: String,
    },
    Quit,
}

struct Lab {
    endpoints: BTreeMap<String, Endpoint>,
    config: Arc<Config>,
    certificate: DtlsCertificate,
}

const MAX_WAIT: Duration = Duration::from_millis(500);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let certificate = generate_self_signed_certificate()?;
    // A lost flight on a loopback or laboratory link need not wait a second.
    let config = Arc::new(
        Config::builder()
            .flight_start_rto(Duration::from_millis(250))
            .build()?,
    );
    tell(&json!({"event": "ready", "fingerprint": certificate.fingerprint_str()}))?;
    let mut lab = Lab {
        endpoints: BTreeMap::new(),
        config,
        certificate,
    };
    let input = io::stdin().as_raw_fd();
    let mut pending = Vec::new();
    loop {
        let now = poll::monotonic();
        let deadline = lab
            .endpoints
            .values()
            .filter_map(|endpoint| endpoint.deadline)
            .min();
        let wait = deadline.map_or(MAX_WAIT, |at| {
            Duration::from_nanos(at.saturating_sub(now)).min(MAX_WAIT)
        });
        let mut fds = vec![input];
        let readers: Vec<String> = lab
            .endpoints
            .iter()
            .filter_map(|(name, endpoint)| {
                fds.push(endpoint.fd()?);
                Some(name.clone())
            })
            .collect();
        let ready = poll::readable(&fds, wait)?;
        for (name, _) in readers.iter().zip(&ready[1..]).filter(|(_, ready)| **ready) {
            if let Some(endpoint) = lab.endpoints.get_mut(name) {
                endpoint.read();
                endpoint.advance();
            }
        }
        if ready[0] && !lab.input(input, &mut pending)? {
            return Ok(());
        }
        let now = poll::monotonic();
        for endpoint in lab.endpoints.values_mut() {
            if endpoint.deadline.is_some_and(|at| now >= at) {
                endpoint.advance();
            }
            for news in endpoint.news() {
                tell(&news)?;
            }
        }
    }
}

fn tell(value: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()
}

impl Lab {
    /// Reads what is there and obeys whole lines. False at the end of input.
    fn input(&mut self, input: RawFd, pending: &mut Vec<u8>) -> io::Result<bool> {
        let mut buffer = [0; 65_536];
        // One read only: input was found readable, and a second might wait.
        match poll::read_now(input, &mut buffer)? {
            Some(0) => return Ok(false),
            Some(len) => pending.extend(&buffer[..len]),
            None => {}
        }
        while let Some(end) = pending.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let outcome = match serde_json::from_slice(&line) {
                Ok(Command::Quit) => return Ok(false),
                Ok(command) => self.obey(command),
                Err(error) => Err(error.to_string()),
            };
            if let Err(reason) = outcome {
                tell(
                    &json!({"event": "error", "reason": reason, "line": String::from_utf8_lossy(&line).trim_end()}),
                )?;
            }
        }
        Ok(true)
    }

    fn obey(&mut self, command: Command) -> Result<(), String> {
        let now = poll::monotonic();
        match command {
            Command::Add {
                peer,
                spec,
                security,
                publish,
                receive,
                sink,
            } => {
                let endpoint = Endpoint::new(
                    peer.clone(),
                    &spec,
                    security,
                    sink,
                    &self.config,
                    &self.certificate,
                    now,
                );
                let mut endpoint = endpoint.map_err(|error| error.to_string())?;
                for spec in publish {
                    endpoint.peer.add_publication(spec, now);
                }
                for spec in receive {
                    endpoint.peer.add_receiver(spec, now);
                }
                let local = endpoint.local().map_err(|error| error.to_string())?;
                tell(&json!({"event": "added", "peer": peer, "local": local.to_string()}))
                    .map_err(|error| error.to_string())?;
                self.endpoints.insert(peer, endpoint);
            }
            Command::Publish { peer, publish } => {
                for spec in publish {
                    self.endpoint(&peer)?.peer.add_publication(spec, now);
                }
            }
            Command::Unpublish { peer, publication } => {
                self.endpoint(&peer)?.peer.remove_publication(publication)
            }
            Command::Receive { peer, receive } => {
                for spec in receive {
                    self.endpoint(&peer)?.peer.add_receiver(spec, now);
                }
            }
            Command::Unreceive { peer, receiver } => {
                self.endpoint(&peer)?.peer.remove_receiver(receiver)
            }
            Command::Active {
                peer,
                publication,
                active,
            } => {
                self.endpoint(&peer)?
                    .peer
                    .set_publication(publication, active);
            }
            Command::Encoding {
                peer,
                publication,
                encoding,
                active,
                bitrate,
            } => {
                self.endpoint(&peer)?
                    .peer
                    .set_encoding(publication, encoding, active, bitrate);
            }
            Command::Keyframe { peer, receiver } => {
                self.endpoint(&peer)?.peer.request_keyframe(receiver)
            }
            Command::Storm { peer, storm } => self.endpoint(&peer)?.peer.set_storm(storm, now),
            Command::Rebind { peer } => self
                .endpoint(&peer)?
                .rebind(now)
                .map_err(|error| error.to_string())?,
            Command::Raw { peer, remote, hex } => {
                let datagram = unhex(&hex).ok_or("hex digits in pairs are wanted")?;
                self.endpoint(&peer)?.peer.send_raw(remote, datagram);
            }
            Command::Replay { peer, count } => self.endpoint(&peer)?.peer.replay(count),
            Command::Stats { reset } => self.stats(reset).map_err(|error| error.to_string())?,
            Command::Remove { peer } => {
                self.endpoints.remove(&peer).ok_or("no such peer")?;
            }
            Command::Quit => {}
        }
        Ok(())
    }

    fn endpoint(&mut self, peer: &str) -> Result<&mut Endpoint, String> {
        let endpoint = self
            .endpoints
            .get_mut(peer)
            .ok_or_else(|| format!("no peer {peer}"))?;
        // Whatever was asked, its consequences are due.
        endpoint.deadline = Some(0);
        Ok(endpoint)
    }

    fn stats(&mut self, reset: bool) -> io::Result<()> {
        let mut latency = Latency::default();
        let mut peers = BTreeMap::new();
        for (name, endpoint) in &mut self.endpoints {
            let mut stats = serde_json::to_value(endpoint.peer.stats())?;
            stats["send_errors"] = endpoint.send_errors.into();
            stats["failed"] = endpoint.failed.clone().into();
            peers.insert(name, stats);
            latency.merge(&endpoint.peer.latency(reset));
        }
        let (now, cpu) = (poll::monotonic() as f64 / 1e9, poll::cpu_seconds());
        tell(&json!({
            "event": "stats",
            "now": now,
            "cpu_seconds": cpu,
            "latency": latency.quantiles(),
            "histogram": latency.histogram(),
            "peers": peers,
        }))
    }
}
