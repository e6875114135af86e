//! Connections put into words for the control plane, a page at a time.

use std::net::SocketAddr;

use super::conn::key::Side;
use super::conn::record::Record;
use super::conn::state::State;
use super::conn::table::Slot;
use super::family::Family;
use super::flows::Flows;
use super::orders::{ConnectionView, Page, Rows};
use super::persistence::Target;
use super::snapshot::{Protocol, ServiceAddress};

impl Flows {
    /// Fills a page from its cursor on: as many rows as it has room for, from no more than
    /// [`Page::SLOTS_MAX`] slots. The slots of IPv6 connections come after all that IPv4 may ever have: a place
    /// means the same connection however the tables grow between two pages.
    pub fn describe(&self, page: &mut Page) {
        if page.of == Rows::Templates {
            return self.describe_templates(page);
        }
        let (v4, v6) = (&self.tables.v4, &self.tables.v6);
        let first_v6 = u32::try_from(v4.capacity()).unwrap_or(u32::MAX);
        let end_v6 = first_v6.saturating_add(v6.used());
        for _ in 0..Page::SLOTS_MAX {
            if (v4.used()..first_v6).contains(&page.cursor) {
                page.cursor = first_v6;
            }
            if page.cursor >= end_v6 || page.rows.len() >= page.rows.capacity() {
                break;
            }
            let row = match page.cursor.checked_sub(first_v6) {
                None => self.view(v4.record(Slot(page.cursor))),
                Some(slot) => self.view(v6.record(Slot(slot))),
            };
            page.rows.extend(row);
            page.cursor += 1;
        }
        let is_past_v4 = page.cursor >= v4.used();
        page.done = is_past_v4 && page.cursor.max(first_v6) >= end_v6;
    }

    /// The same with persistence templates.
    fn describe_templates(&self, page: &mut Page) {
        let places = self.templates.as_ref().map_or(0, |templates| templates.capacity());
        let places = u32::try_from(places).unwrap_or(u32::MAX);
        let end = places.min(page.cursor.saturating_add(Page::TEMPLATES_MAX));
        while page.cursor < end && page.rows.len() < page.rows.capacity() {
            page.rows.extend(self.template(page.cursor));
            page.cursor += 1;
        }
        page.done = page.cursor >= places;
    }

    /// A template as IPVS lists it, if there is one at that place that still means something.
    fn template(&self, place: u32) -> Option<ConnectionView> {
        let told = self.templates.as_ref()?.at(place as usize, self.now_ms)?;
        let service = self.snapshot.service(told.service)?;
        let terms = service.persistence.filter(|terms| terms.epoch == told.epoch);
        let id = told.target.backend;
        let backend = self.snapshot.backend(id).filter(|it| it.service == told.service)?;
        let ServiceAddress { vip, ports } = *service.addresses.first()?;
        let vip_port = if ports.first == ports.last { ports.first } else { 0 };
        let is_meant = terms.is_some() && Target::of(id, backend) == told.target;
        is_meant.then(|| ConnectionView {
            worker: self.ownership.me(),
            protocol: service.protocol,
            state: State::None,
            client: SocketAddr::new(told.client(vip), 0),
            vip: SocketAddr::new(vip, vip_port),
            local: SocketAddr::new(vip, vip_port),
            backend: SocketAddr::new(backend.address, backend.port),
            service_id: told.service,
            backend_id: id,
            idle_ms: 0,
            expires_ms: told.left_ms,
        })
    }

    /// A connection, if the record holds one.
    pub(super) fn view<F: Family>(&self, record: &Record<F>) -> Option<ConnectionView> {
        let client = record.key(Side::Client);
        let backend = record.key(Side::Backend);
        record.is_live().then_some(ConnectionView {
            worker: self.ownership.me(),
            protocol: Protocol::from_number(record.protocol())?,
            state: record.state(),
            client: socket(client.source(), client.source_port()),
            vip: socket(client.destination(), client.destination_port()),
            local: socket(backend.destination(), backend.destination_port()),
            backend: socket(backend.source(), backend.source_port()),
            service_id: record.service_id(),
            backend_id: record.backend_id(),
            idle_ms: self.now_ms.wrapping_sub(record.seen_ms),
            expires_ms: self.expires_ms(record),
        })
    }
}

/// An IPv4-mapped address is an IPv4 one (NAT64).
fn socket<F: Family>(address: F, port: u16) -> SocketAddr {
    let address: std::net::IpAddr = address.into();
    SocketAddr::new(address.to_canonical(), port)
}
