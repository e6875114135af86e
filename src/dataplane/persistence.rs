//! Persistence: a client's connections go to the backend its last ones went to, whichever worker
//! they land on.
//!
//! ```text
//! client 192.0.2.7, service web/24 ──► key (192.0.2.0, web) ──hash──► bucket, six templates
//!                                                                     key ► backend, until when
//! ```
//!
//! A *template* (IPVS's word) is made when a client without one gets a backend, and its time starts
//! anew with each of the client's connections. While any of them lives it does not end: the sweep,
//! which visits every connection anyway, puts the end off ([`Templates::refresh`]). So nothing is
//! counted that could be counted wrong, and the table empties by itself.
//!
//! **Shared by all workers**, unlike every other table, and only looked at when a connection is
//! made. A bucket is *claimed* for the few loads and stores this takes. Nobody waits for a claim
//! for longer than [`PATIENCE`] looks: who does not get it goes on as if there were no template, and says
//! so in a counter. With a bucket for every six templates that is a coincidence, not a state.
//!
//! **Full**: the template of the bucket that would end first makes way, and is counted. A flood of
//! forged SYNs can drive out templates so; SYN cookies keep it from making any.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use zerocopy::FromZeros;

use super::conn::expiry::ROUND_MS;
use super::conn::index::Seed;
use super::conn::key::Side;
use super::conn::record::Record;
use super::family::{Family, fold};
use super::mem::{HugePages, MemoryError, Region};
use super::snapshot::{Backend, Snapshot};
use super::sources::network;
use crate::ids::{BackendId, ServiceId};

/// Templates of a bucket.
const WAYS: usize = 6;
/// How often a claim is asked for.
const PATIENCE: usize = 64;
/// How long a template stays at least, from when a connection of its client was last seen by the
/// sweep (IPVS: 60 s, looked at when its time is over).
pub const REFRESH_MS: u32 = 60_000;
/// Rounds of the sweep between two refreshes by one connection: 16 seconds, well below
/// [`REFRESH_MS`] even if the sweep falls behind.
const REFRESH_ROUNDS: u32 = 8;
const _: () = assert!(3 * REFRESH_ROUNDS * ROUND_MS <= REFRESH_MS, "three chances");

/// What a service asks of persistence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persistence {
    /// How long a template outlives its client's last connection, at least.
    pub timeout_ms: u32,
    /// Clients that share this many first bits of their address share a template.
    pub prefix: u8,
    /// Do clients go on to a backend that takes no other new connections (weight 0)?
    pub to_drained: bool,
    /// Another number after each change of the prefix: old templates mean nothing then.
    pub epoch: u32,
}

/// A backend as a template remembers it. An id alone may mean another backend by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its id.
    pub backend: BackendId,
    /// Something of its address and port.
    pub mark: u32,
}

impl Target {
    /// The target that a backend is.
    pub fn of(id: BackendId, backend: &Backend) -> Self {
        let bits = match backend.address {
            IpAddr::V4(v4) => u128::from(v4.to_bits()),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        #[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
        let (high, low) = ((bits >> 64) as u64, bits as u64);
        let mixed = fold(high ^ 0x9e37_79b9_7f4a_7c15, low ^ u64::from(backend.port) << 48);
        #[expect(clippy::cast_possible_truncation, reason = "a mark is half of the hash")]
        let mark = (mixed ^ mixed >> 32) as u32;
        Self { backend: id, mark }
    }
}

/// Whose template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    address: [u64; 2],
    /// Service and epoch; never 0, which is an empty place.
    service: u64,
}

impl Client {
    /// The template of a client of a service, or of its network.
    pub fn of(address: IpAddr, service: ServiceId, terms: Persistence) -> Self {
        let service = (u64::from(service.0) + 1) << 32 | u64::from(terms.epoch);
        Self { address: network(address, terms.prefix), service }
    }
}

/// One client's backend. Changed by who has claimed the bucket only: the atomics order nothing.
#[derive(Debug, FromZeros)]
#[repr(C)]
struct Template {
    address: [AtomicU64; 2],
    service: AtomicU64,
    backend: AtomicU32,
    mark: AtomicU32,
    ends_ms: AtomicU32,
    reserved: AtomicU32,
}

#[derive(Debug, FromZeros)]
#[repr(C, align(64))]
struct Bucket {
    /// 1 while somebody has it.
    claim: AtomicU32,
    reserved: AtomicU32,
    templates: [Template; WAYS],
}

const _: () = assert!(size_of::<Bucket>() == 256, "a bucket is four cache lines");

