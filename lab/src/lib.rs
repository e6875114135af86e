//! Hosts in network namespaces with real programs in them.
