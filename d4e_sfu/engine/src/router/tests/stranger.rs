//! A client whose address is another, and who does not know: he is asked there, and only his own answer moves the path.

use std::net::SocketAddr;

use super::client::Source;
use super::{Client, World, opus};
use crate::api::{Command, Event};
use crate::wire::drop::DropReason;
use crate::wire::rtcp;
use crate::wire::seq::Ssrc;
use crate::wire::stun::{self, Class, IntegrityKey, Message};

const AWAY: &str = "198.51.100.7:1234";

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

fn report(client: &mut Client) -> Vec<u8> {
    let block = rtcp::Block {
        ssrc: Ssrc(0x5000),
        fraction_lost: 0,
        lost: 0,
        highest: 9,
        jitter: 900,
        last_sr: 0,
        delay: 0,
    };
    client.sealed_rtcp(|slot| rtcp::write_receiver_report(slot, Ssrc(1), &[block]))
}

/// One who listens, has reported from where he is, and has been silent since as long as between two reports.
fn listening() -> (World, Client) {
    let mut world = World::new();
    let mut client = Client::join(&mut world, 1);
    let first = report(&mut client);
    world.handle(client.remote, &first);
    world.pass(50);
    let _ = world.events();
    world.kept.datagrams.clear();
    (world, client)
}

/// What has left since; checks of ours are all that may.
fn asked(world: &mut World) -> Vec<(SocketAddr, Vec<u8>)> {
    let sent = std::mem::take(&mut world.kept.datagrams);
    sent.into_iter()
        .map(|(local, to, datagram)| {
            assert_eq!(local, world.local);
            assert_eq!(Message::parse(&datagram).unwrap().class, Class::Request);
            (to, datagram)
        })
        .collect()
}

fn theirs() -> IntegrityKey {
    IntegrityKey::new("password-of-the-client-0001")
}

fn answer(check: &[u8], key: &IntegrityKey) -> Vec<u8> {
    let mut out = [0; 128];
    let transaction = check[8..20].try_into().unwrap();
    let len = stun::write_binding_success(&mut out, &transaction, at("10.0.0.1:7882"), key);
    out[..len.unwrap()].to_vec()
}

fn path(world: &World) -> SocketAddr {
    let row = world.router.transports.row(1).unwrap();
    let transport = world.router.transports.get(row).unwrap();
    transport.path.selected().unwrap().1
}

#[test]
fn who_reports_from_elsewhere_is_asked_there_and_followed_when_he_answers() {
    let (mut world, mut client) = listening();
    let moved = report(&mut client);
    world.handle(at(AWAY), &moved);
    let [(to, check)] = &asked(&mut world)[..] else {
        panic!("one check")
    };
    assert_eq!(*to, at(AWAY));
    assert!(check.len() <= 3 * moved.len());
    // As a full agent wants it (RFC 8445 §7.1, §7.3).
    let message = Message::parse(check).unwrap();
    assert_eq!(message.ufrags(), Some(("remote1", "local1")));
    assert!(message.fingerprint && message.verify(&theirs()));
    assert!(message.priority.is_some() && message.controlled.is_some());
    assert!(message.controlling.is_none() && !message.use_candidate);
    assert_eq!(
        world.drops(DropReason::UnknownAddress),
        1,
        "and no more of it"
    );
    world.pass(100);
    assert_eq!(path(&world), client.remote, "he has not answered");
    world.handle(at(AWAY), &answer(check, &theirs()));
    assert_eq!(path(&world), at(AWAY));
    let [
        Event::PathChanged {
            transport: 1,
            remote,
            ..
        },
    ] = &world.events()[..]
    else {
        panic!("told once")
    };
    assert_eq!(remote, AWAY);
    let next = report(&mut client);
    world.handle(at(AWAY), &next);
    assert_eq!(world.drops(DropReason::UnknownAddress), 1, "it is his now");
}

#[test]
fn an_answer_that_is_back_sooner_waits_until_he_would_have_been_heard_where_he_was() {
    for heard in [false, true] {
        let (mut world, mut client) = listening();
        let moved = report(&mut client);
        world.handle(at(AWAY), &moved);
        let (_, check) = asked(&mut world).remove(0);
        world.pass(10);
        world.handle(at(AWAY), &answer(&check, &theirs()));
        world.pass(60);
        assert_eq!(path(&world), client.remote);
        if heard {
            let there = report(&mut client);
            world.handle(client.remote, &there);
        }
        world.pass(20);
        assert_eq!(path(&world) == at(AWAY), !heard);
        world.pass(1_000);
        assert_eq!(path(&world) == at(AWAY), !heard);
        assert_eq!(world.events().len(), usize::from(!heard));
    }
}

