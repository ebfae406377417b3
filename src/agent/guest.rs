//! Whether this machine has time and memory for guests: the kernel's own measure of stalls.

use std::path::Path;

/// Part of the last ten seconds in which some task waited for memory, in per cent: pages are reclaimed
/// under everybody's feet. systemd-oomd kills at 60 over 30 s.
const MEMORY: f64 = 10.0;

/// The same in which every task waited for a disk.
const IO: f64 = 40.0;

/// Whether what no pod waits for should wait. A kernel that does not measure says no.
pub fn is_pressed() -> bool {
    let read = |what: &str| std::fs::read_to_string(Path::new("/proc/pressure").join(what));
    let memory = read("memory").ok().and_then(|text| average(&text, "some"));
    let io = read("io").ok().and_then(|text| average(&text, "full"));
    memory.is_some_and(|part| part > MEMORY) || io.is_some_and(|part| part > IO)
}

/// `avg10` of the line that begins with `kind` (Documentation/accounting/psi.rst).
fn average(text: &str, kind: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(kind))?;
    let word = line
        .split_whitespace()
        .find_map(|word| word.strip_prefix("avg10="))?;
    word.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stalls_of_the_last_ten_seconds_are_read() {
        let text = "some avg10=12.50 avg60=1.00 avg300=0.00 total=99\n\
                    full avg10=0.25 avg60=0.00 avg300=0.00 total=9\n";
        assert_eq!(average(text, "some"), Some(12.5));
        assert_eq!(average(text, "full"), Some(0.25));
        assert_eq!(average("", "full"), None);
    }
}
