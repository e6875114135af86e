//! The generator and the reflector: packets written into ports, and taken out of them again.

use std::collections::VecDeque;

use anyhow::{Context as _, ensure};
use shunt::dataplane::conn::key::FlowKey;
use shunt::dataplane::io::{Burst, Packet as _, Rx as _, Tx as _};
use shunt::dpdk::mbuf::Mbuf;
use shunt::dpdk::pool::{HEADROOM, Pool};

use crate::bed::Wire;
use crate::frame::{Layout, Template, Templates, flags};
use crate::host::{Hosts, client};
use crate::options::Scene;
use crate::order::{Order, Reply};
use crate::scene::{BACKEND_MAC, CLIENT_MAC, OUR_MACS};

/// Where a port is.
pub(crate) const CLIENTS: usize = 0;
/// The other.
pub(crate) const BACKENDS: usize = 1;

/// Link addresses of packets that come to us, by the port they come by.
pub(crate) const TO_US: [[shunt::wire::Mac; 2]; 2] =
    [[CLIENT_MAC, OUR_MACS[CLIENTS]], [BACKEND_MAC, OUR_MACS[BACKENDS]]];

/// How often connections are visited.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    /// Connections that are visited, from 0.
    pub(crate) flows: u32,
    /// Do backends answer?
    pub(crate) replies: bool,
    /// Of 1,000 packets so many are SYNs of new clients.
    pub(crate) new_per_mille: u32,
}

/// A packet to be written.
struct Drawn<F: Hosts> {
    /// The port it is for.
    port: usize,
    key: FlowKey<F>,
    /// The key it shall leave with; `None` for any.
    wanted: Option<FlowKey<F>>,
    is_new: bool,
}

/// The clients whose packets one worker owns, as a card would bring them to it.
pub(crate) struct Share<F: Hosts> {
    is_mine: Box<dyn Fn(FlowKey<F>) -> bool>,
    /// Of the connections made, in order.
    numbers: Vec<u32>,
}

impl<F: Hosts> Share<F> {
    /// Those for which this holds.
    pub(crate) fn of(is_mine: impl Fn(FlowKey<F>) -> bool + 'static) -> Self {
        Self { is_mine: Box::new(is_mine), numbers: Vec::new() }
    }

    /// The first of them from number `n` on.
    fn next(&self, protocol: u8, n: u32) -> (u32, FlowKey<F>) {
        let mut n = n;
        loop {
            let key = client(protocol, n);
            if (self.is_mine)(key) {
                return (n, key);
            }
            n = n.wrapping_add(1);
        }
    }
}

/// One generator's packets, and what it knows of the connections it has made.
pub(crate) struct Traffic<F: Hosts> {
    protocol: u8,
    pool: Pool,
    /// Packets in all.
    count: usize,
    idle: Vec<Mbuf>,
    replies: Vec<Reply<F>>,
    established: [Templates; 2],
    first: Template,
    /// How frames look that leave by each port.
    pub(crate) layouts: [Layout; 2],
    order: Order,
    /// The next client nobody has seen.
    next_client: u32,
    /// Whose packets these are, if not everybody's.
    share: Option<Share<F>>,
    /// Keys that shall leave by each port in this round; `None` for any.
    expected: [VecDeque<Option<FlowKey<F>>>; 2],
}

impl<F: Hosts> Traffic<F> {
    /// A generator with `scene.in_flight` packets.
    pub(crate) fn new(scene: &Scene, pool: &Pool) -> anyhow::Result<Self> {
        let idle = (0..scene.in_flight).map(|_| pool.alloc()).collect::<Option<Vec<_>>>();
        let transport = scene.protocol;
        let to_backends = scene
            .mode
            .wrapping()
            .map_or(Layout::plain(transport), |bytes| Layout::wrapped::<F>(transport, bytes));
        Ok(Self {
            protocol: transport.protocol() as u8,
            pool: pool.clone(),
            count: scene.in_flight as usize,
            idle: idle.context("the pool is too small")?,
            replies: Vec::new(),
            established: TO_US.map(|macs| Templates::new::<F>(scene.packet_size, transport, macs)),
            first: Template::new::<F>(64, transport, flags::SYN, TO_US[CLIENTS]),
            layouts: [Layout::plain(transport), to_backends],
            order: Order::new(scene.seed),
            next_client: 0,
            share: None,
            expected: Default::default(),
        })
    }

