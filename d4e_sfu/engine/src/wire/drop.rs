//! Why a packet or datagram was not used: the closed set of reasons, and an array that counts them.

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// Every packet that is not forwarded has one; its name is a metric label.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DropReason { $($(#[$doc])* $variant,)* }

        impl DropReason {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];
            pub const COUNT: usize = Self::ALL.len();
            #[must_use]
            pub const fn name(self) -> &'static str { match self { $(Self::$variant => $name,)* } }
        }
    };
}

reasons! {
    /// First byte outside RFC 7983's ranges, or an empty datagram.
    UnknownProtocol => "unknown_protocol",
    /// Framing, cookie, fingerprint or attribute lengths of a STUN message are wrong.
    BadStun => "bad_stun",
    /// A STUN request whose USERNAME names no transport.
    UnknownUfrag => "unknown_ufrag",
    /// MESSAGE-INTEGRITY missing or wrong.
    BadIntegrity => "bad_integrity",
    /// More checks than any client makes.
    CheckLimit => "check_limit",
    /// Media, RTCP or DTLS from an address that no transport has validated.
    UnknownAddress => "unknown_address",
    /// A DTLS datagram over the size or rate allowed before and during a handshake.
    DtlsLimit => "dtls_limit",
    /// SRTP before keys were set.
    NoKeys => "no_keys",
    BadRtp => "bad_rtp",
    /// A header extension, or an element of it, is longer than what holds it (RFC 8285 §4).
    BadExtension => "bad_extension",
    BadRtcp => "bad_rtcp",
    /// Transport-wide feedback about what was never sent.
    BadFeedback => "bad_feedback",
    /// Seen before (RFC 3711 §3.3.2).
    Replayed => "replayed",
    /// Left of the replay window.
    TooOld => "too_old",
    /// The SRTP or SRTCP tag is wrong.
    BadAuthentication => "bad_authentication",
    /// The transport already has as many streams as it may.
    TooManyStreams => "too_many_streams",
    /// Authentic, but bound to no publication.
    UnknownStream => "unknown_stream",
    /// A stream of the client bears an SSRC under which we send to him (RFC 3550 §8.2).
    SsrcCollision => "ssrc_collision",
    NotPermitted => "not_permitted",
    OverBitrate => "over_bitrate",
    /// A payload type that the stream was not negotiated for, or a payload its codec does not allow.
    BadPayload => "bad_payload",
    /// A dependency descriptor that breaks its format, or names more layers than there can be.
    BadDependency => "bad_dependency",
    /// The subscriber has negotiated no payload type for it.
    UnmappedPayload => "unmapped_payload",
    /// Padding only: ends at the server by design.
    Padding => "padding",
    /// Already received, by RTX or twice on the wire.
    Duplicate => "duplicate",
    /// Repaired too late to be forwarded or cached, or to be of use where it would go.
    Late => "late",
    /// Forwarding gate: subscription paused, or another layer.
    Paused => "paused",
    OtherLayer => "other_layer",
    /// Only so many voices may pass to this subscriber, and others have the places.
    NotPicked => "not_picked",
    /// Waiting for a keyframe of the wanted layer.
    AwaitingKeyframe => "awaiting_keyframe",
    /// The subscriber has no validated path or no keys yet.
    NotConnected => "not_connected",
    /// The subscriber's link is the limit: what has waited for too long at the pacer is shed.
    QueueFull => "queue_full",
    /// A picture's packet was to go again before anybody asks, where so much is lost, and the link had no room for it in time.
    CopyShed => "copy_shed",
    /// Asked for again, and no longer (or never) in the cache.
    NotCached => "not_cached",
    /// Asked for again within a round trip.
    RepeatedNack => "repeated_nack",
    /// Retransmissions to this subscriber have had their share of the stream.
    RepairLimit => "repair_limit",
    /// A check came from an address that another transport is using.
    AddressTaken => "address_taken",
    /// Larger than what the way to that address takes, as the kernel has said.
    OverMtu => "over_mtu",
    /// The kernel did not take it.
    SendFailed => "send_failed",
    /// The queue of events to Python was full.
    EventQueueFull => "event_queue_full",
    /// Larger than any slot.
    Oversized => "oversized",
}

/// One counter for each reason.
#[derive(Clone, Debug)]
pub struct DropCounts([u64; DropReason::COUNT]);

impl Default for DropCounts {
    fn default() -> Self {
        Self([0; DropReason::COUNT])
    }
}

impl DropCounts {
    pub fn count(&mut self, reason: DropReason) {
        self.0[reason as usize] = self.0[reason as usize].wrapping_add(1);
    }
    #[must_use]
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|&r| (r, self.get(r)))
    }
}
