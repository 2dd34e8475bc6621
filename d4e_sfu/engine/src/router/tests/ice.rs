//! Connectivity checks: one good request and everything that can be wrong with it; who owns an address; when a path moves
//! and when a transport is gone.

use super::client::{Source, keys};
use super::{Client, World, opus};
use crate::api::{Command, Event, Profile};
use crate::wire::drop::DropReason;
use crate::wire::seq::Ssrc;
use crate::wire::stun::{self, IntegrityKey};

/// Appends FINGERPRINT (RFC 8489 §14.7) after whatever was done to the message.
fn fingerprinted(mut message: Vec<u8>) -> Vec<u8> {
    let len = (message.len() - 20 + 8) as u16;
    message[2..4].copy_from_slice(&len.to_be_bytes());
    let sum = crc32fast::hash(&message) ^ 0x5354_554e;
    message.extend([0x80, 0x28, 0, 4]);
    message.extend(sum.to_be_bytes());
    message
}

/// Without its FINGERPRINT, which is the last attribute.
fn bare(request: &[u8]) -> Vec<u8> {
    request[..request.len() - 8].to_vec()
}

/// Signs `attributes` like a client that knows the password.
fn signed(client: &Client, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    // HMAC-SHA1 by the same library, the framing by hand: an independent writing of RFC 8489 §14.5.
    let mut message = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    message.extend([9; 12]);
    for (kind, value) in attributes {
        message.extend(kind.to_be_bytes());
        message.extend((value.len() as u16).to_be_bytes());
        message.extend_from_slice(value);
        message.resize(message.len().next_multiple_of(4), 0);
    }
    let len = (message.len() - 20 + 24) as u16;
    message[2..4].copy_from_slice(&len.to_be_bytes());
    let password = format!("password-of-transport-{:04}", client.id);
    let key = aws_lc_rs::hmac::Key::new(
        aws_lc_rs::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        password.as_bytes(),
    );
    let tag = aws_lc_rs::hmac::sign(&key, &message);
    message.extend([0, 8, 0, 20]);
    message.extend_from_slice(tag.as_ref());
    fingerprinted(message)
}

const USERNAME: u16 = 0x0006;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const CONTROLLED: u16 = 0x8029;
const CONTROLLING: u16 = 0x802a;

fn answer(world: &mut World) -> Option<Vec<u8>> {
    let mut sent = std::mem::take(&mut world.kept.datagrams);
    assert!(sent.len() <= 1);
    sent.pop().map(|(_, _, datagram)| datagram)
}

#[test]
fn a_good_check_is_answered_and_opens_the_path() {
    let mut world = World::new();
    let client = Client::announced(&mut world, 1, Profile::AeadAes128Gcm);
    let request = client.request(true);
    world.handle(client.remote, &request);
    let response = answer(&mut world).unwrap();
    let message = stun::Message::parse(&response).unwrap();
    assert_eq!(
        (message.class, message.transaction),
        (stun::Class::Success, [7; 12])
    );
    assert_eq!(message.mapped, Some(client.remote));
    assert_eq!(message.username, None);
    assert!(message.fingerprint && message.verify(&client.key));
    assert!(response.len() <= request.len());
    assert_eq!(
        world.events(),
        [Event::PathChanged {
            transport: 1,
            local: "10.0.0.1:7882".into(),
            remote: client.remote.to_string()
        }]
    );
}