    /// The same, but of these clients only.
    pub(crate) fn of(self, share: Share<F>) -> Self {
        Self { share: Some(share), ..self }
    }

    /// The key of a client nobody has seen.
    #[inline]
    fn new_client(&mut self) -> FlowKey<F> {
        let Some(share) = &self.share else {
            self.next_client = self.next_client.wrapping_add(1);
            return client(self.protocol, self.next_client.wrapping_sub(1));
        };
        let (n, key) = share.next(self.protocol, self.next_client);
        self.next_client = n.wrapping_add(1);
        key
    }

    /// The key of the client that was the `n`th one offered.
    #[inline]
    fn known_client(&self, n: u32) -> FlowKey<F> {
        let number = self.share.as_ref().map_or(n, |share| share.numbers[n as usize]);
        client(self.protocol, number)
    }

    /// Connections made so that their backends' answers are known.
    pub(crate) fn known(&self) -> usize {
        self.replies.len()
    }

    /// Bytes of a frame of established connections, on average.
    pub(crate) fn mean_size(&self) -> f64 {
        self.established[CLIENTS].mean_size()
    }

    /// Offers the first packets of up to `count` new clients; how many.
    pub(crate) fn offer_new(&mut self, wire: &mut Wire, count: u32) -> anyhow::Result<u32> {
        let count = count.min(u32::try_from(self.idle.len()).unwrap_or(u32::MAX));
        let mut burst = Burst::new();
        for _ in 0..count {
            let key = self.new_client();
            if let Some(share) = &mut self.share {
                share.numbers.push(self.next_client.wrapping_sub(1));
            }
            let packet = written(self.idle.pop(), &self.first, key, 0)?;
            put(wire, &mut burst, packet)?;
        }
        flush(wire, &mut burst)?;
        Ok(count)
    }

    /// Offers a packet each of clients `first` up to `first + count`, of established connections.
    pub(crate) fn offer_again(
        &mut self,
        wire: &mut Wire,
        first: u32,
        count: u32,
    ) -> anyhow::Result<()> {
        let mut burst = Burst::new();
        for n in first..first + count {
            let key = self.known_client(n);
            let template = self.established[CLIENTS].next();
            let packet = written(self.idle.pop(), template, key, 0)?;
            put(wire, &mut burst, packet)?;
        }
        flush(wire, &mut burst)
    }

    /// Takes out what left for backends and notes how they will answer.
    pub(crate) fn learn(&mut self, wire: &mut Wire) {
        let (layout, replies) = (self.layouts[BACKENDS], &mut self.replies);
        take_out(wire, &mut self.idle, |frame| {
            replies.extend(layout.key_of(frame).map(Reply::to));
        });
    }

    /// Forgets the answers that are not like this.
    pub(crate) fn keep_replies(&mut self, mut wanted: impl FnMut(FlowKey<F>) -> bool) {
        let protocol = self.protocol;
        self.replies.retain(|reply| wanted(reply.key(protocol)));
    }

    /// Offers backends' answers in random order until no packet is idle; how many.
    pub(crate) fn offer_replies(&mut self, wire: &mut Wire) -> anyhow::Result<u64> {
        let known = u32::try_from(self.replies.len()).unwrap_or(u32::MAX);
        let (mut burst, mut offered) = (Burst::new(), 0);
        while let Some(packet) = self.idle.pop() {
            let (n, _) = self.order.below(known);
            let key = self.replies[n as usize].key(self.protocol);
            put(
                wire,
                &mut burst,
                written(Some(packet), self.established[BACKENDS].next(), key, 0)?,
            )?;
            offered += 1;
        }
        flush(wire, &mut burst)?;
        Ok(offered)
    }

