//! Two peers back to back under a seeded network in virtual time.

use super::spec::{Codec, EncodingSpec};
use super::*;

const A: &str = "10.0.0.1:1000";
const B: &str = "10.0.0.2:2000";
const LATENCY: Nanos = 20 * SECOND / 1000;

struct Net {
    now: Nanos,
    peers: [Peer; 2],
    flying: Vec<(Nanos, u64, SocketAddr, SocketAddr, Vec<u8>)>,
    count: u64,
    chance: Chance,
    loss: f64,
    jitter: f64,
    steps: u64,
    sent: u64,
    dropped: u64,
}

fn json<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn peer(lite: bool, seed: u64) -> PeerSpec {
    let (ours, theirs, local) = if lite { ("b", "a", B) } else { ("a", "b", A) };
    json(serde_json::json!({
        "local_ufrag": ours, "local_pwd": format!("{ours}-password"),
        "remote_ufrag": theirs, "remote_pwd": format!("{theirs}-password"),
        "remotes": if lite { vec![] } else { vec!["10.0.0.9:9", B] },
        "local": local, "lite": lite, "seed": seed,
        "extensions": {"mid": 1, "rid": 2, "repaired_rid": 3, "audio_level": 4, "transport_cc": 5, "abs_send_time": 6},
    }))
}

impl Net {
    fn new(profile: Profile, seed: u64, loss: f64, jitter: f64) -> Self {
        let mut peers = [
            Peer::new(&peer(false, seed), 0),
            Peer::new(&peer(true, seed + 1), 0),
        ];
        let (one, two): (Vec<u8>, Vec<u8>) = (0..profile.key_len() + profile.salt_len())
            .map(|n| (n as u8, n as u8 ^ 99))
            .unzip();
        peers[0].set_keys(profile, &one, &two).unwrap();
        peers[1].set_keys(profile, &two, &one).unwrap();
        let chance = Chance::new(seed ^ 0xfeed);
        Self {
            now: 0,
            peers,
            flying: vec![],
            count: 0,
            chance,
            loss,
            jitter,
            steps: 0,
            sent: 0,
            dropped: 0,
        }
    }

    fn run(&mut self, until: f64) {
        let until = seconds(until);
        while self.now < until {
            for at in 0..2 {
                for transmit in self.peers[at].transmits() {
                    self.sent += 1;
                    if self.chance.unit() < self.loss {
                        self.dropped += 1;
                        continue;
                    }
                    let delay = LATENCY + seconds(self.chance.between(0.0, self.jitter));
                    self.count += 1;
                    self.flying.push((
                        self.now + delay,
                        self.count,
                        transmit.local,
                        transmit.remote,
                        transmit.datagram,
                    ));
                }
            }
            self.steps += 1;
            assert!(self.steps < 2_000_000, "a timeout that does not pass");
            let next = self
                .peers
                .iter()
                .filter_map(|peer| peer.next_timeout(self.now));
            let next = next
                .chain(self.flying.iter().map(|flying| flying.0))
                .min()
                .unwrap_or(until);
            self.now = next.max(self.now + 1).min(until);
            self.flying.sort_by_key(|flying| (flying.0, flying.1));
            let due = self.flying.partition_point(|flying| flying.0 <= self.now);
            for (_, _, from, to, mut datagram) in self.flying.drain(..due) {
                match to.to_string().as_str() {
                    A => self.peers[0].handle(self.now, from, &mut datagram),
                    B => self.peers[1].handle(self.now, from, &mut datagram),
                    _ => {}
                }
            }
            for peer in &mut self.peers {
                peer.advance(self.now);
            }
        }
    }
}

fn publish(codec: Codec, encodings: Vec<EncodingSpec>, extra: serde_json::Value) -> PublishSpec {
    let name = format!("{codec:?}").to_lowercase();
    let mut value = serde_json::json!({
        "publication": 7, "codec": name, "mid": name, "payload_type": 96, "rtx_payload_type": 97, "encodings": [],
    });
    value
        .as_object_mut()
        .unwrap()
        .extend(extra.as_object().unwrap().clone());
    PublishSpec {
        encodings,
        ..json(value)
    }
}

fn encoding(ssrc: u32, bitrate: u32) -> EncodingSpec {
    json(serde_json::json!({"ssrc": ssrc, "rtx_ssrc": ssrc + 1, "bitrate": bitrate}))
}

fn receive(codec: Codec, receiver: u32, extra: serde_json::Value) -> ReceiveSpec {
    let name = format!("{codec:?}").to_lowercase();
    let mut value = serde_json::json!({
        "receiver": receiver, "codec": name, "mid": name, "payload_type": 96, "rtx_payload_type": 97,
    });
    value
        .as_object_mut()
        .unwrap()
        .extend(extra.as_object().unwrap().clone());
    json(value)
}

fn nothing() -> serde_json::Value {
    serde_json::json!({})
}

