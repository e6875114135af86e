//! x
/// x
#[derive(Debug)]
pub struct Claims;
