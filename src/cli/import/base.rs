//! What goes around the imported services: CPUs and ports, which no file of LVS's knows.
//!
//! Either another `shunt.toml` has them (`--ports`), then all of it but its services is taken as it
//! is, comments and all; or a frame with a gap to fill is written. The frame is good TOML with a
//! device no machine has: `shuntd check` judges the services at once, and `shuntd run` refuses to start
//! before the gap is filled.

use std::path::Path;

use super::ImportError;
use crate::control::config::{Machine, parse_for};

/// What stands in for the ports.
const FRAME: &str = "\
[shunt]
# FILL IN: CPUs for the workers, one each.
workers = [1]

# FILL IN: the network cards, and the box's own addresses on them (docs/configuration.md, \"[[port]]\").
# The device below does not exist: shuntd refuses to start with it.
[[port]]
name = \"wan\"
device = \"0000:00:00.0\"
addresses = []
";

/// The part of a configuration that is not its services.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Base {
    /// Its text, ending in a newline.
    pub(super) text: String,
    /// Does it have `[timeouts]`, so that there cannot be another?
    pub(super) has_timeouts: bool,
}

impl Base {
    /// The frame with the gap.
    pub(super) fn frame() -> Self {
        Self { text: FRAME.to_owned(), has_timeouts: false }
    }

    /// All of a configuration but its services. It must be a good one.
    pub(super) fn of(path: &Path) -> Result<Self, ImportError> {
        let text = super::input::read(path, 64 << 20)?;
        let refuse = |said: String| ImportError::Base(said);
        let machine = Machine::here().elsewhere();
        parse_for(&text, path, &machine).map_err(|errors| refuse(errors.to_string()))?;
        let mut whole: toml::Table =
            toml::from_str(&text).map_err(|error| refuse(error.to_string()))?;
        whole.remove("service");
        let cut = without_services(&text);
        // A line of a text over several lines may look like a table's name: then the comments go.
        let text = match toml::from_str::<toml::Table>(&cut) {
            Ok(table) if table == whole => cut,
            _ => toml::to_string(&whole).map_err(|error| refuse(error.to_string()))?,
        };
        Ok(Self { text, has_timeouts: whole.contains_key("timeouts") })
    }
}

/// The lines that belong to no `[[service]]`, and no comment in front of one.
fn without_services(text: &str) -> String {
    let (mut kept, mut waiting, mut skips) = (String::new(), String::new(), false);
    for line in text.lines() {
        let bare = line.trim();
        if let Some(header) = header(bare) {
            skips = header == "service" || header.starts_with("service.");
            if !skips {
                kept += &waiting;
            }
            waiting.clear();
        }
        if bare.is_empty() || bare.starts_with('#') {
            waiting += line;
            waiting += "\n";
        } else if !skips {
            kept += &std::mem::take(&mut waiting);
            kept += line;
            kept += "\n";
        }
    }
    kept
}

/// The name of the table that a line begins.
fn header(line: &str) -> Option<&str> {
    let inside = line.strip_prefix("[[").or_else(|| line.strip_prefix('['))?;
    Some(inside.split_once(']')?.0.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_go_with_their_comments_and_all_else_stays() {
        let text = "# mine\n[shunt]\nworkers = [1] # one\n\n# about a\n[[service]]\nname = \"a\"\n\
                    # in a\n[[service.backend]]\naddress = \"x\"\n\n# the wan\n[[port]]\nname = \"b\"\n\
                    # end\n";
        let kept = "# mine\n[shunt]\nworkers = [1] # one\n\n# the wan\n[[port]]\nname = \"b\"\n";
        assert_eq!(without_services(text), kept);
    }

    #[test]
    fn a_file_that_cannot_be_cut_by_lines_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shunt.toml");
        let good = "service = [] # inline\n[shunt]\nworkers = [0]\n[timeouts]\nudp_s = 5\n\
                    [[port]]\nname = \"wan\"\ndevice = \"net_null0\"\n";
        std::fs::write(&path, good).unwrap();
        let base = Base::of(&path).unwrap();
        assert!(base.has_timeouts && !base.text.contains("service"), "{base:?}");
        assert!(base.text.contains("net_null0"));
        std::fs::write(&path, "[shunt]\nworkers = [0]\n").unwrap();
        assert!(matches!(Base::of(&path), Err(ImportError::Base(_))));
    }

    #[test]
    fn the_frame_is_a_good_configuration_with_a_warning_of_the_gap() {
        let machine = Machine::with_cpus(2);
        let reading = parse_for(FRAME, Path::new("frame"), &machine).unwrap();
        let [warning] = &*reading.warnings else { panic!("{:?}", reading.warnings) };
        assert!(warning.contains("port `wan` has no address"), "{warning}");
    }
}
