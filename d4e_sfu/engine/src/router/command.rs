//! What Python decides, applied: rows come and go, rights and wishes change. A command about something that is not there
//! (a transport may be gone while its command was under way), or is there already, is counted and changes nothing.

use super::Router;
use super::blame;
use super::counters::Kind;
use crate::api::{
    Command, Event, MAX_ENCODINGS, Profile, PublicationSpec, SubscriptionSpec, TransportId,
};
use crate::now::Now;
use crate::outlet::{Class, DATAGRAM, Outlet};
use crate::publication::Publication;
use crate::subscription::Subscription;
use crate::transport::{Credentials, ExtensionIds, OUR_SSRC, Transport};
use crate::wire::rtcp;
use crate::wire::seq::Ssrc;

/// What is wrong with a command whatever the state of the router; the driver asks before it submits.
#[must_use]
pub fn fault(command: &Command) -> Option<&'static str> {
    let name = |text: &str| text.is_empty() || text.len() > 256;
    match command {
        Command::AddTransport {
            local_ufrag,
            local_pwd,
            remote_ufrag,
            remote_pwd,
            ..
        }
        | Command::RestartIce {
            local_ufrag,
            local_pwd,
            remote_ufrag,
            remote_pwd,
            ..
        } => {
            // RFC 8839 §5.4: 4–256 and 22–256 characters; what a peer may send shorter is not ours to judge.
            if name(local_ufrag)
                || name(remote_ufrag)
                || local_pwd.len() < 22
                || local_pwd.len() > 256
                || remote_pwd.len() > 256
            {
                return Some("ufrags take 1 to 256 bytes, our password 22 to 256, his up to 256");
            }
            None
        }
        Command::SetExtensions { extensions, .. } => extensions
            .iter()
            .any(|&(_, id)| id == 0)
            .then_some("extension ids start at 1"),
        Command::SetKeys {
            profile,
            receive,
            send,
            ..
        } => {
            let len = match profile {
                Profile::AeadAes128Gcm => 28,
                Profile::AeadAes256Gcm => 44,
                Profile::Aes128CmHmacSha1_80 => 30,
            };
            (receive.len() != len || send.len() != len).then_some(
                "master key and salt take 28 bytes (GCM), 44 (GCM of 256 bits) or 30 (CM)",
            )
        }
        Command::SendDtls { datagram, .. } => (datagram.is_empty() || datagram.len() > DATAGRAM)
            .then_some("a DTLS datagram takes 1 to 2048 bytes"),
        Command::AddPublication { spec, .. } => publication_fault(spec),
        Command::AddSubscription { spec, .. } => subscription_fault(spec),
        _ => None,
    }
}

fn publication_fault(spec: &PublicationSpec) -> Option<&'static str> {
    if spec.encodings.is_empty() || spec.encodings.len() > MAX_ENCODINGS {
        return Some("a publication has 1 to 3 encodings");
    }
    if spec.mid.len() > 16 {
        return Some("a mid takes at most 16 bytes");
    }
    payload_types_fault([
        Some(spec.payload_type),
        spec.rtx_payload_type,
        spec.red_payload_type,
        spec.event_payload_type,
    ])
}

fn subscription_fault(spec: &SubscriptionSpec) -> Option<&'static str> {
    // 16 bytes are what a one-byte header extension can say (RFC 8285 §4.2).
    if spec.mid.is_empty() || spec.mid.len() > 16 {
        return Some("a mid takes 1 to 16 bytes");
    }
    if spec.cname.len() > 255 {
        return Some("a cname takes at most 255 bytes");
    }
    payload_types_fault([
        Some(spec.payload_type),
        spec.rtx_payload_type,
        spec.red_payload_type,
        spec.event_payload_type,
    ])
}

fn payload_types_fault(payload_types: [Option<u8>; 4]) -> Option<&'static str> {
    let over = payload_types.iter().flatten().any(|&number| number > 127);
    over.then_some("payload types end at 127")
}

