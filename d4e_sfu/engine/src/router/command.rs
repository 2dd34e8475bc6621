//! What Python decides, applied: rows come and go, rights and wishes change. A command about something that is not there
//! (a transport may be gone while its command was under way), or is there already, is counted and changes nothing.

use super::Router;
use super::blame;
use super::counters::Kind;
use crate::api::{
    Command, Event, MAX_ENCODINGS, Profile, PublicationSpec, SubscriptionSpec, TransportId,
};
use crate::now::Now;
use crate::outlet::{DATAGRAM, Outlet};
use crate::publication::Publication;
use crate::subscription::Subscription;
use crate::transport::{ExtensionIds, Transport};

/// What is wrong with a command whatever the state of the router; the driver asks before it submits.
#[must_use]
pub fn fault(command: &Command) -> Option<&'static str> {
    let name = |text: &str| text.is_empty() || text.len() > 256;
    match command {
        Command::AddTransport {
            local_ufrag,
            local_pwd,
            remote_ufrag,
            ..
        } => {
            // RFC 8839 §5.4: 4–256 and 22–256 characters; what a peer may send shorter is not ours to judge.
            if name(local_ufrag)
                || name(remote_ufrag)
                || local_pwd.len() < 22
                || local_pwd.len() > 256
            {
                return Some("ufrags take 1 to 256 bytes, the password 22 to 256");
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
    let over = spec.payload_type > 127 || spec.rtx_payload_type.is_some_and(|pt| pt > 127);
    over.then_some("payload types end at 127")
}

fn subscription_fault(spec: &SubscriptionSpec) -> Option<&'static str> {
    // 16 bytes are what a one-byte header extension can say (RFC 8285 §4.2).
    if spec.mid.is_empty() || spec.mid.len() > 16 {
        return Some("a mid takes 1 to 16 bytes");
    }
    if spec.cname.len() > 255 {
        return Some("a cname takes at most 255 bytes");
    }
    let over = spec.payload_type > 127 || spec.rtx_payload_type.is_some_and(|pt| pt > 127);
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
                may_publish,
            } => {
                if self.by_ufrag.contains_key(&local_ufrag) {
                    return None;
                }
                let transport = Transport::new(
                    now,
                    id,
                    local_ufrag.clone(),
                    &local_pwd,
                    remote_ufrag,
                    may_publish,
                );
                let row = self.transports.insert(id, transport)?;
                self.by_ufrag.insert(local_ufrag, row);
                if self.transports.len() == 1 {
                    self.ticked = now; // Nothing has had to be done by the clock until here.
                }
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
                self.wake_subscriptions(row);
            }
            Command::SendDtls {
                transport,
                datagram,
            } => {
                let (local, remote) = self.transport(transport)?.path.selected()?;
                let slot = out.slot();
                slot.get_mut(..datagram.len())?.copy_from_slice(&datagram);
                out.commit(local, remote, datagram.len());
                self.counters.sent(Kind::Dtls, datagram.len());
            }
            Command::SetSignalLost { transport, lost } => {
                self.transport(transport)?.signal_lost = lost
            }
            Command::RemoveTransport { transport } => self.remove_transport(transport)?,
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
            Command::RemovePublication { publication } => self.remove_publication(publication)?,
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
                self.remove_subscription(subscription)?
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
            | Command::SetExtensions { transport, .. }
            | Command::SetMayPublish { transport, .. }
            | Command::SetKeys { transport, .. }
            | Command::SendDtls { transport, .. }
            | Command::SetSignalLost { transport, .. }
            | Command::RemoveTransport { transport }
            | Command::AddPublication { transport, .. }
            | Command::AddSubscription { transport, .. } => return Some(transport),
            Command::SetMaxBitrate { publication, .. }
            | Command::RemovePublication { publication } => {
                let row = self.publications.row(publication)?;
                self.publications.get(row)?.transport
            }
            Command::SetLayer { subscription, .. }
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
    pub(super) fn remove_transport(&mut self, id: u32) -> Option<()> {
        let row = self.transports.row(id)?;
        let transport = self.transports.get(row)?;
        let publications: Vec<u32> = transport
            .publications
            .iter()
            .filter_map(|&row| Some(self.publications.get(row)?.id))
            .collect();
        for publication in publications {
            self.remove_publication(publication);
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
        self.by_ufrag.remove(&transport.local_ufrag);
        for pair in transport.path.pairs() {
            if self.by_address.get(&pair) == Some(&row) {
                self.by_address.remove(&pair);
            }
        }
        Some(())
    }

    fn remove_publication(&mut self, id: u32) -> Option<()> {
        let row = self.publications.row(id)?;
        let rows = self.publications.get(row)?.subscriptions.clone();
        let subscriptions: Vec<u32> = rows
            .iter()
            .filter_map(|&row| Some(self.subscriptions.get(row)?.id))
            .collect();
        for subscription in subscriptions {
            self.remove_subscription(subscription);
        }
        let (row, publication) = self.publications.remove(id)?;
        if let Some(transport) = self.transports.get_mut(publication.transport) {
            transport.publications.retain(|&kept| kept != row);
            transport.streams.retire_publication(row);
        }
        Some(())
    }

    fn remove_subscription(&mut self, id: u32) -> Option<()> {
        let (row, subscription) = self.subscriptions.remove(id)?;
        if let Some(transport) = self.transports.get_mut(subscription.transport) {
            transport.subscriptions.retain(|&kept| kept != row);
        }
        if let Some(publication) = self.publications.get_mut(subscription.publication) {
            publication.subscriptions.retain(|&kept| kept != row);
        }
        Some(())
    }
}
