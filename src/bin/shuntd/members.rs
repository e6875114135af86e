//! Lists of clients in DPDK's tables: one lookup for all lists.

use std::net::IpAddr;
use std::sync::Arc;

use shunt::control::lists::MakeMembers;
use shunt::dataplane::access::{ListSet, Membership, Network};
use shunt::dpdk::eal::Eal;
use shunt::dpdk::fib::{Fib4, Fib6, FibError};

/// A table of each family, where there are networks of it.
#[derive(Debug)]
struct Tables {
    v4: Option<Fib4>,
    v6: Option<Fib6>,
}

impl Membership for Tables {
    fn lists_of(&self, address: IpAddr) -> ListSet {
        let lists = match address {
            IpAddr::V4(address) => self.v4.as_ref().map(|table| table.lookup(address)),
            IpAddr::V6(address) => self.v6.as_ref().map(|table| table.lookup(address)),
        };
        ListSet(lists.unwrap_or_default())
    }
}

/// Makes them in DPDK's memory.
pub(crate) fn maker(eal: &Eal) -> MakeMembers {
    let eal = eal.clone();
    Arc::new(move |networks: &[Network]| match tables(&eal, networks) {
        Ok(tables) => Ok(Arc::new(tables)),
        Err(error) => Err(error.to_string()),
    })
}

fn tables(eal: &Eal, networks: &[Network]) -> Result<Tables, FibError> {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for network in networks {
        match network.base {
            IpAddr::V4(base) => v4.push((base, network.length, network.lists.0)),
            IpAddr::V6(base) => v6.push((base, network.length, network.lists.0)),
        }
    }
    Ok(Tables {
        v4: (!v4.is_empty()).then(|| Fib4::new(eal, &v4)).transpose()?,
        v6: (!v6.is_empty()).then(|| Fib6::new(eal, &v6)).transpose()?,
    })
}