/// A template, told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    address: [u64; 2],
    /// Whose clients.
    pub service: ServiceId,
    /// [`Persistence::epoch`] when it was made.
    pub epoch: u32,
    /// Where they go.
    pub target: Target,
    /// Until it ends, if nobody comes.
    pub left_ms: u32,
}

impl Told {
    /// The client, or its network's first address: of `like`'s family.
    pub fn client(&self, like: IpAddr) -> IpAddr {
        let [high, low] = self.address;
        if like.is_ipv4() {
            return Ipv4Addr::from_bits((high >> 32) as u32).into();
        }
        Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)).into()
    }
}

/// What became of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The client has a template for this backend: perhaps not the one that was asked for, if
    /// another worker was quicker.
    Here(Target),
    /// The same, and another client's template had to make way.
    Evicted(Target),
    /// Nothing was kept.
    Not,
}

/// All templates.
#[derive(Debug)]
pub struct Templates {
    buckets: Region<Bucket>,
    seed: Seed,
    /// The bucket that is tidied next.
    turn: AtomicU32,
}

impl Templates {
    /// Room for at least `count`, under the secret of this start.
    ///
    /// # Errors
    ///
    /// [`MemoryError`], as of any table.
    pub fn new(count: usize, seed: Seed, huge: HugePages) -> Result<Self, MemoryError> {
        let buckets = count.div_ceil(WAYS).next_power_of_two();
        Ok(Self { buckets: Region::on(buckets, huge)?, seed, turn: AtomicU32::new(0) })
    }

    /// Templates there is room for.
    pub fn capacity(&self) -> usize {
        self.buckets.len() * WAYS
    }

    /// Templates whose time is not over. Walks all of memory: not for workers.
    pub fn live(&self, now_ms: u32) -> usize {
        let all = self.buckets.iter().flat_map(|bucket| &bucket.templates);
        all.filter(|template| template.is_live(now_ms)).count()
    }

    /// The template at that place below [`Templates::capacity`], if there is one that is not over.
    pub fn at(&self, place: usize, now_ms: u32) -> Option<Told> {
        let bucket = Claimed::of(self.buckets.get(place / WAYS)?)?;
        let template = bucket.templates.get(place % WAYS)?;
        let left_ms = template.left_ms(now_ms);
        (left_ms > 0).then(|| template.told(left_ms))
    }

    /// The backend of the client's template, if it has one that is not over.
    pub fn find(&self, client: Client, now_ms: u32) -> Option<Target> {
        let bucket = self.claim(client)?;
        bucket.find(client, now_ms).map(Template::target)
    }

    /// A connection of the client goes to `target`, for `timeout_ms` at least. A template for
    /// another backend is kept if that is `usable`.
    pub fn keep(
        &self,
        client: Client,
        target: Target,
        (now_ms, timeout_ms): (u32, u32),
        usable: impl Fn(Target) -> bool,
    ) -> Kept {
        let Some(bucket) = self.claim(client) else { return Kept::Not };
        if let Some(template) = bucket.find(client, now_ms) {
            if !usable(template.target()) {
                template.aim(target);
            }
            template.put_off(now_ms, timeout_ms);
            return Kept::Here(template.target());
        }
        let place = bucket.templates.iter().min_by_key(|template| template.left_ms(now_ms));
        let Some(place) = place else { return Kept::Not };
        let evicted = place.is_live(now_ms);
        place.write(client, target, now_ms.wrapping_add(timeout_ms));
        if evicted { Kept::Evicted(target) } else { Kept::Here(target) }
    }

    /// A connection of the client to `target` lives: the template that sent it there does not end
    /// for now.
    pub fn refresh(&self, client: Client, target: Target, now_ms: u32) {
        let Some(bucket) = self.claim(client) else { return };
        let template = bucket.find(client, now_ms);
        if let Some(template) = template.filter(|template| template.target() == target) {
            template.put_off(now_ms, REFRESH_MS);
        }
    }

    /// Forgets templates whose time is over, of one bucket. Called by every worker about once a
    /// millisecond, it comes round in minutes; the clock, which cannot tell past from future
    /// after 24 days, never gets so far.
    pub fn tidy(&self, now_ms: u32) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) as usize;
        let Some(bucket) = self.buckets.get(turn & (self.buckets.len() - 1)) else { return };
        let Some(bucket) = Claimed::of(bucket) else { return };
        for template in bucket.templates.iter().filter(|it| !it.is_live(now_ms)) {
            template.service.store(0, Ordering::Relaxed);
        }
    }

    fn claim(&self, client: Client) -> Option<Claimed<'_>> {
        let Seed([a, b]) = self.seed;
        let address = fold(client.address[0] ^ a, client.address[1] ^ b);
        let hash = fold(address, client.service ^ a.rotate_left(32));
        let mask = self.buckets.len() as u64 - 1;
        #[expect(clippy::cast_possible_truncation, reason = "below the number of buckets")]
        Claimed::of(self.buckets.get((hash & mask) as usize)?)
    }
}

