//! The daemon within the fence of its systemd unit: the same capabilities, no new privileges, the same folders to write in.
//!
//! ```text
//! unit:  CapabilityBoundingSet=…   NoNewPrivileges=   ProtectSystem=full   ReadWritePaths=-/etc/shunt
//!              │                        │                     │                     │
//! here:  setpriv --bounding-set    --no-new-privs   FOLDER/etc, read-only   FOLDER/etc/shunt, writable
//! ```
//!
//! There is no systemd where tests run: `setpriv` and `mount` raise the fence, of the words of the unit itself.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use lab::wait;

use super::{Bench, Daemon, sh};

const UNIT: &str = "dpdk-config/systemd/shuntd.service";
/// Nobody, on Debian: and what a file may belong to that is not root's.
const NOBODY: u32 = 65534;
const PATIENCE: Duration = Duration::from_secs(10);

/// All that the unit says of a key, in one line.
fn said(key: &str) -> String {
    let unit = fs::read_to_string(UNIT).unwrap();
    let lines = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    lines.collect::<Vec<_>>().join(" ")
}

/// `CAP_KILL CAP_CHOWN` as `setpriv` has it: `-all,+kill,+chown`.
fn bounding_set() -> String {
    let name =
        |word: &str| word.strip_prefix("CAP_").map(|name| format!(",+{}", name.to_lowercase()));
    format!(
        "-all{}",
        said("CapabilityBoundingSet").split_whitespace().filter_map(name).collect::<String>()
    )
}

/// The folders of `/etc` that the unit leaves writable, without the `/etc`.
fn writable() -> Vec<PathBuf> {
    let paths = said("ReadWritePaths");
    let paths = paths.split_whitespace().map(|path| path.trim_start_matches('-'));
    paths.filter_map(|path| Path::new(path).strip_prefix("/etc").ok().map(Path::to_owned)).collect()
}

/// A service whose one backend is asked by programs: one that says who it is, one that does not end.
fn service(folder: &Path) -> String {
    let check = |name: &str, tells: &str, then: &str| {
        let note = folder.join("notes").join(name);
        let script = format!("{tells} > {0}.new && mv {0}.new {0} && {then}", note.display());
        format!(
            "[[service.check]]\nkind = \"script\"\ntimeout_ms = 1000\ncommand = [\"/usr/bin/setpriv\", \
             \"--reuid={NOBODY}\", \"--regid={NOBODY}\", \"--clear-groups\", \"/bin/sh\", \"-c\", \
             \"{script}\"]\n"
        )
    };
    format!(
        "[[service]]\nname = \"web\"\nprotocol = \"tcp\"\naddress = \"198.51.100.10:80\"\n\
         local_addresses = [\"192.0.2.2\"]\n[[service.backend]]\naddress = \"192.0.2.11:80\"\n{}{}",
        check("user", "id -u", "true"),
        check("endless", "echo $$", "exec sleep 600"),
    )
}

impl Bench {
    /// Starts the daemon within the fence, with its configuration at `etc/shunt/shunt.toml` of the bench's folder.
    fn fenced(&self, config: &str) -> Daemon {
        let etc = self.folder.path().join("etc");
        let file = etc.join("shunt/shunt.toml");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, config).unwrap();
        chown(&file, Some(NOBODY), Some(NOBODY)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let bind = |path: &Path| format!("mount --bind {0} {0}\n", path.display());
        let inner: String = writable().iter().map(|path| bind(&etc.join(path))).collect();
        let script = format!(
            "set -e\n{}{inner}mount -o remount,bind,ro {}\nexec setpriv --no-new-privs \
             --bounding-set={} --inh-caps=-all {} run --config {}",
            bind(&etc),
            etc.display(),
            bounding_set(),
            env!("CARGO_BIN_EXE_shuntd"),
            file.display(),
        );
        // A namespace of mounts of its own comes with the one of the network.
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, "sh", "-c", &script]);
        Daemon::of(command.stderr(Stdio::piped()).spawn().unwrap())
    }

    fn note(&self, name: &str) -> String {
        let path = self.folder.path().join("notes").join(name);
        wait::until(name, PATIENCE, || Ok(fs::read_to_string(&path).ok()))
            .unwrap()
            .trim()
            .to_owned()
    }

    fn shunt(&self, line: &str) -> String {
        sh(&format!("{} --socket {} {line}", env!("CARGO_BIN_EXE_shunt"), self.socket().display()))
    }
}

#[test]
fn within_the_unit_edits_are_saved_and_scripts_run_as_another_user_and_are_killed() {
    let bench = Bench::new();
    let notes = bench.folder.path().join("notes");
    fs::create_dir(&notes).unwrap();
    for open in [bench.folder.path(), &notes] {
        fs::set_permissions(open, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let config = bench.config() + &service(bench.folder.path());
    let mut daemon = bench.fenced(&config);
    daemon.until("ready");

    assert_eq!(bench.note("user"), NOBODY.to_string());
    let endless = Path::new("/proc").join(bench.note("endless"));
    let gone = "the end of a script whose time is over";
    wait::until_true(gone, PATIENCE, || Ok(!endless.exists())).unwrap();

    bench.shunt("ipvsadm -e -t 198.51.100.10:80 -r 192.0.2.11:80 -m -w 7");
    bench.shunt("save");
    let file = bench.folder.path().join("etc/shunt/shunt.toml");
    assert!(fs::read_to_string(&file).unwrap().contains("weight = 7"));
    let facts = fs::metadata(&file).unwrap();
    assert_eq!((facts.uid(), facts.gid(), facts.mode() & 0o7777), (NOBODY, NOBODY, 0o640));

    daemon.signal("TERM");
    assert_eq!(daemon.end().code(), Some(0), "{}", daemon.said);
}

#[test]
fn the_units_folder_to_write_in_is_that_of_the_file_it_names() {
    let start = said("ExecStart");
    let file = start.split_whitespace().last().unwrap();
    let folder = Path::new(file).parent().unwrap().strip_prefix("/etc").unwrap();
    assert_eq!(said("ProtectSystem"), "full", "/etc is read-only");
    assert!(writable().iter().any(|path| path == folder), "{file} can be written beside");
}

/// Where systemd is installed, it reads the unit without a remark.
#[test]
fn systemd_understands_every_line_of_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    let judged = |name: &str, unit: String| {
        let file = folder.path().join(name);
        fs::write(&file, unit).unwrap();
        let mut verify = Command::new("systemd-analyze");
        verify.args(["verify", "--man=no", "--recursive-errors=no"]).arg(file);
        let output = verify.output().ok()?;
        Some((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    // It looks whether there are such programs.
    let unit = fs::read_to_string(UNIT).unwrap();
    let unit = unit.replace("/usr/sbin/shuntd", env!("CARGO_BIN_EXE_shuntd"));
    let Some(good) = judged("shuntd.service", unit.clone()) else { return };
    assert_eq!(good, (true, String::new()));
    let (is_good, said) = judged("odd.service", unit.replace("PrivateTmp", "PrivateTemp")).unwrap();
    assert!(!is_good && said.contains("PrivateTemp"), "a wrong line is seen: {said}");
}
