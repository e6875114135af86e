//! `[service.health]`: how a service takes what its checks say.

use super::super::error::Problems;
use super::super::plan::Service;
use super::super::schema;
use super::cookies::answers_elsewhere;
use super::value::{choice, integer};
use crate::control::health::check::{OnFailure, Policy, Probe, Target};
use crate::control::punt::aim::SAID_MAX;
use crate::dataplane::snapshot::Mode;

/// A service has at most so many backends of at most such a weight.
const QUORUM_MAX: i64 = 65_536 * 65_535;
const SECONDS_MAX: i64 = 86_400;
const FLAPS_MAX: i64 = 1000;
const ROW_MAX: i64 = 1000;

/// What it says.
pub(super) fn policy(problems: &mut Problems, written: &schema::Health) -> Policy {
    let default = Policy::default();
    let range = 1..=QUORUM_MAX;
    let quorum = integer(problems, "quorum", written.quorum.as_ref(), range, default.quorum);
    let value = written.quorum_hysteresis.as_ref();
    let below = 0..=i64::from(quorum) - 1;
    let hysteresis = integer(problems, "quorum_hysteresis", value, below, default.hysteresis);
    let words = [("remove", OnFailure::Remove), ("drain", OnFailure::Drain)];
    let value = written.on_failure.as_ref();
    let on_failure = choice(problems, "on_failure", value, &words, default.on_failure);
    let words = [("up", true), ("down", false)];
    let starts_up = choice(problems, "start", written.start.as_ref(), &words, default.starts_up);
    let value = written.flap_limit.as_ref();
    let flap_limit = integer(problems, "flap_limit", value, 0..=FLAPS_MAX, default.flap_limit);
    let (value, seconds) = (written.flap_window_s.as_ref(), 1..=SECONDS_MAX);
    let flap_window_s = integer(problems, "flap_window_s", value, seconds, default.flap_window_s);
    let (value, seconds) = (written.slow_start_s.as_ref(), 0..=SECONDS_MAX);
    let slow_start_s = integer(problems, "slow_start_s", value, seconds, default.slow_start_s);
    let value = written.passive_fall.as_ref();
    let passive_fall = integer(problems, "passive_fall", value, 0..=ROW_MAX, default.passive_fall);
    let (value, seconds) = (written.passive_rest_s.as_ref(), 1..=SECONDS_MAX);
    let passive_rest_s =
        integer(problems, "passive_rest_s", value, seconds, default.passive_rest_s);
    let words = [("backend", Target::Backend), ("vip", Target::Vip)];
    let target = choice(problems, "target", written.target.as_ref(), &words, default.target);
    Policy {
        quorum,
        hysteresis,
        on_failure,
        starts_up,
        flap_limit,
        flap_window_s,
        slow_start_s,
        passive_fall,
        passive_rest_s,
        target,
    }
}

/// Checks that ask a VIP where that would tell nothing, or cannot be.
pub(super) fn refuse_astray(problems: &mut Problems, written: &schema::Service, service: &Service) {
    let Some(value) =
        written.health.target.as_ref().filter(|_| service.health.target == Target::Vip)
    else {
        return;
    };
    let all = || service.checks.iter().chain(service.backend_checks.values().flatten());
    let checked = || service.backends.iter().filter(|backend| !backend.sorry);
    let passes_here = |mode| match mode {
        Mode::Fullnat => Some("fullnat"),
        Mode::Nat => Some("nat"),
        Mode::Dr | Mode::Tunnel(_) => None,
    };
    let is_v4 = service.address.vip.is_ipv4();
    let said = |probe: &Probe| matches!(probe, Probe::Udp(it) if it.send.len() > SAID_MAX.into());
    if !all().any(|check| service.health.asks_vip(check)) {
        let help = "`[[service.check]]`, of a kind with ports and without an `address`";
        problems.error_help(value.span(), "nothing is asked at the VIP without a check", help);
    } else if let Some(mode) = checked().find_map(|backend| passes_here(backend.mode)) {
        let message = format!(
            "`target = \"vip\"` is for modes `dr` and `tunnel`: in mode `{mode}` a backend does not know the VIP"
        );
        problems.error(value.span(), message);
    } else if let Some(backend) = checked().find(|backend| backend.address.is_ipv4() != is_v4) {
        let message = format!(
            "`target = \"vip\"` needs the VIP and its backends of one family; {} is of the other",
            backend.address
        );
        problems.error(value.span(), message);
    } else if all().any(|check| said(&check.probe)) {
        let message = format!("with `target = \"vip\"` a datagram has at most {SAID_MAX} bytes");
        problems.error_help(value.span(), message, "a shorter `send`");
    }
}

/// Passive checks that would see nothing.
pub(super) fn refuse_blind(problems: &mut Problems, written: &schema::Service, service: &Service) {
    let value = written.health.passive_fall.as_ref();
    let Some(value) = value.filter(|_| service.health.passive_fall > 0) else { return };
    let checked = service.backends.iter().filter(|backend| !backend.sorry);
    if let Some(mode) = checked.into_iter().find_map(|backend| answers_elsewhere(backend.mode)) {
        let message = format!(
            "`passive_fall` cannot be had in mode `{mode}`: the backend's answers do not pass here, so \
             nobody sees whether there are any"
        );
        problems.error_help(value.span(), message, "`[[service.check]]` asks the backend");
    } else if service.one_packet {
        let message =
            "`passive_fall` cannot be had with `one_packet`: a datagram is not waited for";
        problems.error_help(value.span(), message, "`[[service.check]]` asks the backend");
    }
}

/// What cannot be as it is meant.
pub(super) fn refuse_idle(problems: &mut Problems, written: &schema::Service, service: &Service) {
    let all: u64 =
        service.backends.iter().filter(|it| !it.sorry).map(|it| u64::from(it.weight)).sum();
    let Policy { quorum, hysteresis, .. } = service.health;
    if let Some(value) = written.health.quorum.as_ref().filter(|_| u64::from(quorum) > all) {
        let message = format!("quorum {quorum} is more than all weights together: {all} will do");
        problems.warn(value.span(), message);
    } else if let Some(value) = written.health.quorum_hysteresis.as_ref()
        && u64::from(quorum) + u64::from(hysteresis) > all
    {
        let message = format!(
            "quorum {quorum} and its hysteresis {hysteresis} are more than all weights together, {all}: \
             a quorum that was lost never comes back"
        );
        problems.warn(value.span(), message);
    }
    for backend in &written.backend {
        let is_sorry = backend.sorry.as_ref().is_some_and(|sorry| *sorry.get_ref());
        if is_sorry && let Some(check) = backend.check.first() {
            let message = "a sorry backend is not checked";
            problems.error_help(check.kind.span(), message, "leave the check out, or `sorry`");
        }
    }
}