#[test]
fn anything_wrong_with_a_check_gets_silence_and_changes_nothing() {
    let mut world = World::new();
    let client = Client::announced(&mut world, 1, Profile::AeadAes128Gcm);
    let other = Client::announced(&mut world, 2, Profile::AeadAes128Gcm);
    let good = client.request(true);
    let patched = |at: usize, value: u8| {
        let mut request = good.clone();
        request[at] = value;
        request
    };
    let named = |username: &str, key: &IntegrityKey| {
        let mut out = [0; 512];
        let request = stun::BindingRequest {
            transaction: [7; 12],
            username,
            priority: 1,
            controlling: Some(1),
            controlled: None,
            use_candidate: true,
        };
        let len = stun::write_binding_request(&mut out, &request, key).unwrap();
        out[..len].to_vec()
    };
    let without_integrity = {
        // Header, USERNAME, PRIORITY only.
        let mut message = good[..20].to_vec();
        message.extend([0, 6, 0, 14]);
        message.extend(client.username.as_bytes());
        message.resize(message.len().next_multiple_of(4), 0);
        fingerprinted(message)
    };
    let mut mutations: Vec<(&str, Vec<u8>)> = vec![
        ("cookie", patched(4, 0x20)),
        ("no cookie at all", patched(7, 0)),
        ("transaction changed after signing", patched(9, 1)),
        ("length too long", patched(3, good[3] + 4)),
        ("length too short", patched(3, good[3] - 4)),
        ("length not a multiple of four", patched(3, good[3] + 1)),
        ("a success response", patched(0, 0x01)),
        ("an indication", patched(1, 0x11)),
        ("another method", patched(1, 0x03)),
        (
            "fingerprint wrong",
            patched(good.len() - 1, good[good.len() - 1] ^ 1),
        ),
        ("fingerprint missing", {
            let mut request = bare(&good);
            let len = (request.len() - 20) as u16;
            request[2..4].copy_from_slice(&len.to_be_bytes());
            request
        }),
        ("username changed", {
            let mut request = bare(&good);
            request[24] ^= 1;
            fingerprinted(request)
        }),
        ("integrity wrong", {
            let mut request = bare(&good);
            let at = request.len() - 1;
            request[at] ^= 1;
            fingerprinted(request)
        }),
        ("integrity missing", without_integrity),
        ("unknown ufrag", named("nobody:remote1", &client.key)),
        ("our half alone", named("local1", &client.key)),
        ("our half with an empty peer", named("local1:", &client.key)),
        ("wrong peer", named("local1:remote2", &client.key)),
        ("peer with a tail", named("local1:remote1x", &client.key)),
        ("peer cut short", named("local1:remote", &client.key)),
        ("halves swapped", named("remote1:local1", &client.key)),
        ("prefix of our ufrag", named("local:remote1", &client.key)),
        ("another's password", named("local1:remote1", &other.key)),
        (
            "another's name with one's own password",
            named("local2:remote2", &client.key),
        ),
    ];
    for cut in [0, 1, 19, 20, 24, good.len() - 1] {
        mutations.push(("cut short", good[..cut].to_vec()));
    }
    for (name, request) in mutations {
        let before = world
            .router
            .snapshot()
            .counters
            .drops
            .iter()
            .map(|(_, n)| n)
            .sum::<u64>();
        world.handle(client.remote, &request);
        assert_eq!(answer(&mut world), None, "{name}");
        assert!(world.events().is_empty(), "{name}");
        assert!(world.router.by_address.is_empty(), "{name}");
        let after = world
            .router
            .snapshot()
            .counters
            .drops
            .iter()
            .map(|(_, n)| n)
            .sum::<u64>();
        assert_eq!(after, before + 1, "{name} must be counted");
    }
    world.handle(client.remote, &good);
    assert!(answer(&mut world).is_some(), "and the good one still works");
}

#[test]
fn unknown_attributes_are_named_only_to_those_who_know_the_password() {
    let mut world = World::new();
    let client = Client::announced(&mut world, 1, Profile::AeadAes128Gcm);
    let name = client.username.clone();
    let attributes: [(u16, &[u8]); 4] = [
        (USERNAME, name.as_bytes()),
        (PRIORITY, &[0; 4]),
        (USE_CANDIDATE, &[]),
        (0x7777, &[1, 2, 3, 4]),
    ];
    let good = signed(&client, &attributes);
    let mut forged = bare(&good);
    let last = forged.len() - 1;
    forged[last] ^= 1;
    world.handle(client.remote, &fingerprinted(forged));
    assert_eq!(answer(&mut world), None);
    world.handle(client.remote, &good);
    let response = answer(&mut world).unwrap();
    let message = stun::Message::parse(&response).unwrap();
    assert_eq!(
        (message.class, message.error),
        (stun::Class::Error, Some(420))
    );
    assert!(message.verify(&client.key) && response.len() <= good.len());
    assert!(
        world.router.by_address.is_empty(),
        "and it validates nothing"
    );
    // A comprehension-optional one is nothing to complain of.
    world.handle(
        client.remote,
        &signed(
            &client,
            &[
                (USERNAME, name.as_bytes()),
                (PRIORITY, &[0; 4]),
                (0xc057, &[0; 4]),
            ],
        ),
    );
    assert_eq!(
        stun::Message::parse(&answer(&mut world).unwrap())
            .unwrap()
            .class,
        stun::Class::Success
    );
}

