//! Properties of the data path's parts, against models that cannot be wrong in the same way.

mod local_ports;
mod table;