#[test]
fn no_answer_but_his_own_from_there_to_what_was_asked_moves_anything() {
    let (mut world, mut client) = listening();
    let home = client.remote;
    let moved = report(&mut client);
    world.handle(at(AWAY), &moved);
    let (_, check) = asked(&mut world).remove(0);
    world.pass(100);
    let good = answer(&check, &theirs());
    let mut other = check.clone();
    other[19] ^= 1;
    let mut nobody = check.clone();
    nobody[8] ^= 1;
    for (from, wrong, reason) in [
        (AWAY, answer(&check, &client.key), DropReason::BadIntegrity),
        (
            AWAY,
            answer(&check, &IntegrityKey::new("")),
            DropReason::BadIntegrity,
        ),
        (AWAY, answer(&other, &theirs()), DropReason::BadStun),
        (AWAY, answer(&nobody, &theirs()), DropReason::BadStun),
        ("198.51.100.7:1235", good.clone(), DropReason::BadStun),
    ] {
        let before = world.drops(reason);
        world.handle(at(from), &wrong);
        world.pass(200);
        assert_eq!(world.drops(reason), before + 1);
        assert_eq!(path(&world), home);
        assert!(world.kept.datagrams.is_empty());
    }
    world.handle(at(AWAY), &good);
    assert_eq!(path(&world), at(AWAY));
    world.handle(at(AWAY), &good);
    assert_eq!(world.drops(DropReason::BadStun), 4, "once");
}

#[test]
fn a_copy_gains_nothing_but_a_check() {
    let (mut world, mut client) = listening();
    let home = client.remote;
    let copied = report(&mut client);
    // Who copies is faster, and what was copied still counts.
    world.handle(at("203.0.113.66:6666"), &copied);
    assert_eq!(asked(&mut world).len(), 1);
    world.handle(home, &copied);
    assert_eq!(world.drops(DropReason::Replayed), 0);
    // And slower, and whatever is no packet of his.
    world.pass(500);
    world.handle(at("203.0.113.66:6666"), &copied);
    let mut forged = report(&mut client);
    forged[9] ^= 1;
    world.handle(at("203.0.113.66:6666"), &forged);
    assert_eq!(asked(&mut world), []);
    assert_eq!(path(&world), home);
}

#[test]
fn what_is_shorter_than_a_third_of_a_check_gets_none() {
    let (mut world, mut client) = listening();
    let short = client.sealed_rtcp(|slot| rtcp::write_receiver_report(slot, Ssrc(1), &[]));
    assert!(short.len() < 30);
    world.handle(at(AWAY), &short);
    assert_eq!(asked(&mut world), []);
    let longer = report(&mut client);
    world.handle(at(AWAY), &longer);
    assert_eq!(
        asked(&mut world).len(),
        1,
        "nor does it cost the next one its own"
    );
}

#[test]
fn who_is_heard_where_he_was_is_there() {
    let (mut world, mut client) = listening();
    let moved = report(&mut client);
    world.handle(at(AWAY), &moved);
    let (_, check) = asked(&mut world).remove(0);
    world.pass(40);
    let there = report(&mut client);
    world.handle(client.remote, &there);
    // Nor is he looked for just after.
    let again = report(&mut client);
    world.handle(at("198.51.100.8:1"), &again);
    assert_eq!(asked(&mut world), []);
    world.pass(100);
    world.handle(at(AWAY), &answer(&check, &theirs()));
    assert_eq!(world.drops(DropReason::BadStun), 1);
    assert_eq!(path(&world), client.remote);
}

#[test]
fn a_check_of_his_where_he_was_tells_as_much_as_a_report() {
    let (mut world, mut client) = listening();
    let moved = report(&mut client);
    world.handle(at(AWAY), &moved);
    let (_, check) = asked(&mut world).remove(0);
    world.pass(40);
    let there = client.request_as(false, 9);
    world.handle(client.remote, &there);
    world.kept.datagrams.clear();
    world.pass(100);
    world.handle(at(AWAY), &answer(&check, &theirs()));
    assert_eq!(world.drops(DropReason::BadStun), 1, "it is asked no more");
    assert_eq!(path(&world), client.remote);
}

