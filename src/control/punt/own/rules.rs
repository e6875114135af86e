//! The rules of routing that send what programs of the box say to a VIP out of a TAP, in front of the
//! kernel's own rule for local addresses.
//!
//! Nothing comes before preference 0, where that rule is from the start, so it has to move. It is
//! added at its new place before it goes from the old one: at no time does the kernel not know its
//! own addresses. Where somebody else's rule is beside it, nothing is touched: which of them was to
//! be asked first cannot be known.

use futures_util::TryStreamExt;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, IpProtocol};
use rtnetlink::{Handle, IpVersion};

use super::{OwnError, TABLE, Who, refused};
use crate::control::punt::aim::MARK;
use crate::control::punt::setup;

/// Where the rules are that name our table.
const FIRST: u32 = 0;
/// Where the rule for local addresses is meanwhile.
const SECOND: u32 = 1;
/// The kernel's table of local addresses.
const LOCAL: u32 = 255;
/// What is balanced.
const PROTOCOLS: [IpProtocol; 3] = [IpProtocol::Tcp, IpProtocol::Udp, IpProtocol::Sctp];

/// Brings the rules of a family in order: ours in front, for them alone, or the kernel's own as they were.
pub(super) async fn settle(
    handle: &Handle,
    version: &IpVersion,
    wanted: Option<Who>,
) -> Result<(), OwnError> {
    let rules = handle.rule().get(version.clone()).execute().try_collect::<Vec<_>>().await;
    // Without IPv6 there are no rules of it either.
    let Ok(rules) = rules else { return Ok(()) };
    let ours: Vec<&RuleMessage> = rules.iter().filter(|rule| is_ours(rule)).collect();
    let local_at = |at| rules.iter().find(|rule| preference(rule) == at && is_local(rule));
    let family = rules.first().map_or(AddressFamily::Unspec, |rule| rule.header.family);
    if let Some(who) = wanted {
        let strange =
            |rule: &&RuleMessage| preference(rule) <= SECOND && !is_ours(rule) && !is_local(rule);
        if rules.iter().any(|rule| strange(&rule)) {
            let family = if family == AddressFamily::Inet6 { "-6" } else { "-4" };
            return Err(OwnError::Taken { family });
        }
        if let Some(first) = local_at(FIRST) {
            move_local(handle, first, SECOND, local_at(SECOND).is_some()).await?;
        }
        let selectors = selectors(who);
        let has = |rule: &RuleMessage, it: &RuleAttribute| rule.attributes.contains(it);
        for selector in &selectors {
            if !ours.iter().any(|rule| has(rule, selector)) {
                add_rule(handle, own_rule(family, selector.clone())).await?;
            }
        }
        for rule in ours.into_iter().filter(|rule| !selectors.iter().any(|it| has(rule, it))) {
            delete_rule(handle, rule.clone()).await?;
        }
    } else if !ours.is_empty() {
        for rule in ours {
            delete_rule(handle, rule.clone()).await?;
        }
        if let Some(second) = local_at(SECOND) {
            move_local(handle, second, FIRST, local_at(FIRST).is_some()).await?;
        }
    }
    Ok(())
}

/// Moves the rule for local addresses; at no time there is none.
async fn move_local(
    handle: &Handle,
    rule: &RuleMessage,
    to: u32,
    is_there: bool,
) -> Result<(), OwnError> {
    if !is_there {
        let mut moved = RuleMessage::default();
        moved.header = rule.header.clone();
        moved.attributes = vec![RuleAttribute::Table(LOCAL), RuleAttribute::Priority(to)];
        add_rule(handle, moved).await?;
    }
    delete_rule(handle, rule.clone()).await
}

/// What tells their packets from others: a rule for each.
fn selectors(who: Who) -> Vec<RuleAttribute> {
    match who {
        Who::Programs => PROTOCOLS.map(RuleAttribute::IpProtocol).to_vec(),
        Who::Checks => vec![RuleAttribute::FwMark(MARK)],
    }
}

fn own_rule(family: AddressFamily, selector: RuleAttribute) -> RuleMessage {
    let mut rule = RuleMessage::default();
    (rule.header.family, rule.header.action) = (family, RuleAction::ToTable);
    rule.attributes = vec![
        RuleAttribute::Iifname("lo".into()),
        selector,
        RuleAttribute::Table(TABLE),
        RuleAttribute::Priority(FIRST),
    ];
    rule
}

async fn add_rule(handle: &Handle, rule: RuleMessage) -> Result<(), OwnError> {
    let mut request = handle.rule().add();
    *request.message_mut() = rule;
    match request.execute().await {
        Err(error) if !setup::exists(&error) => Err(refused("a rule")(error)),
        _ => Ok(()),
    }
}

async fn delete_rule(handle: &Handle, rule: RuleMessage) -> Result<(), OwnError> {
    handle.rule().del(rule).execute().await.map_err(refused("to give up a rule"))
}

fn table(rule: &RuleMessage) -> u32 {
    let said = rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Table(table) => Some(*table),
        _ => None,
    });
    said.unwrap_or(rule.header.table.into())
}

/// The kernel does not say the preference 0.
fn preference(rule: &RuleMessage) -> u32 {
    let said = rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Priority(preference) => Some(*preference),
        _ => None,
    });
    said.unwrap_or(0)
}

fn is_ours(rule: &RuleMessage) -> bool {
    table(rule) == TABLE && preference(rule) == FIRST
}

/// Is it the rule that is there from the start, about every packet?
fn is_local(rule: &RuleMessage) -> bool {
    let header = &rule.header;
    let about_all = (header.dst_len, header.src_len, header.tos) == (0, 0, 0);
    about_all
        && header.action == RuleAction::ToTable
        && table(rule) == LOCAL
        && rule.attributes.iter().all(|attribute| {
            matches!(
                attribute,
                RuleAttribute::Table(_)
                    | RuleAttribute::Priority(_)
                    | RuleAttribute::Protocol(_)
                    | RuleAttribute::SuppressPrefixLen(_)
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_rule_for_every_packet_is_the_kernels_own() {
        let tcp = RuleAttribute::IpProtocol(IpProtocol::Tcp);
        let mut local = own_rule(AddressFamily::Inet, tcp);
        assert!(is_ours(&local) && !is_local(&local));
        local.attributes = vec![RuleAttribute::Table(255)];
        assert!(is_local(&local) && preference(&local) == 0);
        local.attributes.push(RuleAttribute::FwMark(1));
        assert!(!is_local(&local));
    }
}