impl<'a> Claimed<'a> {
    fn of(bucket: &'a Bucket) -> Option<Self> {
        for _ in 0..PATIENCE {
            // Looking is cheaper than trying while another worker has the line.
            if bucket.claim.load(Ordering::Relaxed) == 0
                && bucket.claim.swap(1, Ordering::Acquire) == 0
            {
                return Some(Self(bucket));
            }
            std::hint::spin_loop();
        }
        None
    }
}

impl Template {
    fn target(&self) -> Target {
        let backend = BackendId(self.backend.load(Ordering::Relaxed));
        Target { backend, mark: self.mark.load(Ordering::Relaxed) }
    }

    fn aim(&self, target: Target) {
        self.backend.store(target.backend.0, Ordering::Relaxed);
        self.mark.store(target.mark, Ordering::Relaxed);
    }

    /// Milliseconds until its end; 0 if there is nothing, or it is over.
    fn left_ms(&self, now_ms: u32) -> u32 {
        let left = self.ends_ms.load(Ordering::Relaxed).wrapping_sub(now_ms);
        // Ends are less than half the clock's range ahead: more is behind.
        let ahead = self.service.load(Ordering::Relaxed) != 0 && left <= u32::MAX / 2;
        if ahead { left } else { 0 }
    }

    fn is_live(&self, now_ms: u32) -> bool {
        self.left_ms(now_ms) > 0
    }

    /// It does not end before `at_least_ms` from now.
    fn put_off(&self, now_ms: u32, at_least_ms: u32) {
        if self.left_ms(now_ms) < at_least_ms {
            self.ends_ms.store(now_ms.wrapping_add(at_least_ms), Ordering::Relaxed);
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "two halves")]
    fn told(&self, left_ms: u32) -> Told {
        let service = self.service.load(Ordering::Relaxed);
        Told {
            address: [0, 1].map(|n: usize| self.address[n].load(Ordering::Relaxed)),
            service: ServiceId(((service >> 32) as u32).wrapping_sub(1)),
            epoch: service as u32,
            target: self.target(),
            left_ms,
        }
    }

    fn is_of(&self, client: Client) -> bool {
        let [high, low] = [0, 1].map(|n: usize| self.address[n].load(Ordering::Relaxed));
        client == Client { address: [high, low], service: self.service.load(Ordering::Relaxed) }
    }

    fn write(&self, client: Client, target: Target, ends_ms: u32) {
        for (place, part) in self.address.iter().zip(client.address) {
            place.store(part, Ordering::Relaxed);
        }
        self.service.store(client.service, Ordering::Relaxed);
        self.aim(target);
        self.ends_ms.store(ends_ms, Ordering::Relaxed);
    }
}

/// A bucket that nobody else may touch until this is dropped.
struct Claimed<'a>(&'a Bucket);

impl std::ops::Deref for Claimed<'_> {
    type Target = Bucket;

    fn deref(&self) -> &Bucket {
        self.0
    }
}

impl Bucket {
    fn find(&self, client: Client, now_ms: u32) -> Option<&Template> {
        self.templates.iter().find(|it| it.is_of(client) && it.is_live(now_ms))
    }
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        self.0.claim.store(0, Ordering::Release);
    }
}

/// A connection lives: its client's template does not end. Asked in one of [`REFRESH_ROUNDS`] rounds
/// of the sweep, so that it costs next to nothing.
#[inline(always)]
pub(super) fn refresh<F: Family>(
    templates: &Templates,
    snapshot: &Snapshot,
    record: &Record<F>,
    now_ms: u32,
) {
    let client = record.key(Side::Client);
    // By the client's own port: not all connections of a service in one round.
    let turn = u32::from(client.source_port());
    if (now_ms / ROUND_MS).wrapping_add(turn) % REFRESH_ROUNDS != 0 {
        return;
    }
    let id = record.service_id();
    if let Some(terms) = snapshot.service(id).and_then(|service| service.persistence) {
        let who = Client::of(client.source().into(), id, terms);
        let backend = record.backend_id();
        if let Some(found) = snapshot.backend(backend) {
            templates.refresh(who, Target::of(backend, found), now_ms);
        }
    }
}

#[cfg(test)]
mod tests;