#[test]
fn media_from_elsewhere_tells_as_much() {
    let mut world = World::new();
    let mut speaker = Client::join(&mut world, 1);
    world.publish_voice(&speaker, 1);
    let mut source = Source::new(0x1111, 111, 0).mid("p1");
    speaker.send(&mut world, &mut source, &opus(1), false);
    world.pass(60);
    world.kept.datagrams.clear();
    let datagram = source.next(&mut speaker, &[1; 60], false);
    world.handle(at(AWAY), &datagram);
    world.pass(100);
    let datagram = source.next(&mut speaker, &[1; 60], false);
    world.handle(at(AWAY), &datagram);
    let sent = std::mem::take(&mut world.kept.datagrams);
    let (_, _, check) = sent
        .iter()
        .find(|(_, to, _)| *to == at(AWAY))
        .expect("asked");
    world.handle(at(AWAY), &answer(check, &theirs()));
    assert_eq!(path(&world), at(AWAY));
    // A copy of what has arrived where he is tells nothing.
    world.pass(100);
    let datagram = source.next(&mut speaker, &[1; 60], false);
    world.handle(at(AWAY), &datagram);
    world.pass(100);
    world.kept.datagrams.clear();
    world.handle(at("198.51.100.8:2"), &datagram);
    let copied = world.kept.datagrams.iter();
    assert!(!copied.clone().any(|(_, to, _)| *to == at("198.51.100.8:2")));
    // A stream that nobody knows is tried with nobody's keys.
    let mut unknown = Source::new(0x2222, 111, 0).mid("p1");
    world.pass(100);
    world.kept.datagrams.clear();
    let datagram = unknown.next(&mut speaker, &[1; 60], false);
    world.handle(at("198.51.100.8:1"), &datagram);
    assert!(
        !world
            .kept
            .datagrams
            .iter()
            .any(|(_, to, _)| *to == at("198.51.100.8:1"))
    );
}

#[test]
fn checks_of_ours_are_few_however_much_comes() {
    let (mut world, mut client) = listening();
    let mut sent = 0;
    for n in 0..2_000_u16 {
        let datagram = report(&mut client);
        let from = SocketAddr::from(([198, 51, 100, n as u8 % 100], 1_000 + n));
        for _ in 0..3 {
            world.handle(from, &datagram);
        }
        world.pass(5);
        for (_, check) in asked(&mut world) {
            assert!(check.len() <= 3 * datagram.len());
            sent += 1;
        }
    }
    // Ten seconds, in which each of four addresses is asked once in two.
    assert!((4..=105).contains(&sent), "{sent}");
    let snapshot = world.router.snapshot();
    assert_eq!(snapshot.counters.checks_sent, sent);
    assert_eq!(path(&world), client.remote);
}

#[test]
fn an_address_that_is_anothers_by_then_stays_his() {
    let (mut world, mut client) = listening();
    let moved = report(&mut client);
    world.handle(at(AWAY), &moved);
    let (_, check) = asked(&mut world).remove(0);
    world.handle(at(AWAY), &answer(&check, &theirs()));
    let mut other = Client::announced(&mut world, 2, crate::api::Profile::AeadAes128Gcm);
    other.remote = at(AWAY);
    other.check(&mut world, true);
    world.pass(1_000);
    assert_eq!(world.drops(DropReason::AddressTaken), 1, "said once");
    assert_eq!(path(&world), client.remote);
}

#[test]
fn after_an_ice_restart_the_new_credentials_ask_and_without_his_password_nobody_does() {
    for (password, known) in [("the-newer-password-of-his", true), ("", false)] {
        let (mut world, mut client) = listening();
        world.apply(Command::RestartIce {
            transport: 1,
            local_ufrag: "again".into(),
            local_pwd: "a-newer-password-of-ours".into(),
            remote_ufrag: "he".into(),
            remote_pwd: password.into(),
        });
        let moved = report(&mut client);
        world.handle(at(AWAY), &moved);
        let sent = asked(&mut world);
        assert_eq!(sent.len(), usize::from(known));
        for (_, check) in sent {
            let message = Message::parse(&check).unwrap();
            assert_eq!(message.ufrags(), Some(("he", "again")));
            assert!(message.verify(&IntegrityKey::new(password)));
        }
    }
}

#[test]
fn a_flood_of_strangers_costs_a_bounded_search() {
    // Trials are what costs; where the stream is nobody's, none is made, and only rows are counted.
    for (named, flood, found) in [(true, 1_300, 0), (false, 2_000, 1), (false, 20_000, 0)] {
        let (mut world, mut client) = listening();
        let mut forged = report(&mut client);
        forged[if named { 9 } else { 4 }] ^= 1;
        for _ in 0..flood {
            world.handle(at("203.0.113.66:6666"), &forged);
        }
        // Where nothing is left for him he waits for his own check, as ever.
        let moved = report(&mut client);
        world.handle(at(AWAY), &moved);
        assert_eq!(asked(&mut world).len(), found, "{named} {flood}");
        world.pass(1_000);
        let moved = report(&mut client);
        world.handle(at(AWAY), &moved);
        assert_eq!(asked(&mut world).len(), 1);
    }
}
