//! The real binary: exit codes, output, errors.

use std::io::Read;
use std::process::{Command, Output, Stdio};

fn forelay(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forelay"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = forelay(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn without_arguments_help_is_shown_and_the_code_is_that_of_wrong_usage() {
    let (code, out, err) = run(&[]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("Usage: forelay"), "{err}");
}

#[test]
fn wrong_arguments_exit_with_2_and_say_what_is_right() {
    for (arguments, word) in [
        (&["no-such-command"][..], "no-such-command"),
        (&["completions", "tcsh"][..], "bash"),
        (&["generate", "nonsense"][..], "signal-schema"),
    ] {
        let (code, out, err) = run(arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}");
        assert!(err.contains(word), "{err}");
    }
}

#[test]
fn every_shell_gets_a_script_that_knows_the_commands() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let (code, out, err) = run(&["completions", shell]);
        assert_eq!((code, err.as_str()), (0, ""), "{shell}");
        assert!(out.contains("crds") && out.contains("log-level"), "{shell}");
    }
}

#[test]
fn manual_pages_are_written_for_every_command_that_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("man");
    assert_eq!(run(&["man", "--into", into.to_str().unwrap()]).0, 0);
    let page = |name: &str| std::fs::read_to_string(into.join(name)).unwrap();
    assert!(page("forelay.1").contains("forelay\\-crds(1)"));
    assert!(page("forelay-completions.1").contains(".TH forelay-completions 1"));
}

#[test]
fn a_reader_that_stops_reading_is_no_failure() {
    let mut child = forelay(&["crds"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut err = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .unwrap();
    assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""));
}

#[test]
fn what_generate_prints_is_what_it_writes() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(
        run(&["generate", "--into", folder.path().to_str().unwrap()]).0,
        0
    );
    let written = std::fs::read_to_string(folder.path().join("docs/configuration.md")).unwrap();
    assert_eq!(run(&["generate", "configuration"]).1, written);
}
