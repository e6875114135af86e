//! `local_addresses`: where the answers of FULL-NAT backends go, for each family of them.

use std::collections::HashSet;
use std::ops::Range;

use super::super::error::Problems;
use super::super::plan::Backend;
use super::super::schema::{self, Spanned};
use super::modes::ServiceMode;
use super::services::Placed;
use super::value::address;
use super::vips::PlacedVip;
use crate::control::prefix::family;
use crate::dataplane::snapshot::Mode;

/// Checks a service's local addresses against the backends that need them.
pub(super) fn local_addresses(
    problems: &mut Problems,
    written: &schema::Service,
    service: Range<usize>,
    mode: &ServiceMode,
    modes: &[Option<Mode>],
    served: (&[PlacedVip], &[Backend]),
) -> Vec<Placed> {
    let list = written.local_addresses.as_ref();
    let name = written.name.get_ref();
    let locals = read(problems, written);
    let is_written = list.is_some_and(|list| !list.get_ref().is_empty());
    match list.filter(|_| is_written) {
        None if mode.needs_local_addresses(modes) => {
            let message = format!("service `{name}` has no local address, and FULL-NAT needs one");
            let help = "for example `local_addresses = [\"10.44.0.2\"]`, an address of this \
                        box's own that the backends can reach";
            problems.error_help(list.map_or(service, Spanned::span), message, help);
        }
        Some(list) if !mode.needs_local_addresses(modes) => {
            let message =
                format!("nothing of service `{name}` has mode `fullnat`: these are not used");
            problems.warn(list.span(), message);
        }
        Some(list) => by_family(problems, list.span(), &locals, served),
        None => {}
    }
    locals
}

fn read(problems: &mut Problems, written: &schema::Service) -> Vec<Placed> {
    let mut seen = HashSet::new();
    let mut locals = Vec::new();
    for value in written.local_addresses.iter().flat_map(Spanned::get_ref) {
        let Some(address) = address(problems, "local address", value) else { continue };
        if !seen.insert(address) {
            problems.error(value.span(), format!("local address {address} is listed twice"));
        }
        locals.push((address, value.span()));
    }
    locals
}

/// A backend is spoken to from an address of its own family.
fn by_family(
    problems: &mut Problems,
    list: Range<usize>,
    locals: &[Placed],
    (vips, backends): (&[PlacedVip], &[Backend]),
) {
    let fullnat = || backends.iter().filter(|backend| backend.mode == Mode::Fullnat);
    let is_vip_ipv4 = vips.first().is_some_and(|(address, _)| address.vip.is_ipv4());
    for is_ipv4 in [true, false] {
        let backend = fullnat().find(|backend| backend.address.is_ipv4() == is_ipv4);
        let local = locals.iter().find(|(address, _)| address.is_ipv4() == is_ipv4);
        match (backend, local) {
            // A local address that cannot be read may have been meant; an IPv6 backend of an IPv4
            // VIP is refused for itself.
            (Some(backend), None) if !locals.is_empty() && (is_ipv4 || !is_vip_ipv4) => {
                let (at, family) = (backend.address, family(backend.address.ip()));
                let message =
                    format!("no local address is {family}, and FULL-NAT needs one for {at}");
                problems.error(list.clone(), message);
            }
            (None, Some((address, span))) if fullnat().next().is_some() => {
                let family = family(*address);
                let message =
                    format!("no backend in mode `fullnat` is {family}: {address} is not used");
                problems.warn(span.clone(), message);
            }
            _ => {}
        }
    }
}