#[test]
fn a_client_that_wants_to_be_controlled_hears_of_the_conflict() {
    let mut world = World::new();
    let client = Client::announced(&mut world, 1, Profile::AeadAes128Gcm);
    let name = client.username.clone();
    let request = signed(
        &client,
        &[
            (USERNAME, name.as_bytes()),
            (PRIORITY, &[0; 4]),
            (CONTROLLED, &[0; 8]),
        ],
    );
    world.handle(client.remote, &request);
    assert_eq!(
        stun::Message::parse(&answer(&mut world).unwrap())
            .unwrap()
            .error,
        Some(487)
    );
    assert!(world.router.by_address.is_empty());
    let request = signed(
        &client,
        &[
            (USERNAME, name.as_bytes()),
            (PRIORITY, &[0; 4]),
            (CONTROLLING, &[0; 8]),
            (USE_CANDIDATE, &[]),
        ],
    );
    world.handle(client.remote, &request);
    assert_eq!(
        stun::Message::parse(&answer(&mut world).unwrap())
            .unwrap()
            .class,
        stun::Class::Success
    );
}

#[test]
fn an_answer_is_never_larger_than_the_question() {
    let mut world = World::new();
    let mut client = Client::announced(&mut world, 1, Profile::AeadAes128Gcm);
    client.remote = "[2001:db8::1]:5000".parse().unwrap();
    // The smallest request that authenticates: an IPv6 answer to it would be 4 bytes longer than the question.
    let name = client.username.clone();
    let request = signed(&client, &[(USERNAME, name.as_bytes())]);
    world.handle(client.remote, &request);
    assert!(answer(&mut world).is_none_or(|response| response.len() <= request.len()));
}

#[test]
fn checks_are_answered_at_a_bounded_rate() {
    let mut world = World::new();
    let client = Client::announced(&mut world, 1, Profile::AeadAes128Gcm);
    for _ in 0..5_000 {
        client.check(&mut world, true);
        world.now.0 += 1_000_000;
    }
    let answers = world.kept.datagrams.len();
    assert!(answers <= 600, "{answers} in five seconds");
    assert!(answers >= 400);
}