impl Router {
    pub fn apply(&mut self, now: Now, command: Command, out: &mut impl Outlet) {
        blame::set(self.on_account_of(&command));
        if fault(&command).is_some() || self.try_apply(now, command, out).is_none() {
            self.counters.commands_ignored += 1;
        }
    }

    fn try_apply(&mut self, now: Now, command: Command, out: &mut impl Outlet) -> Option<()> {
        match command {
            Command::AddTransport {
                transport: id,
                local_ufrag,
                local_pwd,
                remote_ufrag,
                remote_pwd,
                may_publish,
                start_bitrate,
            } => {
                if self.by_ufrag.contains_key(&local_ufrag) {
                    return None;
                }
                let name = local_ufrag.clone();
                let credentials =
                    Credentials::new(local_ufrag, &local_pwd, remote_ufrag, &remote_pwd);
                let transport = Transport::new(now, id, credentials, may_publish, start_bitrate);
                let row = self.transports.insert(id, transport)?;
                self.by_ufrag.insert(name, row);
                if self.transports.len() == 1 {
                    self.ticked = now; // Nothing has had to be done by the clock until here.
                }
            }
            Command::RestartIce {
                transport: id,
                local_ufrag,
                local_pwd,
                remote_ufrag,
                remote_pwd,
            } => {
                if self.by_ufrag.contains_key(&local_ufrag) {
                    return None;
                }
                let row = self.transports.row(id)?;
                let transport = self.transports.get_mut(row)?;
                let name = local_ufrag.clone();
                let credentials =
                    Credentials::new(local_ufrag, &local_pwd, remote_ufrag, &remote_pwd);
                let forgotten = transport.restart(now, credentials);
                if let Some(ufrag) = forgotten {
                    self.by_ufrag.remove(&ufrag);
                }
                self.by_ufrag.insert(name, row);
            }
            Command::SetExtensions {
                transport,
                extensions,
                allow_mixed,
            } => {
                self.transport(transport)?.extensions = ExtensionIds::new(&extensions, allow_mixed);
            }
            Command::SetMayPublish {
                transport,
                may_publish,
            } => {
                self.transport(transport)?.may_publish = may_publish;
            }
            Command::SetKeys {
                transport: id,
                profile,
                receive,
                send,
            } => {
                self.transport(id)?
                    .set_keys(profile, &receive, &send)
                    .ok()?;
                let row = self.transports.row(id)?;
                // What was sealed before he could not open any more.
                for subscription in &self.transports.get(row)?.subscriptions {
                    if let Some(subscription) = self.subscriptions.get_mut(*subscription) {
                        subscription.sealed = None;
                    }
                }
                self.wake_subscriptions(row);
            }
            Command::SendDtls {
                transport,
                datagram,
            } => {
                let (local, remote) = self.transport(transport)?.path.selected()?;
                let slot = out.slot();
                slot.get_mut(..datagram.len())?.copy_from_slice(&datagram);
                out.commit(local, remote, datagram.len(), Class::Data);
                self.counters.sent(Kind::Dtls, datagram.len());
            }
            Command::SetSignalLost { transport, lost } => {
                self.transport(transport)?.signal_lost = lost
            }
            Command::RemoveTransport { transport } => self.remove_transport(transport, out)?,
            Command::AddPublication {
                publication: id,
                transport,
                spec,
            } => {
                let owner = self.transports.row(transport)?;
                let row = self
                    .publications
                    .insert(id, Publication::new(now, id, owner, spec))?;
                self.transports.get_mut(owner)?.publications.push(row);
            }
            Command::SetMaxBitrate {
                publication,
                max_bitrate,
            } => {
                let row = self.publications.row(publication)?;
                self.publications
                    .get_mut(row)?
                    .set_max_bitrate(now, max_bitrate);
            }
            Command::RemovePublication { publication } => {
                self.remove_publication(publication, out)?
            }
            Command::AddSubscription {
                subscription: id,
                publication,
                transport,
                spec,
            } => {
                let (source, receiver) = (
                    self.publications.row(publication)?,
                    self.transports.row(transport)?,
                );
                // Two streams under one SSRC and one key would be sealed with one keystream (RFC 3711 §9.1), and one that the
                // client sends under it could not be told from ours (RFC 3550 §8.2).
                let ssrcs = [Some(spec.ssrc), spec.rtx_ssrc].map(|ssrc| ssrc.map(Ssrc));
                let taken = |ssrc: Ssrc| {
                    self.transports.get_mut(receiver).is_some_and(|transport| {
                        transport.streams.bound(ssrc).is_some()
                            || transport.subscriptions.iter().any(|&row| {
                                self.subscriptions
                                    .get(row)
                                    .is_some_and(|other| other.sends_as(ssrc))
                            })
                    })
                };
                if ssrcs[0] == ssrcs[1]
                    || ssrcs.contains(&Some(OUR_SSRC))
                    || ssrcs.into_iter().flatten().any(taken)
                {
                    return None;
                }
                let row = self
                    .subscriptions
                    .insert(id, Subscription::new(id, source, receiver, spec))?;
                self.transports.get_mut(receiver)?.subscriptions.push(row);
                self.publications.get_mut(source)?.subscriptions.push(row);
                self.resettle(source);
            }
            Command::SetLayer {
                subscription,
                spatial,
                temporal,
            } => {
                let row = self.subscriptions.row(subscription)?;
                let noun = self.subscriptions.get_mut(row)?;
                noun.set_layer(spatial, temporal);
                let publication = noun.publication;
                self.resettle(publication);
            }
            Command::RemoveSubscription { subscription } => {
                self.say_goodbye(subscription, out);
                self.remove_subscription(subscription)?
            }
            Command::SetDemand { transport, bitrate } => {
                self.transport(transport)?.link.set_demand(bitrate);
            }
            Command::SetRedundancy { transport, allowed } => {
                self.transport(transport)?.link.losses.allowed = allowed;
            }
            Command::SetVoices { transport, voices } => {
                self.transport(transport)?
                    .link
                    .voices
                    .set_limit(now, voices);
            }
            Command::SetRank { subscription, rank } => {
                let row = self.subscriptions.row(subscription)?;
                self.subscriptions.get_mut(row)?.rank = rank;
            }
            Command::Debug { token } => {
                let state = self.debug_state(now);
                self.events.push(Event::Debug { token, state });
            }
        }
        Some(())
    }

