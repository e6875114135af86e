//! `shunt.toml`, from text to a [`plan::Plan`].

pub mod plan;