#[test]
fn the_path_follows_authentic_media_to_a_nominated_address_and_nothing_else() {
    let mut world = World::new();
    let mut speaker = Client::join(&mut world, 1);
    let mut listener = Client::join(&mut world, 2);
    world.publish_voice(&speaker, 1);
    world.subscribe(&listener, 1, 1, Some(0));
    let mut source = Source::new(0x1111, 111, 0).mid("p1");
    let mut talk = |world: &mut World, speaker: &mut Client| {
        speaker.send(world, &mut source, &opus(1), false);
        std::mem::take(&mut world.kept.datagrams)
            .into_iter()
            .map(|(_, to, _)| to)
            .collect::<Vec<_>>()
    };
    let home = listener.remote;
    assert_eq!(talk(&mut world, &mut speaker), [home]);
    // The listener's NAT gives him another port.
    let away = "198.51.100.7:1234".parse().unwrap();
    listener.remote = away;
    let report = |world: &mut World, listener: &mut Client| {
        listener.send_rtcp(world, |slot| {
            crate::wire::rtcp::write_receiver_report(slot, Ssrc(1), &[])
        });
        world.kept.datagrams.clear();
    };
    report(&mut world, &mut listener);
    assert_eq!(
        talk(&mut world, &mut speaker),
        [home],
        "authentic, from an address never checked"
    );
    listener.check(&mut world, false);
    world.kept.datagrams.clear();
    report(&mut world, &mut listener);
    assert_eq!(
        talk(&mut world, &mut speaker),
        [home],
        "checked, not nominated"
    );
    listener.check(&mut world, true);
    world.kept.datagrams.clear();
    assert_eq!(
        talk(&mut world, &mut speaker),
        [home],
        "nominated, nothing authentic since"
    );
    world.handle(
        away,
        &[
            0x80, 111, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
            15, 16, 17,
        ],
    );
    assert_eq!(talk(&mut world, &mut speaker), [home], "junk is not media");
    let _ = world.events();
    report(&mut world, &mut listener);
    assert_eq!(talk(&mut world, &mut speaker), [away]);
    assert_eq!(
        world.events(),
        [Event::PathChanged {
            transport: 2,
            local: "10.0.0.1:7882".into(),
            remote: away.to_string()
        }]
    );
}

#[test]
fn a_transport_answers_from_the_socket_on_which_it_was_validated() {
    let mut world = World::new();
    let mut client = Client::announced(&mut world, 1, Profile::AeadAes128Gcm);
    world.local = "172.16.0.9:7882".parse().unwrap();
    client.check(&mut world, true);
    world.apply(Command::SendDtls {
        transport: 1,
        datagram: vec![22; 50],
    });
    let sent = std::mem::take(&mut world.kept.datagrams);
    assert!(
        sent.iter()
            .all(|(local, to, _)| *local == world.local && *to == client.remote)
    );
    assert_eq!(sent.len(), 2);
    assert!(client.got(&mut world).is_empty());
}

#[test]
fn an_address_in_use_is_not_taken_over_by_another_transport() {
    let mut world = World::new();
    let first = Client::join(&mut world, 1);
    let mut second = Client::announced(&mut world, 2, Profile::AeadAes128Gcm);
    second.remote = first.remote;
    second.check(&mut world, true);
    assert_eq!(world.drops(DropReason::AddressTaken), 1);
    assert!(world.kept.datagrams.is_empty());
    // Clients may check every six seconds, and one check may be lost.
    world.pass(12_500);
    second.check(&mut world, true);
    assert_eq!(world.drops(DropReason::AddressTaken), 2);
    // Once its owner has not been heard there for fifteen seconds, or is gone, it is free.
    world.pass(2_500);
    second.check(&mut world, true);
    assert_eq!(world.kept.datagrams.len(), 1);
    world.apply(Command::RemoveTransport { transport: 2 });
    first.check(&mut world, true);
    assert_eq!(world.kept.datagrams.len(), 2);
}

#[test]
fn consent_ends_after_thirty_seconds_and_takes_everything_along() {
    for (lost, limit) in [(false, 30_000), (true, 15_000)] {
        let mut world = World::new();
        let speaker = Client::join(&mut world, 1);
        let listener = Client::join(&mut world, 2);
        world.publish_voice(&speaker, 1);
        world.subscribe(&listener, 1, 1, Some(0));
        world.apply(Command::SetSignalLost { transport: 1, lost });
        let _ = world.events();
        for _ in 0..(limit / 1_000 - 1) {
            world.pass(1_000);
            listener.check(&mut world, true);
        }
        assert!(world.events().is_empty(), "{lost}");
        world.pass(1_100);
        assert_eq!(
            world.events(),
            [Event::TransportGone { transport: 1 }],
            "{lost}"
        );
        let snapshot = world.router.snapshot();
        assert_eq!(
            (
                snapshot.transports,
                snapshot.publications,
                snapshot.subscriptions
            ),
            (1, 0, 0)
        );
    }
}

