//! What `front` counts: whom it refused and what it dropped, by name. The names are metric labels.

macro_rules! names {
    ($(#[$meta:meta])* $kind:ident { $($(#[$doc:meta])* $variant:ident => $name:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $kind { $($(#[$doc])* $variant,)* }

        impl $kind {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];
            pub const COUNT: usize = Self::ALL.len();
            #[must_use]
            pub const fn name(self) -> &'static str { match self { $(Self::$variant => $name,)* } }
        }
    };
}

names! {
    /// Why a connection was ended by us.
    Refused {
        /// As many as may be are open.
        TooManyConnections => "too_many_connections",
        TooManyFromAddress => "too_many_from_address",
        /// One address opens them too quickly.
        TooOften => "too_often",
        /// It did not say in time what it wants, or who it is; or it does not read what it has asked for.
        Slow => "slow",
        /// Its first bytes are of nothing that is served here.
        UnknownProtocol => "unknown_protocol",
        /// HTTP without TLS, where there is HTTPS alone.
        PlainHttp => "plain_http",
        TlsFailed => "tls_failed",
        /// Checks that belong to nobody, or something else before any that does.
        Unproven => "unproven",
        /// A stream that is not what it began as.
        Malformed => "malformed",
        /// A TURN client that was refused again and again.
        TurnRefused => "turn_refused",
        /// More connections for HTTP than are taken from here.
        HttpBusy => "http_busy",
        /// Nothing has come for longer than any client is silent; or its allocation has ended.
        Idle => "idle",
    }
}

names! {
    /// Why a datagram of media did not go on.
    Dropped {
        /// The client's connection carries less than what is for him: his queue is full.
        QueueFull => "queue_full",
        /// It has waited in his queue until it was of no use.
        Late => "late",
        /// His connection has ended.
        Gone => "gone",
        /// The worker has not come to what it was handed before.
        WorkerBusy => "worker_busy",
        /// He sends more of them than any client has to say.
        TooMany => "too_many",
        /// TURN to an address that is not one of our media addresses.
        PeerForbidden => "peer_forbidden",
        /// TURN to or from one of those, without a permission or a channel.
        NoPermission => "no_permission",
    }
}

#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub accepted: u64,
    pub refused: [u64; Refused::COUNT],
    pub dropped: [u64; Dropped::COUNT],
    /// Datagrams of clients who came by TCP.
    pub received: u64,
    pub sent: u64,
    /// Open ones, by what they are: undecided, ICE, TURN, HTTP.
    pub open: [usize; 4],
}

impl Tally {
    pub const KINDS: [&str; 4] = ["undecided", "ice", "turn", "http"];

    pub fn refused(&mut self, why: Refused) {
        self.refused[why as usize] += 1;
    }

    pub fn dropped(&mut self, why: Dropped, count: u64) {
        self.dropped[why as usize] += count;
    }
}
