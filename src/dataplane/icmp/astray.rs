//! Errors about a flow that another box has: routers that spread a VIP's packets over several boxes
//! (ECMP) send an error by the address of whoever tells it, not by its flow's.
//!
//! ```text
//!   client ───────► box A ───► backend 2      as a hash of the flow chose
//!   router ─ error about backend 2's answer ─► box B ───► backend 2      by the same hash
//! ```
//!
//! Where the choice depends on the flow alone (`sh`, `dh`, `mh`) and backends answer under the VIP
//! by themselves (DR, tunnels), every box can tell which backend has the flow, and the error is sent
//! there as if the connection were here. Without it a path MTU is never learned. IPVS does so with
//! `schedule_icmp=1`, and keeps an entry; here nothing is kept, and no place at a backend taken: errors can
//! be forged, and shall fill nobody.
//!
//! Limits: not in services with persistence, whose templates another box has; a backend that was chosen
//! before its weights changed is not found. What is sent on is proven by the backend itself, which
//! knows its connections.

use crate::dataplane::conn::key::FlowKey;
use crate::dataplane::conn::record::{NewConnection, Record, Way};
use crate::dataplane::conn::state::State;
use crate::dataplane::established::sender;
use crate::dataplane::family::Family;
use crate::dataplane::flows::Flows;
use crate::dataplane::io::Packet;
use crate::dataplane::sched::Flow;
use crate::dataplane::snapshot::{ClientAddress, Mode};
use crate::dataplane::sources::Seat;
use crate::wire::Mac;

impl Flows {
    /// The connection that another box has of packets with this key, as far as any box knows it.
    pub(super) fn elsewhere<F: Family, P: Packet>(
        &mut self,
        packet: &P,
        key: FlowKey<F>,
    ) -> Option<Record<F>> {
        let (client, vip) = (key.source().into(), key.destination().into());
        let id = self.snapshot.service_of(key)?;
        let service = self.snapshot.service(id)?;
        let is_alike = service.scheduling.scheduler.method().by_flow_alone;
        if !is_alike || service.persistence.is_some() || !self.snapshot.admits(id, client) {
            return None;
        }
        let (client_port, now_ms) = (key.source_port(), self.now_ms);
        let flow = Flow { client, client_port, vip, datagram: &[], now_ms };
        let chosen = self.chooser.pick(&self.snapshot, &self.stats.loads, id, &flow)?;
        let backend = self.snapshot.backend(chosen)?;
        if backend.is_client(client) {
            return None;
        }
        let way = match backend.mode {
            Mode::Dr => Way::Direct,
            Mode::Tunnel(encapsulation) => Way::Wrapped(encapsulation),
            Mode::Nat | Mode::Fullnat => return None,
        };
        let new = NewConnection {
            client: key,
            backend: key.reversed(),
            service: id,
            backend_id: chosen,
            client_mac: Mac::of_number(sender(packet.data())),
            client_port: packet.port(),
            state: State::None,
            way,
            introduction: ClientAddress::None,
            seat: Seat::NONE,
        };
        Some(Record::new(&new, self.now_ms))
    }
}