#[test]
fn addresses_that_are_no_longer_checked_are_all_left_at_once() {
    let mut world = World::new();
    let mut client = Client::join(&mut world, 1);
    let (home, mut away) = (client.remote, client.remote);
    for port in 1..=5 {
        client.remote.set_port(port);
        client.check(&mut world, true);
    }
    away.set_port(6);
    world.pass(14_000);
    client.remote = away;
    client.check(&mut world, true);
    // The thread is not scheduled for a while, and then ticks once.
    world.kept.datagrams.clear();
    world.now.0 += 2_000_000_000;
    world.router.advance(world.now, &mut world.kept);
    let known: Vec<_> = world.router.by_address.keys().collect();
    assert_eq!(known, [&(world.local, away)]);
    world.apply(Command::SendDtls {
        transport: 1,
        datagram: vec![22; 50],
    });
    let sent = world.kept.datagrams.iter();
    assert!(sent.filter(|(_, to, _)| *to == home).count() == 0);
    assert!(world.kept.datagrams.iter().any(|(_, to, _)| *to == away));
}

#[test]
fn dtls_goes_up_from_proven_addresses_only_and_not_without_end() {
    let mut world = World::new();
    let client = Client::announced(&mut world, 1, Profile::AeadAes128Gcm);
    let hello = vec![22; 200];
    world.handle(client.remote, &hello);
    assert!(world.events().is_empty(), "before any check");
    client.check(&mut world, false);
    let _ = world.events();
    world.handle("203.0.113.5:9".parse().unwrap(), &hello);
    assert!(world.events().is_empty(), "from somebody else");
    world.handle(client.remote, &hello);
    assert_eq!(
        world.events(),
        [Event::Dtls {
            transport: 1,
            datagram: hello.clone()
        }]
    );
    for len in [1, 12] {
        world.handle(client.remote, &hello[..len]);
    }
    assert!(world.events().is_empty(), "shorter than a record");
    for _ in 0..10_000 {
        world.handle(client.remote, &hello);
    }
    assert_eq!(
        world.events().len(),
        256,
        "what waits for Python is bounded"
    );
    assert!(world.drops(DropReason::DtlsLimit) + world.drops(DropReason::EventQueueFull) >= 9_000);
}

#[test]
fn keys_are_taken_once_and_only_of_the_right_length() {
    let mut world = World::new();
    let client = Client::join(&mut world, 1);
    let profile = Profile::AeadAes128Gcm;
    world.apply(Command::SetKeys {
        transport: 1,
        profile,
        receive: vec![1; 27],
        send: vec![1; 28],
    });
    assert_eq!(world.router.snapshot().counters.commands_ignored, 1);
    // A second set must not start the counters anew under the same keys.
    world.apply(Command::SetKeys {
        transport: 1,
        profile,
        receive: keys(profile, 9),
        send: keys(profile, 9),
    });
    let mut client = client;
    world.publish_voice(&client, 1);
    client.send(
        &mut world,
        &mut Source::new(5, 111, 0).mid("p1"),
        &opus(1),
        false,
    );
    assert_eq!(world.drops(DropReason::BadAuthentication), 0);
}

// --- ICE restart (RFC 8445 §9) ----------------------------------------------------------------------------------------

/// A check with other credentials than the client's first.
fn check_as(
    world: &mut World,
    remote: std::net::SocketAddr,
    username: &str,
    password: &str,
    nominate: bool,
) -> bool {
    let mut out = [0; 512];
    let request = stun::BindingRequest {
        transaction: [8; 12],
        username,
        priority: 1,
        controlling: Some(1),
        controlled: None,
        use_candidate: nominate,
    };
    let key = IntegrityKey::new(password);
    let len = stun::write_binding_request(&mut out, &request, &key).unwrap();
    world.kept.datagrams.clear();
    world.handle(remote, &out[..len]);
    answer(world).is_some()
}

fn restart(world: &mut World, id: u32, round: u32) -> (String, String) {
    let password = format!("password-number-{round}-of-{id:04}");
    world.apply(Command::RestartIce {
        transport: id,
        local_ufrag: format!("again{id}x{round}"),
        local_pwd: password.clone(),
        remote_ufrag: format!("theirs{id}x{round}"),
        remote_pwd: format!("his-password-{round}-of-{id:04}"),
    });
    (format!("again{id}x{round}:theirs{id}x{round}"), password)
}

