//! Huge pages for a while: reserved where too few are free, mounted where no file system has them, given back when
//! dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::cleanup::{huge_page_mounts, unique_name};
use crate::command;

const RESERVED: &str = "/proc/sys/vm/nr_hugepages";

/// Free huge pages of 2 MiB, with a file system. Holding it does not keep others from taking them.
#[derive(Debug)]
pub struct HugePages {
    raised: u64,
    mounted: Option<PathBuf>,
}

impl HugePages {
    /// Sees to it that so many megabytes are free.
    pub fn borrow(mb: u64) -> Result<Self> {
        let mut borrowed = Self { raised: 0, mounted: None };
        let missing = mb.div_ceil(2).saturating_sub(free()?);
        if missing > 0 {
            let before = reserved()?;
            fs::write(RESERVED, (before + missing).to_string())?;
            borrowed.raised = reserved()?.saturating_sub(before);
            ensure!(borrowed.raised == missing, "the kernel has no {mb} MB of huge pages left");
        }
        if huge_page_mounts().is_empty() {
            let folder = std::env::temp_dir().join(unique_name());
            fs::create_dir(&folder)?;
            borrowed.mounted = Some(folder.clone());
            command::run(Command::new("mount").args(["-t", "hugetlbfs", "nodev"]).arg(&folder))?;
        }
        Ok(borrowed)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        if let Some(folder) = &self.mounted {
            unmount(folder);
            let _gone_already = fs::remove_dir(folder);
        }
        if let (1.., Ok(now)) = (self.raised, reserved()) {
            let _kept = fs::write(RESERVED, now.saturating_sub(self.raised).to_string());
        }
    }
}

/// Unmounts what is mounted there, in use or not.
pub(crate) fn unmount(folder: &Path) {
    let _not_mounted = command::output(Command::new("umount").arg("--lazy").arg(folder));
}

fn reserved() -> Result<u64> {
    Ok(fs::read_to_string(RESERVED)?.trim().parse()?)
}

/// Those nobody has and nobody was promised.
fn free() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let number = |name: &str| -> Result<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        Ok(line.with_context(|| format!("no {name} in /proc/meminfo"))?.trim().parse()?)
    };
    Ok(number("HugePages_Free:")?.saturating_sub(number("HugePages_Rsvd:")?))
}
