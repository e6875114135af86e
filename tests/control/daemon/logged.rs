//! How much of what is asked for a service is logged.

use std::io;

use super::*;

/// Everything that is logged, by whichever thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn count(&self, words: &str) -> usize {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap().matches(words).count()
    }
}

#[test]
fn a_program_that_weighs_a_backend_all_the_time_has_ten_lines_in_ten_seconds() {
    let _turn = turn();
    let log = Log::default();
    let writer = log.clone();
    let lines = tracing_subscriber::fmt().with_writer(move || writer.clone());
    lines.with_ansi(false).init();
    let daemon =
        Running::start_with("2 10.0.0.100\n10.0.0.2:80\n10.0.0.3:80\n", OneService::default());
    daemon.ready();
    let begun = Instant::now();
    for weight in 1..=37 {
        let (outcome, text) = daemon.shunt(&format!("weight web 10.0.0.3 {weight}"));
        assert_eq!(outcome, Ok(true), "{text}");
    }
    let windows = begun.elapsed().as_secs() / 10 + 1;
    let said = log.count("by hand service=\"web\"");
    assert!(
        said >= 10 && said <= 10 * usize::try_from(windows).unwrap(),
        "{said} in {windows} windows"
    );
    signal("TERM");
    daemon.end().unwrap();
}