fn path_of(world: &World, id: u32) -> std::net::SocketAddr {
    let row = world.router.transports.row(id).unwrap();
    let transport = world.router.transports.get(row).unwrap();
    transport.path.selected().unwrap().1
}

#[test]
fn after_a_restart_the_path_stays_until_a_pair_is_nominated_with_the_new_credentials() {
    let mut world = World::new();
    let mut client = Client::join(&mut world, 1);
    let before = client.remote;
    let (username, password) = restart(&mut world, 1, 1);
    client.check(&mut world, true);
    assert_eq!(path_of(&world, 1), before, "the old credentials hold on");
    let moved: std::net::SocketAddr = "192.0.2.77:5000".parse().unwrap();
    assert!(check_as(&mut world, moved, &username, &password, false));
    assert_eq!(path_of(&world, 1), before, "a check alone moves nothing");
    world.events();
    assert!(check_as(&mut world, moved, &username, &password, true));
    assert_eq!(path_of(&world, 1), moved, "without a packet of media");
    assert!(matches!(
        world.events()[..],
        [Event::PathChanged { transport: 1, .. }]
    ));
    // From here on media decides again, whoever nominates what.
    let third: std::net::SocketAddr = "192.0.2.78:5000".parse().unwrap();
    assert!(check_as(&mut world, third, &username, &password, true));
    assert_eq!(path_of(&world, 1), moved);
    client.remote = before;
    client.check(&mut world, true);
    assert_eq!(path_of(&world, 1), moved);
}

#[test]
fn credentials_of_two_exchanges_do_not_mix_and_the_old_ones_end() {
    let mut world = World::new();
    let client = Client::join(&mut world, 1);
    let old = "password-of-transport-0001";
    let (username, password) = restart(&mut world, 1, 1);
    let remote = client.remote;
    for (name, key) in [
        (username.as_str(), old),
        (client.username.as_str(), password.as_str()),
        ("again1x1:remote1", password.as_str()),
        ("again1x1:remote1", old),
        ("local1:theirs1x1", old),
        ("local1:theirs1x1", password.as_str()),
    ] {
        assert!(
            !check_as(&mut world, remote, name, key, true),
            "{name} {key}"
        );
    }
    assert!(check_as(&mut world, remote, &client.username, old, true));
    assert!(check_as(&mut world, remote, &username, &password, true));
    for _ in 0..29 {
        world.pass(1_000);
        assert!(check_as(&mut world, remote, &client.username, old, true));
        assert!(check_as(&mut world, remote, &username, &password, true));
    }
    world.pass(1_500);
    assert!(!check_as(&mut world, remote, &client.username, old, true));
    assert!(check_as(&mut world, remote, &username, &password, true));
}

#[test]
fn however_often_a_client_restarts_two_exchanges_are_remembered_and_none_outlives_it() {
    let mut world = World::new();
    let client = Client::join(&mut world, 1);
    let mut known = Vec::new();
    for round in 0..100 {
        known.push(restart(&mut world, 1, round));
        assert!(world.router.by_ufrag.len() <= 2);
    }
    let remote = client.remote;
    let valid = |world: &mut World, (name, key): &(String, String)| {
        check_as(world, remote, name, key, false)
    };
    assert!(!valid(&mut world, &known[97]));
    assert!(valid(&mut world, &known[98]) && valid(&mut world, &known[99]));
    // A ufrag that is in use is refused, also one's own.
    let before = world.router.snapshot().counters.commands_ignored;
    restart(&mut world, 1, 99);
    restart(&mut world, 2, 1);
    assert_eq!(
        world.router.snapshot().counters.commands_ignored,
        before + 2
    );
    world.apply(Command::RemoveTransport { transport: 1 });
    assert!(world.router.by_ufrag.is_empty());
}