#[test]
fn five_percent_loss_and_reordering_decode_everything() {
    for profile in [
        Profile::AeadAes128Gcm,
        Profile::AeadAes256Gcm,
        Profile::Aes128CmHmacSha1_80,
    ] {
        for codec in [Codec::Vp8, Codec::H264, Codec::Opus] {
            for seed in 0..4 {
                let mut net = Net::new(profile, seed, 0.05, 0.015);
                let bitrate = if codec.is_video() { 1_500_000 } else { 40_000 };
                net.peers[0]
                    .add_publication(publish(codec, vec![encoding(500, bitrate)], nothing()), 0);
                net.peers[1]
                    .add_receiver(receive(codec, 1, serde_json::json!({"max_wait": 1.0})), 0);
                // A first packet that is lost cannot be missed: the losses begin behind it.
                net.loss = 0.0;
                net.run(0.6);
                net.loss = 0.05;
                net.run(20.0);
                let (sender, stats) = (net.peers[0].stats(), net.peers[1].stats());
                let got = &stats.receivers[0];
                let made = sender.publications[&7][0].frames;
                let what = format!("{profile:?} {codec:?} seed {seed}: made {made} {got:?}");
                assert!(net.dropped * 100 > net.sent * 4, "{what}");
                assert!(made > 500, "{what}");
                // All but what is under way at the end, and a voice frame before the first that got through.
                assert!(
                    got.frames.frames + 40 >= made && got.frames.frames <= made,
                    "{what}"
                );
                assert_eq!(
                    (
                        got.frames.undecodable,
                        got.frames.corrupt,
                        got.frames.broken
                    ),
                    (0, 0, 0),
                    "{what}"
                );
                assert_eq!(
                    (got.seam_total, got.frames.skipped, stats.replayed()),
                    (0, 0, 0),
                    "{what}"
                );
                assert_eq!(
                    got.frames.sources.get(&7),
                    Some(&got.frames.frames),
                    "{what}"
                );
                let json = serde_json::to_value(got).unwrap();
                assert!(
                    json["recovered"].as_u64() > Some(20) && json["lost"] == 0,
                    "{what}"
                );
                assert!(
                    got.latency.p50 >= 20_000.0 && got.latency.p50 < 80_000.0,
                    "{what}"
                );
                // Feedback tells the sender its losses.
                assert!(sender.told_lost * 100 > sender.told_received * 3, "{what}");
                assert!(sender.publications[&7][0].reports > 10, "{what}");
            }
        }
    }
}

impl PeerStats {
    fn replayed(&self) -> u64 {
        self.counts.replayed
    }
}

#[test]
fn without_repair_the_checker_sees_holes_and_asks_for_keyframes() {
    let mut net = Net::new(Profile::AeadAes128Gcm, 5, 0.03, 0.0);
    net.peers[0].add_publication(
        publish(Codec::Vp8, vec![encoding(500, 300_000)], nothing()),
        0,
    );
    net.peers[1].add_receiver(
        receive(
            Codec::Vp8,
            1,
            serde_json::json!({"nack": false, "max_wait": 0.05}),
        ),
        0,
    );
    net.run(20.0);
    let got = &net.peers[1].stats().receivers[0];
    assert!(
        got.frames.broken > 10 && got.frames.undecodable > 20 && got.frames.freezes > 5,
        "{got:?}"
    );
    assert!(
        got.frames.keyframes > 5 && got.frames.keyframes < 80,
        "{got:?}"
    );
    assert_eq!(
        (got.frames.corrupt, got.seam_total),
        (0, 0),
        "losses are not seams: {got:?}"
    );
    assert!(net.peers[0].stats().publications[&7][0].plis > 5);
}

#[test]
fn droppable_frames_may_be_dropped_and_others_not() {
    let mut net = Net::new(Profile::AeadAes128Gcm, 5, 0.0, 0.0);
    let spec = publish(
        Codec::Vp8,
        vec![encoding(500, 300_000)],
        serde_json::json!({"temporal_layers": 2}),
    );
    net.peers[0].add_publication(spec, 0);
    net.peers[1].add_receiver(receive(Codec::Vp8, 1, nothing()), 0);
    net.run(10.0);
    let got = &net.peers[1].stats().receivers[0];
    assert!(
        got.frames.frames > 280 && got.frames.undecodable == 0 && got.seam_total == 0,
        "{got:?}"
    );
    assert_eq!((got.frames.freezes, got.frames.keyframes), (0, 1));
}