    /// Whose room a command is about.
    fn on_account_of(&self, command: &Command) -> Option<TransportId> {
        let row = match *command {
            Command::AddTransport { transport, .. }
            | Command::RestartIce { transport, .. }
            | Command::SetExtensions { transport, .. }
            | Command::SetMayPublish { transport, .. }
            | Command::SetKeys { transport, .. }
            | Command::SendDtls { transport, .. }
            | Command::SetSignalLost { transport, .. }
            | Command::RemoveTransport { transport }
            | Command::AddPublication { transport, .. }
            | Command::AddSubscription { transport, .. }
            | Command::SetRedundancy { transport, .. }
            | Command::SetVoices { transport, .. }
            | Command::SetDemand { transport, .. } => return Some(transport),
            Command::SetMaxBitrate { publication, .. }
            | Command::RemovePublication { publication } => {
                let row = self.publications.row(publication)?;
                self.publications.get(row)?.transport
            }
            Command::SetLayer { subscription, .. }
            | Command::SetRank { subscription, .. }
            | Command::RemoveSubscription { subscription } => {
                let row = self.subscriptions.row(subscription)?;
                self.subscriptions.get(row)?.transport
            }
            Command::Debug { .. } => return None,
        };
        Some(self.transports.get(row)?.id)
    }

    fn transport(&mut self, id: u32) -> Option<&mut Transport> {
        let row = self.transports.row(id)?;
        self.transports.get_mut(row)
    }

    /// What is wanted of this publication has changed.
    fn resettle(&mut self, row: u32) {
        if let Some(publication) = self.publications.get_mut(row) {
            publication.unsettled = true;
        }
        self.wake(row);
    }