    /// The first of a batch of new clients, of which nothing is known yet.
    pub(crate) fn begin_batch(&mut self) -> u32 {
        self.replies.clear();
        self.next_client
    }

    /// Offers the same packet of each connection of a batch, by that port.
    pub(crate) fn offer_step(
        &mut self,
        wire: &mut Wire,
        port: usize,
        template: &Template,
        first: u32,
        count: u32,
    ) -> anyhow::Result<()> {
        let mut burst = Burst::new();
        for n in 0..count {
            let key = match port {
                CLIENTS => client(self.protocol, first.wrapping_add(n)),
                _ => self.replies[n as usize].key(self.protocol),
            };
            put(wire, &mut burst, written(self.idle.pop(), template, key, 0)?)?;
        }
        self.next_client = first.wrapping_add(count);
        flush(wire, &mut burst)
    }

    /// Takes a step's packets out, and learns the replies from the first.
    pub(crate) fn take_batch(&mut self, wires: &mut [Wire; 2], is_first: bool) {
        if is_first {
            self.learn(&mut wires[BACKENDS]);
        }
        self.collect(wires, false);
    }

    /// Offers packets in random order until none is idle; how many.
    pub(crate) fn offer(&mut self, wires: &mut [Wire; 2], mix: Mix) -> anyhow::Result<u64> {
        let mut bursts = [Burst::new(), Burst::new()];
        let mut offered = 0;
        // What was refused has gone back to the pool.
        while self.idle.len() < self.count {
            self.idle.push(self.pool.alloc().context("the pool is too small")?);
        }
        while let Some(packet) = self.idle.pop() {
            let drawn = self.draw(mix);
            self.expected[1 - drawn.port].push_back(drawn.wanted);
            let packet = self.write(packet, &drawn, 0)?;
            put(&mut wires[drawn.port], &mut bursts[drawn.port], packet)?;
            offered += 1;
        }
        for (wire, burst) in wires.iter_mut().zip(&mut bursts) {
            flush(wire, burst)?;
        }
        Ok(offered)
    }

    /// A packet with that stamp, of a connection drawn at random, and the port it is for; `None`
    /// while all are under way.
    #[inline]
    pub(crate) fn stamped(
        &mut self,
        mix: Mix,
        stamp: u64,
    ) -> anyhow::Result<Option<(usize, Mbuf)>> {
        let Some(packet) = self.idle.pop() else { return Ok(None) };
        let drawn = self.draw(mix);
        Ok(Some((drawn.port, self.write(packet, &drawn, stamp)?)))
    }

    /// Takes back a packet that did not get away.
    pub(crate) fn take_back(&mut self, packet: Mbuf) {
        self.idle.push(packet);
    }

    /// Takes out what left by a port, forwarded or as it was sent, and shows the stamps.
    #[inline]
    pub(crate) fn collect_stamps(
        &mut self,
        wires: &mut [Wire; 2],
        as_sent: bool,
        mut show: impl FnMut(u64),
    ) {
        let layouts = if as_sent { [self.layouts[CLIENTS]; 2] } else { self.layouts };
        for (wire, layout) in wires.iter_mut().zip(layouts) {
            take_out(wire, &mut self.idle, |frame| {
                show(layout.stamp_of::<F>(frame).unwrap_or_default());
            });
        }
    }

    #[inline]
    fn write(&mut self, packet: Mbuf, drawn: &Drawn<F>, stamp: u64) -> anyhow::Result<Mbuf> {
        let template = if drawn.is_new { &self.first } else { self.established[drawn.port].next() };
        written(Some(packet), template, drawn.key, stamp)
    }

