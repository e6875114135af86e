//! What is under a port: a device of its own (`device`), or the frames of another port's device
//! that carry certain VLAN tags (`on`, `vlan`).
//!
//! Ports with a device are checked and numbered first, wherever they stand in the file, so that a
//! tagged port may stand before the one it is on. Tags do not stack by name: a port with two says
//! so itself, `vlan = [200, 100]`.

use toml::Value;

use super::super::error::Problems;
use super::super::explain::did_you_mean;
use super::super::plan::{Link, Port};
use super::super::schema::{self, Spanned};
use crate::ids::PortId;
use crate::wire::vlan::{Tags, Vid};

const EXAMPLE: &str = "`vlan = 100`, or `vlan = [200, 100]`: the outer tag's, then the inner's";

/// Is the port on another one? What is neither that nor a device is told by [`has_one`].
pub(super) fn is_tagged(written: &schema::Port) -> bool {
    written.device.is_none() && (written.on.is_some() || written.vlan.is_some())
}

/// Reports a port that is nothing, or both.
pub(super) fn has_one(problems: &mut Problems, written: &schema::Port) {
    let name = written.name.get_ref();
    let foreign = [
        ("on", written.on.as_ref().map(Spanned::span)),
        ("vlan", written.vlan.as_ref().map(Spanned::span)),
    ];
    let Some(_) = &written.device else {
        if foreign.iter().all(|(_, span)| span.is_none()) {
            let message = format!("port `{name}` has no `device`");
            let help = "or `on` and `vlan`, for the frames of another port with a VLAN tag";
            problems.error_help(written.name.span(), message, help);
        }
        return;
    };
    for (key, span) in foreign {
        if let Some(span) = span {
            let message = format!("port `{name}` has a `device`, so it cannot have `{key}`");
            let help = "make a [[port]] of its own for frames with a VLAN tag";
            problems.error_help(span, message, help);
        }
    }
}

/// The port and the tags a tagged port is made of. `ports` are those checked so far, all with a
/// device among them; `tagged` are the names of those without.
pub(super) fn tagged(
    problems: &mut Problems,
    written: &schema::Port,
    ports: &[Port],
    tagged: &[&str],
) -> Option<(PortId, Tags)> {
    for (key, value) in
        [("rx_descriptors", &written.rx_descriptors), ("tx_descriptors", &written.tx_descriptors)]
    {
        if let Some(value) = value {
            let message = format!("{key} belongs to the port with the `device`");
            problems.error(value.span(), message);
        }
    }
    let on = on(problems, written, ports, tagged);
    let tags = tags(problems, written);
    let (id, tags) = (on?, tags?);
    let same = Link::Tagged { on: id, tags };
    if let Some(other) = ports.iter().find(|port| port.link == same) {
        let span = written.vlan.as_ref().map(Spanned::span);
        let on = written.on.as_ref().map_or("", |on| on.get_ref());
        problems.error(span, format!("vlan {tags} on `{on}` is port `{}` already", other.name));
    }
    Some((id, tags))
}

fn on(
    problems: &mut Problems,
    written: &schema::Port,
    ports: &[Port],
    tagged: &[&str],
) -> Option<PortId> {
    let name = written.name.get_ref();
    let Some(on) = &written.on else {
        let message = format!("port `{name}` has `vlan`, but no `on`");
        let help = "`on` names the port whose device receives these frames";
        problems.error_help(written.name.span(), message, help);
        return None;
    };
    let wanted = on.get_ref();
    let devices = || (0..).map(PortId).zip(ports).filter(|(_, port)| port.device().is_some());
    if let Some((id, _)) = devices().find(|(_, port)| port.name == *wanted) {
        return Some(id);
    }
    if tagged.contains(&wanted.as_str()) {
        let message = format!("port `{wanted}` is on another port itself");
        let help = "name the port with the device, and both tags: `vlan = [200, 100]`";
        problems.error_help(on.span(), message, help);
        return None;
    }
    let names: Vec<&str> = devices().map(|(_, port)| port.name.as_str()).collect();
    let message = format!("there is no port `{wanted}` with a `device`");
    match did_you_mean(wanted, &names) {
        Some(help) => problems.error_help(on.span(), message, help),
        None => problems.error(on.span(), message),
    }
    None
}

fn tags(problems: &mut Problems, written: &schema::Port) -> Option<Tags> {
    let Some(value) = &written.vlan else {
        let message = format!("port `{}` has `on`, but no `vlan`", written.name.get_ref());
        problems.error_help(written.name.span(), message, EXAMPLE);
        return None;
    };
    let numbers = match value.get_ref() {
        Value::Integer(number) => Some((*number, None)),
        Value::Array(list) => match list.as_slice() {
            [Value::Integer(outer)] => Some((*outer, None)),
            [Value::Integer(outer), Value::Integer(inner)] => Some((*outer, Some(*inner))),
            _ => None,
        },
        _ => None,
    };
    let Some((outer, inner)) = numbers else {
        problems.error_help(value.span(), "vlan is not one number or two", EXAMPLE);
        return None;
    };
    let outer = vid(problems, value, outer);
    match inner {
        None => Some(Tags { outer: outer?, inner: None }),
        Some(inner) => {
            let inner = vid(problems, value, inner);
            Some(Tags { outer: outer?, inner: Some(inner?) })
        }
    }
}

fn vid(problems: &mut Problems, value: &Spanned<Value>, number: i64) -> Option<Vid> {
    let vid = u16::try_from(number).ok().and_then(Vid::new);
    if vid.is_none() {
        let (least, most) = (Vid::MIN.get(), Vid::MAX.get());
        let message = format!("vlan {number} is out of range ({least} to {most})");
        problems.error(value.span(), message);
    }
    vid
}