    /// With its publications (and so their subscriptions) and its subscriptions.
    pub(super) fn remove_transport(&mut self, id: u32, out: &mut impl Outlet) -> Option<()> {
        let row = self.transports.row(id)?;
        let transport = self.transports.get(row)?;
        let publications: Vec<u32> = transport
            .publications
            .iter()
            .filter_map(|&row| Some(self.publications.get(row)?.id))
            .collect();
        for publication in publications {
            self.remove_publication(publication, out);
        }
        let transport = self.transports.get(row)?;
        let subscriptions: Vec<u32> = transport
            .subscriptions
            .iter()
            .filter_map(|&row| Some(self.subscriptions.get(row)?.id))
            .collect();
        for subscription in subscriptions {
            self.remove_subscription(subscription);
        }
        let (row, transport) = self.transports.remove(id)?;
        self.pacing.retain(|&kept| kept != row);
        self.bottlenecks.leave(row);
        self.by_ufrag.remove(&transport.credentials.local_ufrag);
        if let Some((former, _)) = &transport.former {
            self.by_ufrag.remove(&former.local_ufrag);
        }
        for pair in transport.path.pairs() {
            if self.by_address.get(&pair) == Some(&row) {
                self.by_address.remove(&pair);
            }
        }
        Some(())
    }

    fn remove_publication(&mut self, id: u32, out: &mut impl Outlet) -> Option<()> {
        let row = self.publications.row(id)?;
        let rows = self.publications.get(row)?.subscriptions.clone();
        let subscriptions: Vec<u32> = rows
            .iter()
            .filter_map(|&row| Some(self.subscriptions.get(row)?.id))
            .collect();
        for subscription in subscriptions {
            self.say_goodbye(subscription, out);
            self.remove_subscription(subscription);
        }
        let (row, publication) = self.publications.remove(id)?;
        self.dirty.retain(|&kept| kept != row); // the row may be another's soon
        if let Some(transport) = self.transports.get_mut(publication.transport) {
            transport.publications.retain(|&kept| kept != row);
            transport.streams.retire_publication(row);
        }
        Some(())
    }

    /// RFC 3550 §6.6: a source that ends says so, if it has ever sent (§6.3.7); the receiver need not wait until it is missed.
    fn say_goodbye(&mut self, id: u32, out: &mut impl Outlet) {
        let subscription = self
            .subscriptions
            .row(id)
            .and_then(|row| self.subscriptions.get(row))
            .filter(|subscription| subscription.packets > 0);
        let Some((subscription, mut sending)) = subscription.and_then(|subscription| {
            let transport = self.transports.get_mut(subscription.transport)?;
            Some((subscription, transport.sending()?))
        }) else {
            return;
        };
        let sent = sending.rtcp(out, |slot| {
            let ssrcs = [
                subscription.ssrc,
                subscription.rtx_ssrc.unwrap_or(subscription.ssrc),
            ];
            let ssrcs = &ssrcs[..1 + usize::from(subscription.rtx_ssrc.is_some())];
            let mut len = rtcp::write_receiver_report(slot, subscription.ssrc, &[])?;
            let cname = &subscription.cname;
            len += rtcp::write_sdes(&mut slot[len..], subscription.ssrc, cname)?;
            len += rtcp::write_bye(&mut slot[len..], ssrcs)?;
            Some(len)
        });
        if let Some(len) = sent {
            self.counters.sent(Kind::Rtcp, len);
        }
    }

    fn remove_subscription(&mut self, id: u32) -> Option<()> {
        let (row, subscription) = self.subscriptions.remove(id)?;
        if let Some(transport) = self.transports.get_mut(subscription.transport) {
            transport.subscriptions.retain(|&kept| kept != row);
            transport.link.voices.release(row);
            transport.link.pacer.forget(row, None);
        }
        if let Some(publication) = self.publications.get_mut(subscription.publication) {
            publication.subscriptions.retain(|&kept| kept != row);
        }
        Some(())
    }
}