    #[inline]
    fn draw(&mut self, mix: Mix) -> Drawn<F> {
        if mix.new_per_mille > 0 && self.order.below(1000).0 < mix.new_per_mille {
            let key = self.new_client();
            return Drawn { port: CLIENTS, key, wanted: None, is_new: true };
        }
        let (n, from_backend) = self.order.below(mix.flows);
        let reply = self.replies[n as usize].key(self.protocol);
        let asked = self.known_client(n);
        if from_backend && mix.replies {
            let wanted = Some(asked.reversed());
            Drawn { port: BACKENDS, key: reply, wanted, is_new: false }
        } else {
            Drawn { port: CLIENTS, key: asked, wanted: Some(reply.reversed()), is_new: false }
        }
    }

    /// The key of a packet of a connection drawn at random.
    pub(crate) fn drawn_key(&mut self, mix: Mix) -> FlowKey<F> {
        let (n, from_backend) = self.order.below(mix.flows);
        if from_backend && mix.replies {
            self.replies[n as usize].key(self.protocol)
        } else {
            self.known_client(n)
        }
    }

    /// The shortest packet of an established connection.
    pub(crate) fn template(&self) -> &Template {
        self.established[CLIENTS].shortest()
    }

    /// Takes out what left; with `check` says how many frames are not the translation of what was
    /// offered, in order, with right checksums.
    pub(crate) fn collect(&mut self, wires: &mut [Wire; 2], check: bool) -> u64 {
        let mut wrong = 0;
        for ((wire, expected), layout) in wires.iter_mut().zip(&mut self.expected).zip(self.layouts)
        {
            take_out(wire, &mut self.idle, |frame| {
                let wanted = expected.pop_front().flatten();
                let found = || layout.key_of::<F>(frame);
                let is_it = || wanted.is_none() || wanted == found();
                wrong += u64::from(check && !(layout.is_right::<F>(frame) && is_it()));
            });
            expected.clear();
        }
        wrong
    }

    /// As [`Traffic::collect`], of frames nothing was done to.
    pub(crate) fn collect_untouched(&mut self, wires: &mut [Wire; 2]) {
        self.expected.iter_mut().for_each(VecDeque::clear);
        for wire in wires {
            take_out(wire, &mut self.idle, |_| ());
        }
    }
}

/// A packet with that key and stamp.
#[inline]
pub(crate) fn written<F: Hosts>(
    packet: Option<Mbuf>,
    template: &Template,
    key: FlowKey<F>,
    stamp: u64,
) -> anyhow::Result<Mbuf> {
    let mut packet = packet.context("no idle packet is left")?;
    ensure!(packet.set_len(template.len()), "a frame of {} bytes does not fit", template.len());
    template.write(packet.data_mut(), key, stamp);
    Ok(packet)
}

/// Puts a packet into a port, by bursts.
#[inline]
pub(crate) fn put(wire: &mut Wire, burst: &mut Burst<Mbuf>, packet: Mbuf) -> anyhow::Result<()> {
    burst.push(packet);
    if burst.is_full() { flush(wire, burst) } else { Ok(()) }
}

/// And the last, short one.
pub(crate) fn flush(wire: &mut Wire, burst: &mut Burst<Mbuf>) -> anyhow::Result<()> {
    wire.to.tx(burst);
    ensure!(burst.is_empty(), "an in-memory port is too small");
    Ok(())
}

/// Takes everything out of a port, shows it, and keeps the buffers as they were new.
pub(crate) fn take_out(wire: &mut Wire, idle: &mut Vec<Mbuf>, mut show: impl FnMut(&[u8])) {
    let mut burst = Burst::new();
    while wire.from.rx(&mut burst) > 0 {
        for mut packet in burst.drain(..) {
            show(packet.data());
            // A frame that was wrapped has used up headroom.
            packet.trim_front(usize::from(HEADROOM).saturating_sub(packet.headroom()));
            idle.push(packet);
        }
    }
}