#[test]
fn three_encodings_share_an_m_section_and_are_told_apart() {
    let mut net = Net::new(Profile::AeadAes128Gcm, 9, 0.02, 0.005);
    let encodings = [
        ("q", 100, 150_000),
        ("h", 200, 500_000),
        ("f", 300, 1_700_000),
    ];
    let encodings = encodings.map(|(rid, ssrc, bitrate)| EncodingSpec {
        rid: Some(rid.into()),
        ..encoding(ssrc, bitrate)
    });
    net.peers[0].add_publication(publish(Codec::Vp8, encodings.to_vec(), nothing()), 0);
    for ssrc in [100, 200, 300] {
        net.peers[1].add_receiver(
            receive(
                Codec::Vp8,
                ssrc,
                serde_json::json!({"ssrc": ssrc, "rtx_ssrc": ssrc + 1}),
            ),
            0,
        );
    }
    net.loss = 0.0;
    net.run(0.6);
    net.loss = 0.02;
    net.run(10.0);
    let (sender, stats) = (net.peers[0].stats(), net.peers[1].stats());
    for (n, got) in stats.receivers.iter().enumerate() {
        assert!(
            got.frames.frames > 270 && got.frames.encoding == Some(n as u8),
            "{got:?}"
        );
        assert_eq!(
            (got.frames.undecodable, got.seam_total, got.frames.switches),
            (0, 0, 0),
            "{got:?}"
        );
        let octets = sender.publications[&7][n].octets;
        let target = [150_000, 500_000, 1_700_000][n] as f64 * 10.0 / 8.0;
        assert!(
            (octets as f64 / target - 1.0).abs() < 0.15,
            "{octets} {target}"
        );
    }
}

#[test]
fn silence_is_thin_and_no_loss() {
    let mut net = Net::new(Profile::AeadAes128Gcm, 3, 0.0, 0.0);
    net.peers[0].add_publication(
        publish(
            Codec::Opus,
            vec![encoding(500, 32_000)],
            serde_json::json!({"dtx": true}),
        ),
        0,
    );
    net.peers[1].add_receiver(receive(Codec::Opus, 1, nothing()), 0);
    net.run(12.0);
    let got = &net.peers[1].stats().receivers[0];
    assert!(
        (290..=305).contains(&got.frames.frames) && (13..=16).contains(&got.frames.dtx),
        "{got:?}"
    );
    assert_eq!((got.frames.skipped, got.seam_total), (0, 0), "{got:?}");
}

#[test]
fn consent_that_ends_ends_the_sending() {
    let mut net = Net::new(Profile::AeadAes128Gcm, 3, 0.0, 0.0);
    net.peers[0].add_publication(
        publish(Codec::Opus, vec![encoding(500, 32_000)], nothing()),
        0,
    );
    net.run(5.0);
    assert!(net.peers[0].connected() && net.peers[0].stats().checks < 12);
    net.loss = 1.0;
    net.run(30.0);
    assert!(!net.peers[0].lost());
    net.run(40.0);
    assert!(net.peers[0].lost() && !net.peers[0].connected());
    let packets = net.peers[0].stats().sent_packets;
    net.run(45.0);
    assert_eq!(net.peers[0].stats().sent_packets, packets);
}

#[test]
fn the_same_seed_is_the_same_run() {
    let run = |seed| {
        let mut net = Net::new(Profile::AeadAes128Gcm, seed, 0.1, 0.03);
        net.peers[0].add_publication(
            publish(Codec::Vp8, vec![encoding(500, 800_000)], nothing()),
            0,
        );
        net.peers[1].add_receiver(receive(Codec::Vp8, 1, nothing()), 0);
        net.run(5.0);
        serde_json::to_string(&net.peers[1].stats()).unwrap()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn a_storm_with_valid_keys_hurts_no_honest_stream() {
    let mut net = Net::new(Profile::AeadAes128Gcm, 3, 0.0, 0.0);
    net.peers[0].add_publication(
        publish(Codec::Vp8, vec![encoding(500, 800_000)], nothing()),
        0,
    );
    net.peers[1].add_receiver(
        receive(
            Codec::Vp8,
            1,
            serde_json::json!({"ssrc": 500, "rtx_ssrc": 501}),
        ),
        0,
    );
    let storm = json(serde_json::json!({"ssrcs": 50, "stun": 50, "replays": 50, "noise": 300}));
    net.peers[0].set_storm(storm, 0);
    net.run(5.0);
    let stats = net.peers[1].stats();
    assert!(
        stats.replayed() > 100 && stats.counts.unknown_stream > 100 && stats.counts.malformed > 100,
        "{stats:?}"
    );
    let got = &stats.receivers[0];
    assert!(
        got.frames.frames > 130 && got.frames.undecodable == 0 && got.seam_total == 0,
        "{got:?}"
    );
}

#[test]
fn a_wrong_password_on_either_side_connects_nobody() {
    for (wrong, field) in [(0, "local_pwd"), (0, "remote_pwd"), (1, "local_pwd")] {
        let mut net = Net::new(Profile::AeadAes128Gcm, 3, 0.0, 0.0);
        let mut spec = peer(wrong == 1, 3);
        let changed = if field == "local_pwd" {
            &mut spec.local_pwd
        } else {
            &mut spec.remote_pwd
        };
        changed.push('!');
        net.peers[wrong] = Peer::new(&spec, 0);
        net.run(5.0);
        // Our own password signs only what the controlled side would ask of us, and a lite one asks nothing.
        let harmless = wrong == 0 && field == "local_pwd";
        assert_eq!(
            [net.peers[0].connected(), net.peers[1].connected()],
            [harmless; 2],
            "{wrong} {field}"
        );
    }
}
